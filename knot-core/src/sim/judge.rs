//! The judge: a plain model of what must be true, apart from automerge and from knot's own merging.
//!
//! It watches the disks. When a change first becomes durable, the edit that made it has *seen* what
//! the same disk held of the document. From that alone follows which writes were knowingly
//! overwritten, and so what every replica must show once all are equal.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Failure;
use crate::{
    doc::{View, wall},
    id::{ChangeHash, DocId, ServerId},
    schema::{Rule, Scalar, Schema},
    store::{Grave, Record, Transaction},
    sync::{Heads, Message},
};

/// The number of something that was asked of a server.
pub(super) type Number = usize;

/// An edit that was asked for.
#[derive(Debug, Default)]
struct Asked {
    doc: Option<DocId>,
    /// Keys and values; once it is durable, only those that were a change.
    puts: BTreeMap<String, Scalar>,
    /// As far as the server showed, it put only what was there.
    idle: bool,
    /// The edits of the document that the server held when it made this one, once it is durable.
    seen: Option<BTreeSet<Number>>,
    acknowledged: bool,
    /// The only disks that held it are gone: nobody can be asked to have it.
    excused: bool,
    /// The servers that ever had it on disk.
    reached: BTreeSet<usize>,
}

/// What one disk holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    edits: BTreeMap<DocId, BTreeSet<Number>>,
    hashes: BTreeMap<DocId, BTreeSet<ChangeHash>>,
    graves: BTreeSet<DocId>,
    records: BTreeMap<(DocId, ServerId), Option<Bytes>>,
}

#[derive(Debug)]
pub(super) struct Judge {
    schema: Schema,
    asked: BTreeMap<Number, Asked>,
    by_time: BTreeMap<(DocId, i64), Number>,
    holdings: Vec<Holdings>,
    deletes: BTreeSet<DocId>,
    /// Every record that was ever durable anywhere.
    recorded: BTreeMap<(DocId, ServerId, u64, u64), BTreeSet<Option<Bytes>>>,
    /// What each server's record about a subject may be in the end.
    observed: BTreeMap<(DocId, ServerId), BTreeSet<Option<Bytes>>>,
    /// Servers that ever had the grave of a document on disk.
    buried: BTreeMap<DocId, BTreeSet<usize>>,
    /// On how many servers an edit is waited to be.
    waited: BTreeMap<Number, (DocId, usize)>,
    /// Documents with changes that no server of the world made.
    foreign: BTreeSet<DocId>,
}

/// What is read of a document.
type Shown<'a> = &'a BTreeMap<DocId, (Vec<ChangeHash>, View)>;

impl Judge {
    pub(super) fn new(schema: Schema, servers: usize) -> Self {
        Self {
            schema,
            asked: BTreeMap::new(),
            by_time: BTreeMap::new(),
            holdings: vec![Holdings::default(); servers],
            deletes: BTreeSet::new(),
            recorded: BTreeMap::new(),
            observed: BTreeMap::new(),
            buried: BTreeMap::new(),
            waited: BTreeMap::new(),
            foreign: BTreeSet::new(),
        }
    }

    /// Takes a time that no other edit of the document has: it stands in the change, and tells the
    /// edits apart.
    pub(super) fn asked(&mut self, number: Number, doc: DocId, mut time: i64) -> i64 {
        while self.by_time.contains_key(&(doc, time)) {
            time += 1;
        }
        self.by_time.insert((doc, time), number);
        time
    }

    /// A server is about to make an edit.
    pub(super) fn made(
        &mut self,
        number: Number,
        doc: DocId,
        puts: BTreeMap<String, Scalar>,
        idle: bool,
    ) {
        self.asked.insert(number, Asked { doc: Some(doc), puts, idle, ..Asked::default() });
    }

    pub(super) fn acknowledged(&mut self, number: Number) -> Result<(), Failure> {
        let Some(asked) = self.asked.get_mut(&number) else { return Ok(()) };
        asked.acknowledged = true;
        let dead = |doc| self.holdings.iter().any(|one| one.graves.contains(&doc));
        if asked.seen.is_none() && !asked.idle && !asked.doc.is_some_and(dead) {
            return Err(Failure::new(format!("edit {number} was acknowledged and is on no disk")));
        }
        Ok(())
    }

    /// A server waits until so many servers hold an edit, or know the document to be dead.
    pub(super) fn waits_for(&mut self, number: Number, doc: DocId, servers: usize) {
        self.waited.insert(number, (doc, servers));
    }

    /// A server was told that as many servers as it asked for hold an edit: then it was, at some
    /// time, on as many disks, so the loss of all but one of them does not lose it.
    pub(super) fn said_durable(&self, number: Number) -> Result<(), Failure> {
        let Some((doc, servers)) = self.waited.get(&number) else { return Ok(()) };
        let asked = self.asked.get(&number);
        // An edit that changed nothing is there wherever what it found is.
        if asked.is_some_and(|asked| asked.seen.is_none() && asked.idle) {
            return Ok(());
        }
        let mut disks = asked.map(|asked| asked.reached.clone()).unwrap_or_default();
        disks.extend(self.buried.get(doc).into_iter().flatten());
        if disks.len() >= *servers {
            return Ok(());
        }
        let what = format!("edit {number} was said to be on {servers} servers, it is on {disks:?}");
        Err(Failure::new(what))
    }

    pub(super) fn deleted(&mut self, doc: DocId) {
        self.deletes.insert(doc);
    }

    /// A server acknowledged an observation.
    pub(super) fn observed(&mut self, subject: DocId, by: ServerId, value: Option<Bytes>) {
        self.observed.insert((subject, by), [value].into());
    }

    /// A server failed to observe, or never answered: the observation may be there or not.
    pub(super) fn perhaps_observed(&mut self, subject: DocId, by: ServerId, value: Option<Bytes>) {
        self.observed.entry((subject, by)).or_insert_with(|| [None].into()).insert(value);
    }

    /// What a transaction wrote is durable at a server.
    pub(super) fn durable(&mut self, at: usize, transaction: &Transaction) -> Result<(), Failure> {
        for (doc, change) in &transaction.changes {
            self.change_durable(at, *doc, &change.bytes)?;
        }
        let Some(holdings) = self.holdings.get_mut(at) else { return Ok(()) };
        for (Grave { doc, .. }, _) in &transaction.graves {
            holdings.graves.insert(*doc);
            self.buried.entry(*doc).or_default().insert(at);
            holdings.edits.remove(doc);
            holdings.hashes.remove(doc);
        }
        for record in &transaction.records {
            let Record { subject, server, run, n, value } = record;
            holdings.records.insert((*subject, *server), value.clone());
            let known = self.recorded.entry((*subject, *server, *run, *n)).or_default();
            known.insert(value.clone());
        }
        Ok(())
    }

    fn change_durable(&mut self, at: usize, doc: DocId, bytes: &Bytes) -> Result<(), Failure> {
        let checked = wall::inspect(bytes)
            .map_err(|error| Failure::new(format!("{doc}: a bad change was stored: {error}")))?;
        let Some(holdings) = self.holdings.get_mut(at) else { return Ok(()) };
        holdings.hashes.entry(doc).or_default().insert(checked.hash);
        let held = holdings.edits.entry(doc).or_default();
        let number = self.by_time.get(&(doc, checked.time().0)).copied();
        let made = number
            .filter(|number| self.asked.get(number).is_some_and(|asked| asked.doc == Some(doc)));
        let Some(number) = made else {
            self.foreign.insert(doc);
            return Ok(());
        };
        let first = self.asked.get(&number).is_some_and(|asked| asked.seen.is_none());
        if first {
            let seen = held.clone();
            let puts = self.asked.get(&number).map(|asked| asked.puts.clone()).unwrap_or_default();
            let puts = puts
                .into_iter()
                .filter(|(key, value)| match self.maximal(&seen, key).as_slice() {
                    [] => *value != Scalar::Null,
                    [(_, only)] => only != value,
                    _ => true,
                })
                .collect();
            if let Some(asked) = self.asked.get_mut(&number) {
                asked.puts = puts;
                asked.seen = Some(seen);
            }
        }
        if let Some(asked) = self.asked.get_mut(&number) {
            asked.reached.insert(at);
        }
        let holdings = self.holdings.get_mut(at);
        if let Some(held) = holdings.and_then(|holdings| holdings.edits.get_mut(&doc)) {
            held.insert(number);
        }
        Ok(())
    }

    /// The writes of a key that no other held write has seen.
    fn maximal(&self, held: &BTreeSet<Number>, key: &str) -> Vec<(Number, Scalar)> {
        let writes: Vec<_> = held
            .iter()
            .filter_map(|number| Some((*number, self.asked.get(number)?)))
            .filter(|(_, asked)| asked.puts.contains_key(key))
            .collect();
        let seen_by = |number: &Number, other: &Asked| {
            other.seen.as_ref().is_some_and(|seen| seen.contains(number))
        };
        writes
            .iter()
            .filter(|(number, _)| !writes.iter().any(|(_, other)| seen_by(number, other)))
            .filter_map(|(number, asked)| Some((*number, asked.puts.get(key)?.clone())))
            .collect()
    }

    /// What leaves a server must be on its disk.
    pub(super) fn sent(&self, at: usize, message: &Message) -> Result<(), Failure> {
        let Some(holdings) = self.holdings.get(at) else { return Ok(()) };
        let early = |what: String| Err(Failure::new(format!("sent before it was durable: {what}")));
        match message {
            Message::News(news) => {
                for one in &news.changes {
                    let held = holdings.hashes.get(&one.doc);
                    for bytes in &one.changes {
                        let content = bytes.get(8..).unwrap_or_default();
                        let hash = ChangeHash(Sha256::digest(content).into());
                        if !held.is_some_and(|held| held.contains(&hash)) {
                            return early(format!("change {hash:?} of {}", one.doc));
                        }
                    }
                }
                for grave in &news.graves {
                    if !holdings.graves.contains(&grave.doc) {
                        return early(format!("the grave of {}", grave.doc));
                    }
                }
                for record in &news.records {
                    let number = (record.subject, record.server, record.run, record.n);
                    let known = self.recorded.get(&number);
                    if !known.is_some_and(|known| known.contains(&record.value)) {
                        return early(format!("{record:?}"));
                    }
                }
                Ok(())
            }
            Message::Pull { wants, .. } | Message::Graft(wants) => {
                let held = |hash| holdings.hashes.values().any(|hashes| hashes.contains(hash));
                match wants.iter().flat_map(|want| &want.have).find(|hash| !held(hash)) {
                    Some(hash) => early(format!("the hash {hash:?} of a change")),
                    None => Ok(()),
                }
            }
            Message::Held(edits) => {
                let held = |edit: &&Heads| {
                    let hashes = holdings.hashes.get(&edit.doc);
                    let holds = |hash| hashes.is_some_and(|hashes| hashes.contains(hash));
                    holdings.graves.contains(&edit.doc) || edit.heads.iter().all(holds)
                };
                match edits.iter().find(|edit| !held(edit)) {
                    Some(edit) => early(format!("that {edit:?} is held")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    pub(super) fn holdings(&self, at: usize) -> Option<&Holdings> {
        self.holdings.get(at)
    }

    /// A server's disk is not what it was. What no disk holds any more is nobody's fault, and what
    /// the server observes is what it remembers of it, or hears from others that it said.
    pub(super) fn replaced(&mut self, at: usize, me: ServerId, with: Holdings) {
        for ((subject, server), values) in &mut self.observed {
            if *server == me {
                values.insert(with.records.get(&(*subject, me)).cloned().flatten());
                // Another server may have heard no later word of it than any that it ever said.
                let said =
                    self.recorded.range((*subject, me, 0, 0)..=(*subject, me, u64::MAX, u64::MAX));
                values.extend(said.flat_map(|(_, said)| said.iter().cloned()));
            }
        }
        if let Some(holdings) = self.holdings.get_mut(at) {
            *holdings = with;
        }
        let holdings = &self.holdings;
        for (number, asked) in &mut self.asked {
            let Some(doc) = asked.doc else { continue };
            let held =
                |one: &Holdings| one.edits.get(&doc).is_some_and(|held| held.contains(number));
            asked.excused |= asked.seen.is_some() && !holdings.iter().any(held);
        }
        self.deletes.retain(|doc| holdings.iter().any(|one| one.graves.contains(doc)));
    }

    /// Whether the equal state that all replicas have come to is a right one.
    pub(super) fn verdict(
        &self,
        documents: Shown<'_>,
        graves: &BTreeSet<DocId>,
        records: &BTreeMap<(DocId, ServerId), Record>,
    ) -> Result<(), Failure> {
        if let Some(doc) = self.deletes.iter().find(|doc| !graves.contains(doc)) {
            return Err(Failure::new(format!("{doc} was deleted and is not dead")));
        }
        if let Some(doc) = documents.keys().find(|doc| graves.contains(doc)) {
            return Err(Failure::new(format!("{doc} is dead and is shown")));
        }
        self.judge_edits(graves)?;
        for (doc, (_, view)) in documents.iter().filter(|(doc, _)| !self.foreign.contains(doc)) {
            self.judge_view(*doc, view)
                .map_err(|what| Failure::new(format!("{doc}: {what}; shown is {view:?}")))?;
        }
        for (key, allowed) in &self.observed {
            let value = records.get(key).and_then(|record| record.value.clone());
            if !allowed.contains(&value) {
                let what = format!("{key:?}: {value:?} is shown, one of {allowed:?} was observed");
                return Err(Failure::new(what));
            }
        }
        Ok(())
    }

    /// No acknowledged edit of a living document is lost, and all disks hold the same.
    fn judge_edits(&self, graves: &BTreeSet<DocId>) -> Result<(), Failure> {
        for (number, asked) in &self.asked {
            let Some(doc) = asked.doc.filter(|doc| !graves.contains(doc)) else { continue };
            let holds =
                |one: &Holdings| one.edits.get(&doc).is_some_and(|held| held.contains(number));
            let count = self.holdings.iter().filter(|one| holds(one)).count();
            let must = asked.acknowledged && asked.seen.is_some() && !asked.excused;
            if count != self.holdings.len() && (must || count > 0) {
                let what = format!(
                    "edit {number} of {doc} ({:?}) is on {count} disks of {}",
                    asked.puts,
                    self.holdings.len(),
                );
                return Err(Failure::new(what));
            }
        }
        Ok(())
    }

    fn judge_view(&self, doc: DocId, view: &View) -> Result<(), String> {
        let empty = BTreeSet::new();
        let held = self.holdings.first().and_then(|one| one.edits.get(&doc)).unwrap_or(&empty);
        let keys: BTreeSet<&String> = held
            .iter()
            .filter_map(|number| self.asked.get(number))
            .flat_map(|asked| asked.puts.keys())
            .collect();
        if let Some(key) = view.fields.keys().find(|key| !keys.contains(key)) {
            return Err(format!("nobody wrote {key}"));
        }
        for key in keys {
            let values: BTreeSet<Scalar> =
                self.maximal(held, key).into_iter().map(|(_, value)| value).collect();
            let shown = view.fields.get(key).unwrap_or(&Scalar::Null);
            let conflict: Option<BTreeSet<Scalar>> = view
                .conflicts
                .get(key)
                .map(|conflict| conflict.iter().map(|contender| contender.value.clone()).collect());
            let sound = match self.schema.rule(doc.kind, key) {
                Rule::Register => {
                    values.contains(shown) && conflict == (values.len() > 1).then(|| values.clone())
                }
                Rule::RemovalWins => {
                    let removed = values.contains(&Scalar::Null);
                    conflict.is_none()
                        && values.contains(shown)
                        && removed == (*shown == Scalar::Null)
                }
                Rule::LargestWins => conflict.is_none() && values.last() == Some(shown),
            };
            if !sound {
                return Err(format!("{key} was last written as {values:?}"));
            }
        }
        Ok(())
    }
}
