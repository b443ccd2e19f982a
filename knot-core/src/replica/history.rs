//! What a document was: who changed what and when, and going back to it.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::oneshot;

use super::{CommitError, Committed, EditError, Replica, core::Input};
use crate::{
    clock::Millis,
    doc::{
        View,
        history::{History, UnknownHeads},
    },
    id::{Author, ChangeHash, DocId, Id},
    replica::index::Entry,
    schema::{Entity, Field, Fields, Scalar},
    store::Error as StoreError,
};

/// A document's history could not be told. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// There is no such document, or nothing is left of it.
    #[error("nothing of {0} is held on this server")]
    Unknown(DocId),
    /// Its state was asked for by changes that are not held.
    #[error(transparent)]
    UnknownHeads(#[from] UnknownHeads),
    /// It could not be read.
    #[error("its history could not be read")]
    Store(#[source] Arc<StoreError>),
    /// The replica has been stopped.
    #[error("this server is stopping")]
    Stopped,
}

impl Replica {
    /// All that is held of a document's history, in memory: page through it, or ask for any state.
    /// A dead document has one for as long as something is left of it.
    ///
    /// # Errors
    /// There is none, or it could not be read.
    pub async fn history(&self, doc: impl Into<DocId>) -> Result<History, HistoryError> {
        let doc = doc.into();
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |stored| drop(reply.send(stored)));
        self.send(Input::Load { doc, reply }).await.map_err(|_| HistoryError::Stopped)?;
        let stored = answer.await.map_err(|_| HistoryError::Stopped)?;
        let stored = stored.map_err(|error| HistoryError::Store(Arc::new(error)))?;
        let read = tokio::task::spawn_blocking(move || History::read(&stored));
        let history = read.await.map_err(|_| HistoryError::Stopped)?;
        if history.is_empty() { Err(HistoryError::Unknown(doc)) } else { Ok(history) }
    }

    /// What a document was when its heads were these.
    ///
    /// # Errors
    /// Some of them are not held, or the history could not be read.
    pub async fn at<E: Entity>(&self, id: Id<E>, heads: &[ChangeHash]) -> Result<E, HistoryError> {
        Ok(E::read(&self.view_at(id.into(), heads).await?.fields))
    }

    /// What was read of a document of any kind when its heads were these.
    ///
    /// # Errors
    /// As [`Replica::at`].
    pub async fn view_at(&self, doc: DocId, heads: &[ChangeHash]) -> Result<View, HistoryError> {
        let history = self.history(doc).await?;
        let (heads, schema) = (heads.to_vec(), Arc::clone(&self.schema));
        let read = tokio::task::spawn_blocking(move || history.at(&heads, doc.kind, &schema));
        Ok(read.await.map_err(|_| HistoryError::Stopped)??)
    }

    /// The change that what is read of a field comes from; `None` where nobody has ever set it. A
    /// server that holds more than another never names one that the other would call overwritten.
    ///
    /// # Errors
    /// As [`Replica::history`].
    pub async fn last_writer<E: Entity, T>(
        &self,
        id: Id<E>,
        field: Field<E, T>,
    ) -> Result<Option<ChangeHash>, HistoryError> {
        Ok(self.history(id).await?.last_writer(field.key()))
    }

    /// Writes a change that makes a document what it was when its heads were these. Fields that this
    /// version does not know are restored too. What is the same already stays as it is.
    ///
    /// # Errors
    /// The heads are not held here, or as [`Replica::edit`].
    pub async fn revert<E: Entity>(
        &self,
        id: Id<E>,
        heads: &[ChangeHash],
        author: Author,
    ) -> Result<Committed<E>, EditError> {
        let heads = self.revert_document(id.into(), heads, author).await?;
        Ok(Committed { id, heads })
    }

    /// As [`Replica::revert`], for a document of any kind, known here or not. Returns its heads.
    ///
    /// # Errors
    /// As [`Replica::revert`].
    pub async fn revert_document(
        &self,
        doc: DocId,
        heads: &[ChangeHash],
        author: Author,
    ) -> Result<Vec<ChangeHash>, EditError> {
        let then = self.view_at(doc, heads).await.map_err(|error| match error {
            HistoryError::Unknown(doc) => EditError::Unknown(doc),
            HistoryError::Stopped => EditError::Commit(CommitError::Stopped),
            HistoryError::Store(error) => EditError::Commit(CommitError::Store(error)),
            error => EditError::Refused(error.to_string()),
        })?;
        let edit = Box::new(move |now: Option<&Entry>| {
            let now = now.map(|entry| &entry.view.fields);
            Ok(difference(now.unwrap_or(&Fields::new()), &then.fields))
        });
        let time = Millis::now();
        self.ask(|reply| Input::Edit { doc, must_exist: true, author, time, edit, reply }).await
    }
}

/// What to put so that `now` becomes `then`.
fn difference(now: &Fields, then: &Fields) -> BTreeMap<String, Scalar> {
    let gone = now.keys().filter(|key| !then.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Scalar::Null));
    let changed = then.iter().filter(|(key, value)| now.get(*key) != Some(*value));
    gone.chain(changed.map(|(key, value)| (key.clone(), value.clone()))).collect()
}
