//! Names: what they look like, and what the things of a kind are called; see [`knot_core::names`].

use knot_core::{
    clock::Millis,
    id::Id,
    names::{Life, Named, Names, Unclear, check_name},
    replica::{Doc, Replica},
    schema::Entity,
};

use super::problem::{Code, Problem};

/// How long it is remembered that a dead thing had a name, in milliseconds: longer than any client
/// goes on trying a request again.
pub(super) const RECENTLY: i64 = 10 * 60 * 1_000;

/// How many lives of one name are looked through for one that is not over.
const LIVES: u32 = 10_000;

/// Refuses a name that breaks the rules.
pub(super) fn check(name: &str) -> Result<(), Problem> {
    check_name("name", name).map_err(|why| Problem::new(Code::InvalidName, why))
}

/// What the things of one kind are called: `living` are all that live, `of` says within which scope a
/// thing's name should be unique, and the name that is stored.
pub(crate) fn of<E: Entity, S: Ord + Clone>(
    replica: &Replica,
    living: &[Doc<E>],
    of: impl Fn(&E) -> (S, &str),
) -> Names<S> {
    let named = |doc: &Doc<E>, life| {
        let (scope, name) = of(doc);
        Named { id: doc.id().uuid(), scope, name: name.to_owned(), life }
    };
    let lately = Millis::now().0 - RECENTLY;
    let mut dead = replica.all_remains::<E>();
    dead.retain(|doc| replica.grave(doc.id()).is_some_and(|grave| grave.at.0 >= lately));
    let dead = dead.iter().map(|doc| named(doc, Life::Dead));
    Names::new(living.iter().map(|doc| named(doc, Life::Living)).chain(dead))
}

/// The id of a thing that has its id by its name, `id_of` one of its lives: of the one that lives, or of the
/// next.
pub(super) fn life<E: Entity>(replica: &Replica, id_of: impl Fn(u32) -> Id<E>) -> Id<E> {
    let over = |id: &Id<E>| replica.grave(*id).is_some();
    (0..LIVES).map(&id_of).find(|id| !over(id)).unwrap_or_else(|| id_of(0))
}

/// The problem of a name that does not say what is meant.
pub(super) fn unclear(what: &str, unclear: &Unclear) -> Problem {
    match unclear {
        Unclear::Nobody(name) => Problem::not_found(what, name),
        Unclear::Several { .. } => Problem::new(Code::AmbiguousName, unclear.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_rules() {
        for name in ["a", "web", "a-1", "a--b", &"a".repeat(63)] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "1a", "a-", "A", "a b", "a_b", "é", "a.b", &"a".repeat(64)] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
