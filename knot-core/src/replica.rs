//! The local database of one server: typed reads, edits, records and watches, kept equal with the
//! replicas it is linked to.
//!
//! Reads come from memory and show what is committed. An edit returns when it is durable here; it
//! never waits for another server. What peers send arrives the same way: stored first, then shown.

mod changes;
mod core;
mod durable;
mod history;
mod import;
mod index;
mod made;
mod observed;
mod recent;
mod service;
mod token;
mod undelete;
mod wait;
mod watch;

#[cfg(feature = "sim")]
use std::collections::{BTreeMap, BTreeSet};
use std::{
    fmt,
    ops::{Deref, RangeInclusive},
    sync::Arc,
};

pub use changes::{Changes, Event};
pub use durable::DurableError;
pub use history::HistoryError;
pub use import::{ImportError, Imported};
pub use made::{Made, MadeOne, What};
pub use service::{Driver, Link, Outbox, Service};
pub use token::{MAX_DOCUMENTS, Token, Unreadable};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
pub use undelete::UndeleteError;
pub use wait::Behind;
pub use watch::{Changed, Watch};

#[cfg(feature = "sim")]
pub(crate) use self::core::{Core, EditFn, Effects, Input as CoreInput, Shown};
#[cfg(not(feature = "sim"))]
use self::core::{EditFn, Shown};
use self::{core::Input, index::Entry};
#[cfg(feature = "sim")]
use crate::store::Record;
use crate::{
    clock::Millis,
    doc::{self, Conflict},
    id::{Author, ChangeHash, DocId, Id, Kind, ServerId},
    schema::{Edit, Entity, Fields, Schema},
    store::{Error as StoreError, Grave},
    sync::Fingerprint,
};

/// How many inputs may wait for the replica before callers do.
const QUEUE: usize = 1_024;

/// A commit failed. Nothing of it is acknowledged, shown or sent.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The store failed.
    #[error("not written")]
    Store(#[source] Arc<StoreError>),
    /// The replica has been stopped.
    #[error("not written: this server is stopping")]
    Stopped,
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// An edit was not made. The document is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is no such document.
    #[error("{0} does not exist on this server")]
    Unknown(DocId),
    /// The document was deleted, and deleting is final.
    #[error("{0} was deleted")]
    Dead(DocId),
    /// The closure that makes the edit refused, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The edit does not fit, or automerge failed on it.
    #[error(transparent)]
    Edit(#[from] doc::EditError),
    /// It could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// A document as it was read, and the id and heads that it was read with.
#[derive(Debug)]
pub struct Doc<E> {
    id: Id<E>,
    value: Arc<E>,
    entry: Entry,
}

impl<E: Entity> Doc<E> {
    fn new(id: Id<E>, entry: Entry) -> Option<Self> {
        let value = entry.read()?;
        Some(Self { id, value, entry })
    }

    /// Its id.
    pub fn id(&self) -> Id<E> {
        self.id
    }

    /// The heads of its held changes.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.entry.heads
    }

    /// The fields that have several concurrent values, the one that is read first.
    pub fn conflicts(&self) -> impl Iterator<Item = (&str, &Conflict)> {
        self.entry.view.conflicts.iter().map(|(key, conflict)| (key.as_str(), conflict))
    }

    /// Whether changes are held that this version could not apply.
    pub fn is_behind(&self) -> bool {
        self.entry.view.unapplied > 0
    }
}

impl<E> Clone for Doc<E> {
    fn clone(&self) -> Self {
        Self { id: self.id, value: Arc::clone(&self.value), entry: self.entry.clone() }
    }
}

impl<E> Deref for Doc<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.value
    }
}

/// An edit that is durable on this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<E> {
    /// The document.
    pub id: Id<E>,
    /// Its heads with the edit in them; [`ChangeHash::DEAD`] alone where it was deleted.
    pub heads: Vec<ChangeHash>,
}

impl<E: Entity> Committed<E> {
    /// A token for this edit.
    pub fn token(&self) -> Token {
        let mut token = Token::new();
        token.add(self.id.into(), &self.heads);
        token
    }
}

/// A handle to the replica; clones share it.
#[derive(Clone)]
pub struct Replica {
    me: ServerId,
    run: u64,
    schema: Arc<Schema>,
    /// When the replica's own time began.
    began: Instant,
    shown: Arc<Shown>,
    inputs: mpsc::Sender<service::Command>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("me", &self.me).finish_non_exhaustive()
    }
}

#[cfg(feature = "sim")]
impl Replica {
    /// A handle to read a simulated core with; what is asked of it answers that it has stopped.
    pub(crate) fn reader(me: ServerId, run: u64, schema: Schema, shown: Arc<Shown>) -> Self {
        let (inputs, _) = mpsc::channel(1);
        Self { me, run, schema: schema.into(), began: Instant::now(), shown, inputs }
    }

    /// The heads of every document, the graves and the records: what is held.
    pub(crate) fn held(&self) -> Held {
        self.shown.read(|index| {
            let documents = index.documents.iter();
            (
                documents.map(|(doc, entry)| (*doc, Arc::clone(&entry.heads))).collect(),
                index.graves.keys().copied().collect(),
                index.records.clone(),
            )
        })
    }

    /// The heads of a document that lives.
    pub(crate) fn heads(&self, doc: DocId) -> Option<Arc<[ChangeHash]>> {
        self.shown.read(|index| Some(Arc::clone(&index.documents.get(&doc)?.heads)))
    }

    /// The records about a subject.
    pub(crate) fn records(&self, subject: DocId) -> Vec<Record> {
        let ends = [uuid::Uuid::nil(), uuid::Uuid::max()].map(|end| (subject, ServerId(end)));
        let [first, last] = ends;
        self.shown.read(|index| {
            index.records.range(first..=last).map(|(_, record)| record.clone()).collect()
        })
    }

    /// How every document is read.
    pub(crate) fn views(&self) -> BTreeMap<DocId, Arc<doc::View>> {
        self.shown.read(|index| {
            index.documents.iter().map(|(doc, entry)| (*doc, Arc::clone(&entry.view))).collect()
        })
    }
}

/// What a replica holds: documents with their heads, graves, and records.
#[cfg(feature = "sim")]
pub(crate) type Held =
    (BTreeMap<DocId, Arc<[ChangeHash]>>, BTreeSet<DocId>, BTreeMap<(DocId, ServerId), Record>);

impl Replica {
    /// The server that this replica belongs to.
    pub fn me(&self) -> ServerId {
        self.me
    }

    /// The number of this run of the server: raised each time its store is opened.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// The fingerprint of everything held here: that of another replica is equal if it holds the same.
    pub fn root(&self) -> Fingerprint {
        self.shown.root()
    }

    /// A document, if it lives and is held here.
    pub fn get<E: Entity>(&self, id: Id<E>) -> Option<Doc<E>> {
        let entry = self.shown.read(|index| index.documents.get(&id.into()).cloned())?;
        Doc::new(id, entry)
    }

    /// What a deleted document was when it died; for 30 days after this server has heard of its
    /// grave.
    pub fn remains<E: Entity>(&self, id: Id<E>) -> Option<Doc<E>> {
        let entry = self.shown.read(|index| Some(index.remains.get(&id.into())?.0.clone()))?;
        Doc::new(id, entry)
    }

    /// What all deleted documents of a type were when they died, by id; see [`Replica::remains`].
    pub fn all_remains<E: Entity>(&self) -> Vec<Doc<E>> {
        self.shown.read(|index| {
            let remains = index.remains.range(ids::<E>());
            remains.filter_map(|(id, (entry, _))| doc((id, entry))).collect()
        })
    }

    /// All living documents of a type, by id.
    pub fn list<E: Entity>(&self) -> Vec<Doc<E>> {
        self.shown.read(|index| index.documents.range(ids::<E>()).filter_map(doc).collect())
    }

    /// Reads the fields of every living document, of unknown kinds too. Writers wait meanwhile: no
    /// more than a look at each.
    pub(crate) fn each_document(&self, mut look: impl FnMut(DocId, &Fields)) {
        self.shown.read(|index| {
            index.documents.iter().for_each(|(doc, entry)| look(*doc, &entry.view.fields));
        });
    }

    /// The grave of a document that was deleted.
    pub fn grave<E: Entity>(&self, id: Id<E>) -> Option<Grave> {
        self.shown.read(|index| index.graves.get(&id.into()).copied())
    }

    /// All graves of a kind.
    pub fn graves(&self, kind: Kind) -> Vec<Grave> {
        self.shown.read(|index| {
            index.graves.values().filter(|grave| grave.doc.kind == kind).copied().collect()
        })
    }

    /// Creates a document under a new id.
    ///
    /// # Errors
    /// As [`Replica::edit`].
    pub async fn create<E, F>(&self, author: Author, edit: F) -> Result<Committed<E>, EditError>
    where
        E: Entity + Default,
        F: FnOnce(&mut Edit<'_, E>) -> Result<(), EditError> + Send + 'static,
    {
        self.write(Id::from_uuid(uuid::Uuid::now_v7()), false, author, edit).await
    }

    /// Creates or edits the document of an id that stands for a natural key.
    ///
    /// # Errors
    /// As [`Replica::edit`].
    pub async fn put<E, F>(
        &self,
        id: Id<E>,
        author: Author,
        edit: F,
    ) -> Result<Committed<E>, EditError>
    where
        E: Entity + Default,
        F: FnOnce(&mut Edit<'_, E>) -> Result<(), EditError> + Send + 'static,
    {
        self.write(id, false, author, edit).await
    }

    /// Edits a document, and returns once the edit is durable here.
    ///
    /// # Errors
    /// The document is unknown or dead, the closure refused, or the edit could not be made or
    /// committed. The document is then as it was.
    pub async fn edit<E, F>(
        &self,
        id: Id<E>,
        author: Author,
        edit: F,
    ) -> Result<Committed<E>, EditError>
    where
        E: Entity + Default,
        F: FnOnce(&mut Edit<'_, E>) -> Result<(), EditError> + Send + 'static,
    {
        self.write(id, true, author, edit).await
    }

    async fn write<E, F>(
        &self,
        id: Id<E>,
        must_exist: bool,
        author: Author,
        edit: F,
    ) -> Result<Committed<E>, EditError>
    where
        E: Entity + Default,
        F: FnOnce(&mut Edit<'_, E>) -> Result<(), EditError> + Send + 'static,
    {
        let edit = edit_fn(edit);
        let heads = self
            .ask(|reply| Input::Edit {
                doc: id.into(),
                must_exist,
                author,
                time: Millis::now(),
                edit,
                reply,
            })
            .await?;
        Ok(Committed { id, heads })
    }

    /// Deletes a document, for good, and returns once its grave is durable here. One that is dead
    /// already is no error.
    ///
    /// # Errors
    /// The document is unknown, or the grave could not be committed.
    pub async fn delete<E: Entity>(
        &self,
        id: Id<E>,
        author: Author,
    ) -> Result<Committed<E>, EditError> {
        let delete = |reply| Input::Delete { doc: id.into(), author, time: Millis::now(), reply };
        self.ask(delete).await?;
        Ok(Committed { id, heads: vec![ChangeHash::DEAD] })
    }

    /// A stream that says *which* documents of these kinds change from now on, and of which
    /// something is observed; of all kinds where none is named. [`Replica::watch_all`] is typed.
    pub fn watch(&self, kinds: &[Kind]) -> Watch {
        self.shown.watch(kinds)
    }

    pub(crate) async fn ask(
        &self,
        input: impl FnOnce(core::Reply) -> Input,
    ) -> Result<Vec<ChangeHash>, EditError> {
        let (reply, answer) = oneshot::channel();
        self.send(input(Box::new(move |outcome| drop(reply.send(outcome))))).await?;
        answer.await.map_err(|_| CommitError::Stopped)?
    }

    async fn send(&self, input: Input) -> Result<(), EditError> {
        let command = service::Command::Input(input);
        self.inputs.send(command).await.map_err(|_| CommitError::Stopped.into())
    }
}

/// A typed edit as the core takes it.
pub(crate) fn edit_fn<E, F>(edit: F) -> EditFn
where
    E: Entity + Default,
    F: FnOnce(&mut Edit<'_, E>) -> Result<(), EditError> + Send + 'static,
{
    Box::new(move |entry: Option<&Entry>| {
        let current = entry.and_then(Entry::read::<E>);
        let current = current.unwrap_or_default();
        let mut puts = Edit::new(&*current, entry.map(|entry| &*entry.view));
        edit(&mut puts)?;
        Ok(puts.into_puts())
    })
}

/// The ids of all documents of a type.
fn ids<E: Entity>() -> RangeInclusive<DocId> {
    let id = |uuid| DocId { kind: E::KIND, uuid };
    id(uuid::Uuid::nil())..=id(uuid::Uuid::max())
}

fn doc<E: Entity>((doc, entry): (&DocId, &Entry)) -> Option<Doc<E>> {
    Doc::new(Id::from_uuid(doc.uuid), entry.clone())
}
