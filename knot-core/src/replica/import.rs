//! Bringing in what another database of the cluster holds: one that was set aside, of a server that
//! was removed, or an old copy.

use tokio::sync::{mpsc, oneshot};

use super::{EditError, Replica, core::Input};
use crate::{
    doc::{Layering, Stored},
    id::{ChangeHash, DocId},
    store::{Contents, Error as StoreError, Store},
    sync::{Answer, DocChanges},
};

/// How many documents are read ahead of those that are brought in.
const AHEAD: usize = 16;

/// What an import brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Documents in the other database.
    pub documents: usize,
    /// Those of which changes came that were not held here.
    pub changed: usize,
    /// Deletions that were not known here.
    pub deleted: usize,
    /// Documents whose changes were damaged in part.
    pub damaged: usize,
}

/// An import ended early. What had been brought in stays; it can be done again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The other database could not be read.
    #[error("the database to import cannot be read")]
    Read(#[from] StoreError),
    /// What it holds could not be written here.
    #[error(transparent)]
    Write(#[from] EditError),
}

/// One thing that the other database holds.
enum Found {
    Document { doc: DocId, answer: Answer, damaged: bool },
    Others(Answer),
}

impl Replica {
    /// Brings in, by union, all that another database of the cluster holds: edits that only it has,
    /// and deletions. What was deleted in either stays deleted. It is read as a start reads it.
    ///
    /// # Errors
    /// The other database cannot be read, or this one not written.
    pub async fn import(&self, other: Box<dyn Store>) -> Result<Imported, ImportError> {
        let (found, mut next) = mpsc::channel(AHEAD);
        let reader = tokio::task::spawn_blocking(move || read(other, &found));
        let mut imported = Imported::default();
        while let Some(one) = next.recv().await {
            match one {
                Found::Others(answer) => {
                    let known = |doc| self.shown.read(|index| index.graves.contains_key(doc));
                    let new = answer.graves.iter().filter(|grave| !known(&grave.doc)).count();
                    self.bring(answer).await?;
                    imported.deleted += new;
                }
                Found::Document { doc, answer, damaged } => {
                    let before = self.heads_of(doc);
                    self.bring(answer).await?;
                    imported.documents += 1;
                    imported.damaged += usize::from(damaged);
                    imported.changed += usize::from(before != self.heads_of(doc));
                }
            }
        }
        match reader.await {
            Ok(read) => read?,
            Err(_) => return Err(EditError::Commit(super::CommitError::Stopped).into()),
        }
        Ok(imported)
    }

    fn heads_of(&self, doc: DocId) -> Option<Vec<ChangeHash>> {
        self.shown.read(|index| Some(index.documents.get(&doc)?.heads.to_vec()))
    }

    async fn bring(&self, answer: Answer) -> Result<(), EditError> {
        let (reply, answered) = oneshot::channel();
        let reply = Box::new(move |outcome| drop(reply.send(outcome)));
        self.send(Input::Import { answer, reply }).await?;
        answered.await.map_err(|_| super::CommitError::Stopped)?.map(drop)
    }
}

/// Reads a database, graves first. Ends early where nobody wants it any more.
fn read(mut store: Box<dyn Store>, found: &mpsc::Sender<Found>) -> Result<(), StoreError> {
    let Contents { documents, graves, records, .. } = store.open()?;
    let others = Answer { graves, records, ..Answer::default() };
    if found.blocking_send(Found::Others(others)).is_err() {
        return Ok(());
    }
    for document in documents {
        let doc = document.doc;
        let stored = store.load(doc, true)?;
        let (changes, damaged) = changes(&stored);
        let answer = Answer { changes: vec![DocChanges { doc, changes }], ..Answer::default() };
        if found.blocking_send(Found::Document { doc, answer, damaged }).is_err() {
            break;
        }
    }
    Ok(())
}

fn changes(stored: &Stored) -> (Vec<bytes::Bytes>, bool) {
    let (document, damaged) = crate::doc::Document::load(stored, Layering::default());
    (document.changes_since(&[]).unwrap_or_default(), damaged)
}
