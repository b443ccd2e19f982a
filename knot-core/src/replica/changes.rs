//! Typed streams of what changes, for one watcher each.
//!
//! Built on [`Watch`], which says *that* a document changed: the stream reads what is there when the
//! watcher comes to it, and remembers the heads that it told last, so that nothing is told twice.

use std::{collections::BTreeMap, fmt, sync::Arc};

use uuid::Uuid;

use super::{Changed, Doc, Replica, Watch, doc, ids};
use crate::{
    id::{ChangeHash, DocId, Id},
    schema::Entity,
    store::Grave,
};

/// What a watcher is told of one document.
#[derive(Clone, Debug)]
pub enum Event<E> {
    /// It lives and is as it reads here: it is new, has changed, or matches the query now.
    Changed(Doc<E>),
    /// It lives, and does not match the query any more.
    Left(Doc<E>),
    /// It was deleted, for good.
    Deleted(Grave),
}

impl<E: Entity> Event<E> {
    /// The document that it is about.
    pub fn id(&self) -> Id<E> {
        match self {
            Self::Changed(doc) | Self::Left(doc) => doc.id(),
            Self::Deleted(grave) => Id::from_uuid(grave.doc.uuid),
        }
    }
}

type Query<E> = Box<dyn Fn(&E) -> bool + Send>;

/// A stream of [`Event`]s about the documents of one type.
///
/// Each state of a document (its set of heads) is told at most once, and the last one always. What
/// came between two looks of a slow watcher is not told: a document that changes again before it was
/// taken is told once, as it then is. So a stream holds at most one waiting entry, and one set of
/// heads, for each document, however slow its watcher is.
pub struct Changes<E> {
    replica: Replica,
    watch: Watch,
    query: Option<Query<E>>,
    told: BTreeMap<Uuid, Told>,
    /// What is being looked at; kept so that a dropped future loses nothing.
    at: Option<Uuid>,
}

/// What the watcher knows of a document.
enum Told {
    Living(Arc<[ChangeHash]>),
    /// It was told so elsewhere, and it is not known here whether all of that is held.
    Elsewhere(Arc<[ChangeHash]>),
    Dead,
}

impl<E> fmt::Debug for Changes<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("known", &self.told.len()).finish_non_exhaustive()
    }
}

impl Replica {
    /// All living documents of a type, and a stream of what changes after that.
    pub fn watch_all<E: Entity>(&self) -> (Vec<Doc<E>>, Changes<E>) {
        self.list_and_follow(None)
    }

    /// The living documents of a type that match a query, and a stream of what changes after that.
    /// A document that comes to match is told as changed, one that does no more as left; the
    /// deletion of one that does not match is not told.
    pub fn watch_query<E: Entity>(
        &self,
        query: impl Fn(&E) -> bool + Send + 'static,
    ) -> (Vec<Doc<E>>, Changes<E>) {
        self.list_and_follow(Some(Box::new(query)))
    }

    /// A stream for a watcher that knows these documents with these heads, perhaps from another
    /// replica. It begins with what differs here: changed and new documents, and those of the known
    /// that were deleted.
    ///
    /// Where a watcher has been told that a document is dead, its heads are [`ChangeHash::DEAD`]
    /// alone, as in the [`Committed`](super::Committed) of a deletion. Left out, it may be shown as
    /// living for as long as its grave has not come here.
    ///
    /// A document that the watcher knows in a state which is not yet held here is told once it is,
    /// so that the watcher never sees one go back; [`Changes::awaited`] lists them.
    pub fn watch_since<E: Entity>(
        &self,
        known: impl IntoIterator<Item = (Id<E>, Vec<ChangeHash>)>,
    ) -> Changes<E> {
        let mut changes = self.follow(None);
        for (id, mut heads) in known {
            heads.sort_unstable();
            changes.told.insert(id.uuid(), Told::Elsewhere(heads.into()));
        }
        for doc in self.list::<E>() {
            let uuid = doc.id().uuid();
            match changes.told.get(&uuid) {
                Some(Told::Elsewhere(heads)) if same(heads, doc.heads()) => {
                    changes.told.insert(uuid, Told::Living(doc.entry.heads));
                }
                _ => changes.watch.add(Changed::Document(doc.id().into())),
            }
        }
        for (uuid, told) in &changes.told {
            if matches!(told, Told::Elsewhere(_)) {
                changes.watch.add(Changed::Document(DocId { kind: E::KIND, uuid: *uuid }));
            }
        }
        changes
    }

    fn list_and_follow<E: Entity>(&self, query: Option<Query<E>>) -> (Vec<Doc<E>>, Changes<E>) {
        let mut changes = self.follow(query);
        let mut list: Vec<Doc<E>> =
            self.shown.read(|index| index.documents.range(ids::<E>()).filter_map(doc).collect());
        list.retain(|doc| changes.matches(doc));
        let told = list.iter().map(|doc| {
            let heads = Arc::clone(&doc.entry.heads);
            (doc.id().uuid(), Told::Living(heads))
        });
        changes.told.extend(told);
        (list, changes)
    }

    /// A stream that knows nothing. It is made before anything is read: what changes in between is
    /// then read, and passed over when its turn comes.
    fn follow<E: Entity>(&self, query: Option<Query<E>>) -> Changes<E> {
        let watch = self.shown.watch_documents(E::KIND);
        Changes { replica: self.clone(), watch, query, told: BTreeMap::new(), at: None }
    }
}

impl<E: Entity> Changes<E> {
    /// From now on, only what matches a query is told; what is known and does not match has left.
    #[must_use]
    pub fn matching(mut self, query: impl Fn(&E) -> bool + Send + 'static) -> Self {
        self.query = Some(Box::new(query));
        self
    }

    /// The next event; waits for it as long as it takes. Cancel-safe: a future that is dropped loses
    /// no event.
    pub async fn next(&mut self) -> Event<E> {
        loop {
            let uuid = match self.at {
                Some(uuid) => uuid,
                None => match self.watch.next().await {
                    Changed::Document(doc) => *self.at.insert(doc.uuid),
                    Changed::Record(_) => continue,
                },
            };
            let caught_up = self.catch_up(uuid).await;
            self.at = None;
            if caught_up && let Some(event) = self.look(uuid) {
                return event;
            }
        }
    }

    /// The documents that the watcher knows in a state that is not known to be held here, by id.
    /// While the stream has not been read to its end, some may be that are held.
    pub fn awaited(&self) -> impl Iterator<Item = Id<E>> {
        let elsewhere = self.told.iter().filter(|(_, told)| matches!(told, Told::Elsewhere(_)));
        elsewhere.map(|(uuid, _)| Id::from_uuid(*uuid))
    }

    /// Whether this replica holds what the watcher knows of a document.
    async fn catch_up(&mut self, uuid: Uuid) -> bool {
        let Some(Told::Elsewhere(heads)) = self.told.get(&uuid) else { return true };
        let heads = Arc::clone(heads);
        let doc = DocId { kind: E::KIND, uuid };
        let held = self.replica.holds(doc, &heads).await.unwrap_or(false);
        if held {
            let dead = *heads == [ChangeHash::DEAD];
            self.told.insert(uuid, if dead { Told::Dead } else { Told::Living(heads) });
        }
        held
    }

    /// What there is to tell of a document as it is now.
    fn look(&mut self, uuid: Uuid) -> Option<Event<E>> {
        let id = Id::<E>::from_uuid(uuid);
        let (entry, grave) = self.replica.shown.read(|index| {
            let doc = id.into();
            (index.documents.get(&doc).cloned(), index.graves.get(&doc).copied())
        });
        let told = self.told.get(&uuid);
        if let Some(grave) = grave {
            let tell = match told {
                Some(Told::Living(_) | Told::Elsewhere(_)) => true,
                Some(Told::Dead) => false,
                None => self.query.is_none(),
            };
            return tell.then(|| {
                self.told.insert(uuid, Told::Dead);
                Event::Deleted(grave)
            });
        }
        let entry = entry?;
        let known = match told {
            Some(Told::Living(heads)) if same(heads, &entry.heads) && self.query.is_none() => {
                return None;
            }
            Some(Told::Living(heads)) => Some(same(heads, &entry.heads)),
            _ => None,
        };
        let heads = Arc::clone(&entry.heads);
        let doc = Doc::new(id, entry)?;
        match (self.matches(&doc), known) {
            (true, Some(true)) => None,
            (true, _) => {
                self.told.insert(uuid, Told::Living(heads));
                Some(Event::Changed(doc))
            }
            (false, Some(_)) => {
                self.told.remove(&uuid);
                Some(Event::Left(doc))
            }
            (false, None) => None,
        }
    }

    fn matches(&self, value: &E) -> bool {
        self.query.as_ref().is_none_or(|query| query(value))
    }
}

/// Heads are kept in order.
fn same(one: &[ChangeHash], other: &[ChangeHash]) -> bool {
    one == other
}
