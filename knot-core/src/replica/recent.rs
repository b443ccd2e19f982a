//! What changed lately, so that the answer to a list can carry a token for it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{MAX_DOCUMENTS, Replica, Token};
use crate::{
    id::{ChangeHash, DocId, Id, Kind},
    schema::Entity,
};

/// The documents of each kind that changed last, and when; as many as a token has room for.
#[derive(Debug, Default)]
pub(super) struct Recent(BTreeMap<Kind, VecDeque<(Duration, DocId)>>);

impl Recent {
    /// A document has changed or died.
    pub(super) fn note(&mut self, now: Duration, doc: DocId) {
        let changed = self.0.entry(doc.kind).or_default();
        changed.retain(|(_, other)| *other != doc);
        changed.push_back((now, doc));
        let excess = changed.len().saturating_sub(MAX_DOCUMENTS);
        changed.drain(..excess);
    }

    /// What changed from a time on, the newest last.
    fn since(&self, kind: Kind, from: Duration) -> impl Iterator<Item = DocId> {
        let changed = self.0.get(&kind).into_iter().flatten();
        changed.filter(move |(at, _)| *at >= from).map(|(_, doc)| *doc)
    }
}

impl Replica {
    /// A token for what changed within the last `within` among the documents of a type, of those
    /// that `wanted` names, and for those that died. Taken after a list, it covers what the list
    /// shows: another server that is asked with it shows no older one. At most
    /// [`MAX_DOCUMENTS`], the newest.
    ///
    /// What this server committed last before it was started counts as changed when it started:
    /// when exactly that was is not known, and a token that asks for too much is only slower.
    pub fn recent<E: Entity>(&self, within: Duration, wanted: impl Fn(Id<E>) -> bool) -> Token {
        let from = self.began.elapsed().saturating_sub(within);
        let changed = self.shown.read(|index| {
            let changed = index.recent.since(E::KIND, from).filter_map(|doc| {
                if index.graves.contains_key(&doc) {
                    return Some((doc, vec![ChangeHash::DEAD]));
                }
                Some((doc, index.documents.get(&doc)?.heads.to_vec()))
            });
            changed.collect::<Vec<_>>()
        });
        let mut token = Token::new();
        for (doc, heads) in changed {
            if heads == [ChangeHash::DEAD] || wanted(Id::from_uuid(doc.uuid)) {
                token.add(doc, &heads);
            }
        }
        token
    }
}
