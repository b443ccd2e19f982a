//! What one server wrote on its own account, over all documents: what to look through when somebody
//! else has had it.

use super::{HistoryError, Replica};
use crate::{
    clock::Millis,
    doc::history::{Change, History},
    id::{Author, ChangeHash, DocId, ServerId},
    schema::Scalar,
    secrets::changes_by,
};

/// How many changes of a document are looked at in one go.
const PAGE: usize = 256;

/// What a server made: see [`Replica::made_by`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The newest of it, the newest first, by the clocks of the servers that took it.
    pub newest: Vec<MadeOne>,
    /// How much more there is.
    pub more: usize,
    /// Documents whose history could not be read.
    pub unread: Vec<DocId>,
}

/// One thing that a server made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeOne {
    /// The document.
    pub doc: DocId,
    /// What the document calls itself now, where it has a name.
    pub name: Option<String>,
    /// When, by the clock of that server.
    pub time: Millis,
    /// What was done.
    pub what: What,
}

/// What was done to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Fields were put.
    Changed {
        /// The change.
        hash: ChangeHash,
        /// Their keys; no values, since they may be secrets.
        fields: Vec<String>,
    },
    /// It was deleted.
    Deleted,
}

impl Replica {
    /// What a server made on its own account: its changes, in all documents of which something is
    /// left, and its deletions; at most `limit` of it, the newest. Documents are read one after the
    /// other, some milliseconds each where they have long histories, and one at a time is in memory.
    /// One that cannot be read is named, and does not keep the others from being read.
    ///
    /// # Errors
    /// The replica has been stopped.
    pub async fn made_by(&self, server: ServerId, limit: usize) -> Result<Made, HistoryError> {
        let (documents, deletions) = self.shown.read(|index| {
            let documents = index.documents.keys().chain(index.remains.keys());
            let documents: Vec<_> = documents.copied().collect();
            let deletions = index.graves.values();
            let deletions =
                deletions.map(|grave| (grave.doc, Some(grave.by), grave.at, What::Deleted));
            (documents, changes_by(server, deletions))
        });
        let mut kept = Newest { limit, made: deletions, more: 0 };
        kept.cut();
        let mut unread = Vec::new();
        for doc in documents {
            match self.history(doc).await {
                Ok(history) => {
                    let read = move || of_document(&history, doc, server, kept);
                    let read = tokio::task::spawn_blocking(read).await;
                    kept = read.map_err(|_| HistoryError::Stopped)?;
                }
                // It was purged meanwhile.
                Err(HistoryError::Unknown(_)) => {}
                Err(HistoryError::Stopped) => return Err(HistoryError::Stopped),
                Err(error) => {
                    tracing::warn!(%doc, %error, "a history cannot be read");
                    unread.push(doc);
                }
            }
        }
        let named = |(doc, time, what)| MadeOne { doc, name: self.name_of(doc), time, what };
        let newest = kept.made.into_iter().map(named).collect();
        Ok(Made { newest, more: kept.more, unread })
    }

    fn name_of(&self, doc: DocId) -> Option<String> {
        self.shown.read(|index| {
            let entry = index.documents.get(&doc);
            let entry = entry.or_else(|| index.remains.get(&doc).map(|(entry, _)| entry));
            match entry?.view.fields.get("name")? {
                Scalar::Text(name) if !name.is_empty() => Some(name.clone()),
                _ => None,
            }
        })
    }
}

/// The newest of what was found so far, and how much was left out.
struct Newest {
    limit: usize,
    made: Vec<(DocId, Millis, What)>,
    more: usize,
}

impl Newest {
    fn cut(&mut self) {
        self.more += self.made.len().saturating_sub(self.limit);
        self.made.truncate(self.limit);
    }

    fn add(&mut self, doc: DocId, server: ServerId, changes: Vec<Change>) {
        let by = Some(Author::Server(server));
        let new = changes.into_iter().filter(|change| change.author == by).map(|change| {
            let fields = change.fields.into_iter().map(|(key, _)| key).collect();
            (doc, by, change.time, What::Changed { hash: change.hash, fields })
        });
        let kept = std::mem::take(&mut self.made);
        let kept = kept.into_iter().map(|(doc, time, what)| (doc, by, time, what));
        self.made = changes_by(server, kept.chain(new));
        self.cut();
    }
}

fn of_document(history: &History, doc: DocId, server: ServerId, mut kept: Newest) -> Newest {
    let mut last = None;
    // Each page begins after a change of the page before, which is held.
    while let Ok(page) = history.page(last, PAGE)
        && let Some(end) = page.last()
    {
        last = Some(end.hash);
        kept.add(doc, server, page);
    }
    kept
}
