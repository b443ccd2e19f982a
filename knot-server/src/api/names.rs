//! Names: what they look like, and what is shown where two living things got the same one.
//!
//! Names are no identities. Two servers that were cut off from each other may each give a name; both
//! things live on. The older id keeps the name, the other shows and answers as the name and the last
//! hexadecimal digits of its id, as many as make it unique. That is derived when read, never stored.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::problem::{Code, Problem};

/// The longest name, in characters.
const LONGEST: usize = 63;
/// How many digits of the id a derived name has at least.
const DIGITS: usize = 4;

/// Refuses a name that breaks the rules.
pub(super) fn check(name: &str) -> Result<(), Problem> {
    if is_name(name) {
        return Ok(());
    }
    let name: String = name.chars().take(80).collect();
    Err(Problem::new(
        Code::InvalidName,
        format!(
            "`{name}` is no name here: 1 to {LONGEST} lower-case letters, digits and dashes, beginning with a \
             letter and not ending with a dash"
        ),
    ))
}

/// Whether a name keeps the rules.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(allowed)
}

/// What the living things of one scope (the spaces of one owner, all templates) are called.
#[derive(Debug, Default)]
pub(super) struct Names {
    shown: BTreeMap<Uuid, String>,
    /// Stored names that more than one has.
    shared: BTreeMap<String, Vec<Uuid>>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing.
    Nobody,
    /// This one.
    One(Uuid),
    /// This one when read; a writer must say which, by id.
    Shared(Uuid, Vec<Uuid>),
}

impl Names {
    /// From ids and stored names.
    pub(super) fn new<'a>(things: impl IntoIterator<Item = (Uuid, &'a str)>) -> Self {
        let mut by_name: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
        for (id, name) in things {
            by_name.entry(name).or_default().push(id);
        }
        let mut names = Self::default();
        let mut taken: BTreeSet<String> = by_name.keys().map(|name| (*name).to_owned()).collect();
        let mut younger = Vec::new();
        for (name, mut ids) in by_name {
            ids.sort_unstable();
            if ids.len() > 1 {
                names.shared.insert(name.to_owned(), ids.clone());
            }
            let mut ids = ids.into_iter();
            names.shown.extend(ids.next().map(|oldest| (oldest, name.to_owned())));
            younger.extend(ids.map(|id| (id, name)));
        }
        younger.sort_unstable();
        for (id, name) in younger {
            let digits = id.simple().to_string();
            let derived = (DIGITS..=digits.len())
                .filter_map(|count| digits.get(digits.len() - count..))
                .map(|end| format!("{name}-{end}"))
                .find(|derived| !taken.contains(derived))
                .unwrap_or(digits.clone());
            taken.insert(derived.clone());
            names.shown.insert(id, derived);
        }
        names
    }

    /// What one is called.
    pub(super) fn of(&self, id: Uuid) -> &str {
        self.shown.get(&id).map_or("", String::as_str)
    }

    /// Whether a name is in use, as stored or as derived.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.meaning(name) != Meaning::Nobody
    }

    /// What a name stands for.
    pub(super) fn meaning(&self, name: &str) -> Meaning {
        let Some((id, _)) = self.shown.iter().find(|(_, shown)| *shown == name) else {
            return Meaning::Nobody;
        };
        match self.shared.get(name) {
            Some(ids) => Meaning::Shared(*id, ids.clone()),
            None => Meaning::One(*id),
        }
    }
}

/// A write by a name that several have.
pub(super) fn ambiguous(what: &str, name: &str, ids: &[Uuid]) -> Problem {
    let ids: Vec<_> = ids.iter().map(Uuid::to_string).collect();
    Problem::new(
        Code::AmbiguousName,
        format!(
            "{} living {what}s are called `{name}`: say which, by id: {}",
            ids.len(),
            ids.join(" or ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_rules() {
        for name in ["a", "web", "a-1", "a--b", &"a".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "1a", "a-", "A", "a b", "a_b", "é", "a.b", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn the_older_keeps_the_name_and_the_younger_gets_digits() {
        let [older, other, younger] = [1, 2, 0xabcd_ef01].map(Uuid::from_u128);
        let names = Names::new([(younger, "web"), (older, "web"), (other, "api")]);
        assert_eq!((names.of(older), names.of(younger)), ("web", "web-ef01"));
        assert_eq!(names.meaning("api"), Meaning::One(other));
        assert_eq!(names.meaning("web-ef01"), Meaning::One(younger));
        assert_eq!(names.meaning("web"), Meaning::Shared(older, vec![older, younger]));
        assert_eq!(names.meaning("db"), Meaning::Nobody);
    }

    #[test]
    fn a_derived_name_that_is_taken_gets_more_digits() {
        let (a, b, c) = (Uuid::from_u128(1), Uuid::from_u128(0x1_1234), Uuid::from_u128(0x2_1234));
        let names = Names::new([(a, "web"), (b, "web"), (c, "web")]);
        assert_eq!((names.of(b), names.of(c)), ("web-1234", "web-21234"));
        let names = Names::new([(a, "web"), (b, "web"), (c, "web-1234")]);
        assert_eq!((names.of(b), names.of(c)), ("web-11234", "web-1234"));
    }
}
