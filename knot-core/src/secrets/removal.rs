//! Giving a server up: what follows for keys and sessions, and what its operator should look at.

use super::{Keyring, SessionKeys};
use crate::{
    clock::Millis,
    id::{Author, DocId, Id, ServerId},
    model::Server,
    replica::EditError,
};

/// What a removal has done, and what is left for people to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The values that the removed server could open: documents and fields, for their owners to
    /// change. Nothing that is sealed from now on is among them.
    pub exposed: Vec<(DocId, String)>,
    /// How many session keys were retired.
    pub sessions_retired: usize,
}

/// Removes a server: buries its document, and makes a data key that it does not get; an invitation
/// that nobody has used is only taken back. Where the server was stolen, retires all session keys too, since it could sign itself a session with any of them.
///
/// # Errors
/// What could not be written. The server is removed first: with an error, it may be removed and the
/// rest left undone; asking again does the rest.
pub async fn remove_server(
    sessions: &SessionKeys,
    server: Id<Server>,
    stolen: bool,
    author: Author,
) -> Result<Removal, EditError> {
    let keyring: &Keyring = sessions.keyring();
    let openable = keyring.openable_by(server);
    let replica = keyring.replica();
    let document = replica.get(server).or_else(|| replica.remains(server));
    let invitation = document.is_some_and(|server| server.key.is_none());
    if stolen && replica.get(server).is_some() {
        let mark = replica.edit(server, author, |server| {
            server.set(Server::stolen, true);
            Ok(())
        });
        mark.await?;
    }
    replica.delete(server, author).await?;
    if invitation {
        return Ok(Removal::default());
    }
    keyring.add_key(author).await?;
    let sessions_retired = if stolen { sessions.replace_all(author).await? } else { 0 };
    Ok(Removal { exposed: keyring.sealed_with(&openable), sessions_retired })
}

/// Of changes to documents, each with its author and time, those that a server made on its own
/// account, the newest first: what to look through when it was stolen, and to revert where it is
/// wrong. Times are for people: of two equal ones, the order given is kept.
pub fn changes_by<T>(
    server: ServerId,
    changes: impl IntoIterator<Item = (DocId, Option<Author>, Millis, T)>,
) -> Vec<(DocId, Millis, T)> {
    let mut made: Vec<_> = changes
        .into_iter()
        .filter(|(_, author, ..)| *author == Some(Author::Server(server)))
        .map(|(doc, _, time, what)| (doc, time, what))
        .collect();
    made.sort_by_key(|(_, time, _)| std::cmp::Reverse(*time));
    made
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::id::Kind;

    #[test]
    fn the_changes_of_one_server_are_listed_newest_first() {
        let [stolen, other] = [1, 2].map(|n| ServerId(Uuid::from_u128(n)));
        let doc = |n| DocId { kind: Kind::new("thing"), uuid: Uuid::from_u128(n) };
        let changes = [
            (doc(1), Some(Author::Server(stolen)), Millis(5), "first"),
            (doc(1), Some(Author::Server(other)), Millis(6), "another server's"),
            (doc(2), Some(Author::User(stolen.0)), Millis(7), "a user's"),
            (doc(2), None, Millis(8), "nobody's"),
            (doc(3), Some(Author::Server(stolen)), Millis(9), "last"),
        ];
        let listed = changes_by(stolen, changes);
        assert_eq!(listed, [(doc(3), Millis(9), "last"), (doc(1), Millis(5), "first")]);
    }
}
