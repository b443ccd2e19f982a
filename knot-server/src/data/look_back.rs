//! What a server wrote on its own account, and going back to what was before a change.

use std::collections::{BTreeMap, BTreeSet};

use knot_core::{
    doc::history::{Change as Written, History},
    id::{Author, ChangeHash, DocId, Id, ServerId},
    model::Server,
    replica::{HistoryError, MadeOne, Replica, What},
};

use super::{Change, Changes, Reverted};
use crate::causes::with_causes;

/// How many changes of a server are listed.
const LISTED: usize = 200;
/// How many fields of each.
const FIELDS: usize = 8;
/// How many characters of a name or a field.
const TEXT: usize = 60;
/// How many unreadable documents are named.
const UNREAD: usize = 100;
/// How many hex digits name a change at least.
const DIGITS: usize = 8;
/// How many changes are looked at in one go.
const PAGE: usize = 256;

/// What a server wrote on its own account, by its name or id; one that was removed too.
///
/// # Errors
/// No one server is called so, or the database is being closed.
pub(super) async fn changes(replica: &Replica, server: &str) -> Result<Changes, String> {
    let server = find(replica, server)?;
    let made = replica.made_by(server, LISTED).await.map_err(|error| with_causes(&error))?;
    let unread = made.unread.iter().take(UNREAD).map(DocId::to_string).collect();
    let newest = made.newest.into_iter().map(listed).collect();
    Ok(Changes { server, newest, more: made.more, unread })
}

/// Makes a document what it was before a change: what the change's author had seen.
///
/// # Errors
/// There is no such document or change, or it could not be written.
pub(super) async fn revert(
    replica: &Replica,
    doc: &str,
    before: &str,
    author: Author,
) -> Result<Reverted, String> {
    let doc: DocId = doc.parse().map_err(|error| with_causes(&error))?;
    let history = history(replica, doc).await?;
    let held = Held::read(&history);
    let change = held.find(doc, before)?;
    let parents = held.parents(change);
    let others = history.len().saturating_sub(held.up_to(&parents) + 1);
    let heads = replica.revert_document(doc, &parents, author).await;
    let heads = heads.map_err(|error| with_causes(&error))?;
    let change = change.to_string();
    if heads.iter().all(|head| held.0.contains_key(head)) {
        return Ok(Reverted { change, fields: Vec::new(), others: 0 });
    }
    tracing::info!(%doc, change, "a change was taken back");
    let newest = self::history(replica, doc).await?.page(None, PAGE).unwrap_or_default();
    let own = |one: &Written| heads.contains(&one.hash) && one.author == Some(author);
    let written = newest.into_iter().find(own);
    let fields = written.into_iter().flat_map(|written| written.fields);
    Ok(Reverted { change, fields: fields.map(|(field, _)| plain(&field)).collect(), others })
}

fn find(replica: &Replica, name: &str) -> Result<ServerId, String> {
    let (living, dead) = (replica.list::<Server>(), replica.all_remains::<Server>());
    let named = living.iter().chain(&dead);
    let named = named.filter(|server| server.name == name || server.id().to_string() == name);
    let ids: BTreeSet<_> = named.map(|server| server.id()).collect();
    let mut ids = ids.into_iter();
    match (ids.next(), ids.next(), name.parse::<Id<Server>>()) {
        (Some(id), None, _) => Ok(ServerId(id.uuid())),
        // Nothing is left of its document, and what it wrote stays.
        (None, _, Ok(id)) if replica.grave(id).is_some() => Ok(ServerId(id.uuid())),
        (Some(_), Some(_), _) => {
            Err(format!("more than one server is or was called `{name}`: give the id"))
        }
        _ => Err(format!("no server is or was called `{name}`, as far as this one has heard")),
    }
}

fn listed(made: MadeOne) -> Change {
    let (hash, fields) = match made.what {
        What::Changed { hash, fields } => (Some(hash.to_string()), fields),
        What::Deleted => (None, Vec::new()),
    };
    Change {
        time: made.time.to_string(),
        doc: made.doc.to_string(),
        name: made.name.as_deref().map(plain),
        hash,
        more_fields: fields.len().saturating_sub(FIELDS),
        fields: fields.iter().take(FIELDS).map(|field| plain(field)).collect(),
    }
}

/// A text that somebody else wrote, for a terminal.
fn plain(text: &str) -> String {
    text.chars().take(TEXT).collect::<String>().escape_debug().to_string()
}

async fn history(replica: &Replica, doc: DocId) -> Result<History, String> {
    replica.history(doc).await.map_err(|error: HistoryError| with_causes(&error))
}

/// The changes of a document that are held, with their parents.
struct Held(BTreeMap<ChangeHash, Vec<ChangeHash>>);

impl Held {
    fn read(history: &History) -> Self {
        let (mut held, mut last) = (BTreeMap::new(), None);
        // Each page begins after a change of the page before, which is held.
        while let Ok(page) = history.page(last, PAGE)
            && let Some(end) = page.last()
        {
            last = Some(end.hash);
            held.extend(page.into_iter().map(|Written { hash, parents, .. }| (hash, parents)));
        }
        Self(held)
    }

    /// The change that these first hex digits name.
    fn find(&self, doc: DocId, digits: &str) -> Result<ChangeHash, String> {
        let digits = digits.to_ascii_lowercase();
        if digits.len() < DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!(
                "`{digits}` names no change: give its first {DIGITS} or more hex digits"
            ));
        }
        let mut named = self.0.keys().filter(|hash| hash.to_string().starts_with(&digits));
        match (named.next(), named.next()) {
            (Some(hash), None) => Ok(*hash),
            (Some(_), Some(_)) => {
                Err(format!("more than one change of {doc} begins with {digits}: give more digits"))
            }
            (None, _) => Err(format!("this server holds no change {digits} of {doc}")),
        }
    }

    fn parents(&self, change: ChangeHash) -> Vec<ChangeHash> {
        self.0.get(&change).cloned().unwrap_or_default()
    }

    /// How many changes there are up to these heads.
    fn up_to(&self, heads: &[ChangeHash]) -> usize {
        let (mut seen, mut next) = (BTreeSet::new(), heads.to_vec());
        while let Some(hash) = next.pop() {
            if seen.insert(hash) {
                next.extend(self.parents(hash));
            }
        }
        seen.len()
    }
}
