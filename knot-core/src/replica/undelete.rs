//! Making anew what was deleted, from what is still readable of it.

use std::{collections::BTreeMap, mem};

use uuid::Uuid;

use super::{Committed, EditError, EditFn, Input, Replica};
use crate::{
    clock::Millis,
    doc::{MAX_EDIT, MAX_PUTS},
    id::{Author, ChangeHash, DocId, Id},
    schema::{Entity, Scalar},
};

/// Nothing was made anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UndeleteError {
    /// This server knows of no deletion.
    #[error("{0} was not deleted, as far as this server has heard")]
    NotDeleted(DocId),
    /// It was deleted, and its content is not kept any more.
    #[error("{0} was deleted, and nothing of it is readable on this server any more")]
    NothingLeft(DocId),
    /// The new document could not be written.
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl Replica {
    /// Makes a new document, under a new id, from what is still readable of a deleted one: its
    /// fields as they were read when it died. The old id stays dead, and its history is not taken
    /// over; the first change of the new one is the author's. Done twice, it makes two.
    ///
    /// # Errors
    /// The document was not deleted, nothing of it is left, or it could not be written: in that case
    /// what was written of it is deleted again.
    pub async fn undelete<E: Entity>(
        &self,
        id: Id<E>,
        author: Author,
    ) -> Result<Committed<E>, UndeleteError> {
        let (doc, heads) = self.undelete_document(id.into(), author).await?;
        Ok(Committed { id: Id::from_uuid(doc.uuid), heads })
    }

    /// As [`Replica::undelete`], for a document of any kind, known here or not. Returns the new
    /// document and its heads.
    ///
    /// # Errors
    /// As [`Replica::undelete`].
    pub async fn undelete_document(
        &self,
        doc: DocId,
        author: Author,
    ) -> Result<(DocId, Vec<ChangeHash>), UndeleteError> {
        let (dead, remains) = self.shown.read(|index| {
            let fields = index.remains.get(&doc).map(|(entry, _)| entry.view.fields.clone());
            (index.graves.contains_key(&doc), fields)
        });
        if !dead {
            return Err(UndeleteError::NotDeleted(doc));
        }
        let fields = remains.ok_or(UndeleteError::NothingLeft(doc))?;
        let new = DocId { kind: doc.kind, uuid: Uuid::now_v7() };
        let mut heads = Vec::new();
        for puts in cut(fields) {
            match self.put_fields(new, author, puts).await {
                Ok(written) => heads = written,
                Err(error) => {
                    let bury =
                        |reply| Input::Delete { doc: new, author, time: Millis::now(), reply };
                    // Where its first part was not written either, there is nothing to bury.
                    self.ask(bury).await.ok();
                    return Err(error.into());
                }
            }
        }
        if heads.is_empty() {
            return Err(UndeleteError::NothingLeft(doc));
        }
        Ok((new, heads))
    }

    async fn put_fields(
        &self,
        doc: DocId,
        author: Author,
        puts: BTreeMap<String, Scalar>,
    ) -> Result<Vec<ChangeHash>, EditError> {
        let edit: EditFn = Box::new(move |_| Ok(puts));
        let time = Millis::now();
        self.ask(|reply| Input::Edit { doc, must_exist: false, author, time, edit, reply }).await
    }
}

/// Fields in edits that each keep to the limits of one.
fn cut(fields: impl IntoIterator<Item = (String, Scalar)>) -> Vec<BTreeMap<String, Scalar>> {
    let (mut edits, mut edit, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
    for (key, value) in fields.into_iter().filter(|(_, value)| *value != Scalar::Null) {
        let size = key.len()
            + match &value {
                Scalar::Text(text) => text.len(),
                Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) => 8,
            };
        if !edit.is_empty() && (bytes + size > MAX_EDIT || edit.len() >= MAX_PUTS) {
            edits.push(mem::take(&mut edit));
            bytes = 0;
        }
        bytes += size;
        edit.insert(key, value);
    }
    edits.extend(Some(edit).filter(|edit| !edit.is_empty()));
    edits
}
