//! A watcher at each server, which reads again what it is told has changed, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    id::{ChangeHash, DocId, ServerId},
    replica::{Changed, Replica, Watch},
    sim::Failure,
    store::Record,
};

/// With so many documents at most, all are compared after each step, and else at rest only.
const FEW: usize = 64;
/// One step in so many finds the watcher asleep, so that it is told of several at once.
const ASLEEP: u64 = 3;

/// What a watcher knows: what there was when it began, and what it was told since.
#[derive(Debug)]
pub(super) struct Watcher {
    replica: Replica,
    watch: Watch,
    documents: BTreeMap<DocId, Arc<[ChangeHash]>>,
    records: BTreeMap<(DocId, ServerId), Record>,
    steps: u64,
}

impl Watcher {
    pub(super) fn new(replica: Replica) -> Self {
        let watch = replica.watch(&[]);
        let (documents, _, records) = replica.held();
        Self { replica, watch, documents, records, steps: 0 }
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// After a step: mostly it reads what it is told of, and must then know all that is there.
    pub(super) fn step(&mut self) -> Result<(), Failure> {
        self.steps += 1;
        if self.steps.is_multiple_of(ASLEEP) {
            return Ok(());
        }
        self.listen();
        if self.documents.len() <= FEW { self.compare() } else { Ok(()) }
    }

    /// At rest it must know all that is there.
    pub(super) fn rest(&mut self) -> Result<(), Failure> {
        self.listen();
        self.compare()
    }

    fn listen(&mut self) {
        while let Some(changed) = self.watch.try_next() {
            match changed {
                Changed::Document(doc) => match self.replica.heads(doc) {
                    Some(heads) => drop(self.documents.insert(doc, heads)),
                    None => drop(self.documents.remove(&doc)),
                },
                Changed::Record(subject) => {
                    self.records.retain(|(about, _), _| *about != subject);
                    let records = self.replica.records(subject).into_iter();
                    self.records
                        .extend(records.map(|record| ((record.subject, record.server), record)));
                }
            }
        }
    }

    fn compare(&self) -> Result<(), Failure> {
        let (documents, _, records) = self.replica.held();
        let unheard = documents.iter().find(|(doc, heads)| self.documents.get(doc) != Some(heads));
        let gone = self.documents.keys().find(|doc| !documents.contains_key(doc));
        if let Some(doc) = unheard.map(|(doc, _)| doc).or(gone) {
            return Err(Failure::new(format!("a watcher was not told that {doc} changed")));
        }
        if records != self.records {
            let known = &self.records;
            let what = format!("a watcher was not told of records: {known:?}, not {records:?}");
            return Err(Failure::new(what));
        }
        Ok(())
    }
}
