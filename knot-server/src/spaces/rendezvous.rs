//! Who of several servers does something: each works it out alone, and those that hear each other come
//! to the same one.

use knot_core::id::{Id, ServerId};
use uuid::Uuid;

/// The one of these servers that acts for `subject`: the one with the largest hash of both. When a
/// server comes or goes, only what it acted for, or acts for now, changes hands.
pub(crate) fn chosen(
    subject: Uuid,
    servers: impl IntoIterator<Item = ServerId>,
) -> Option<ServerId> {
    let weight =
        |server: &ServerId| Id::<()>::of_key(&[subject.as_bytes(), server.0.as_bytes()]).uuid();
    servers.into_iter().max_by_key(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_goes_hands_over_only_what_was_its_own() {
        let servers: Vec<_> = (1..=5).map(|n| ServerId(Uuid::from_u128(n))).collect();
        let mut acted = [0; 5];
        for subject in (0..200).map(Uuid::from_u128) {
            let one = chosen(subject, servers.iter().rev().copied()).unwrap();
            assert_eq!(chosen(subject, servers.clone()), Some(one), "in whatever order");
            let place = servers.iter().position(|server| *server == one).unwrap();
            acted[place] += 1;
            for gone in servers.iter().filter(|server| **server != one) {
                let left = servers.iter().filter(|server| *server != gone).copied();
                assert_eq!(chosen(subject, left), Some(one));
            }
        }
        assert!(acted.iter().all(|n| *n > 20), "{acted:?}");
        assert_eq!(chosen(Uuid::nil(), []), None);
    }
}
