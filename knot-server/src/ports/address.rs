//! What a port of a space is called in a host name: `8080--dev--anna`, one label below the domain.
//!
//! Names hold dashes, so two of them stand between every two parts, and a part that has two in a row, or
//! one at an end, is not written that way: such a space goes by its id, `8080--` and 32 hexadecimal
//! digits. So a label is read in one way only, whatever names people choose, and nobody can make a
//! space that answers at another's address.

use knot_core::{id::Id, model::Space};
use uuid::Uuid;

/// The longest label of a host name.
const LONGEST: usize = 63;

/// What an address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `<port>--<space>--<user>`; the port by its number, or by the name that the template gives it.
    Named {
        /// The port.
        port: PortName,
        /// What the space is called among its owner's.
        space: String,
        /// What the owner is called.
        owner: String,
    },
    /// `<port>--<id>`.
    ById {
        /// The port.
        port: u16,
        /// The space.
        space: Id<Space>,
    },
    /// `<name>--<user>`: another name of a space, which leads to a port of its own.
    Alternative {
        /// The name.
        name: String,
        /// What the owner is called.
        owner: String,
    },
}

/// A port as an address has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortName {
    /// Its number.
    Number(u16),
    /// Its name in the template.
    Name(String),
}

impl PortName {
    /// Reads a number or a name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return number(text).map(Self::Number);
        }
        is_plain(text).then(|| Self::Name(text.to_owned()))
    }
}

impl Address {
    /// Reads a label of a host name, in which case does not count.
    pub(crate) fn parse(label: &str) -> Option<Self> {
        let label = label.to_ascii_lowercase();
        // What begins so is another name in disguise, by the rules of internationalised ones.
        if label.len() > LONGEST || label.starts_with("xn--") {
            return None;
        }
        let parts: Vec<&str> = label.split("--").collect();
        match *parts.as_slice() {
            [port, space, owner] if is_plain(space) && is_plain(owner) => Some(Self::Named {
                port: PortName::parse(port)?,
                space: space.to_owned(),
                owner: owner.to_owned(),
            }),
            [port, id] if port.starts_with(|first: char| first.is_ascii_digit()) => {
                let id = Uuid::try_parse(id).ok().filter(|_| id.len() == 32)?;
                Some(Self::ById { port: number(port)?, space: Id::from_uuid(id) })
            }
            [name, owner] if is_plain(name) && is_plain(owner) => {
                Some(Self::Alternative { name: name.to_owned(), owner: owner.to_owned() })
            }
            _ => None,
        }
    }

    /// The label of a port of a space: by names where these can stand in one, else by the id.
    pub(crate) fn label(port: u16, space: Id<Space>, name: &str, owner: &str) -> String {
        let named = format!("{port}--{name}--{owner}");
        if is_plain(name) && is_plain(owner) && named.len() <= LONGEST {
            return named;
        }
        format!("{port}--{}", space.uuid().simple())
    }
}

/// Whether a name can stand between two pairs of dashes and be found again.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
        && name.bytes().all(allowed)
}

fn number(text: &str) -> Option<u16> {
    let number = text.parse().ok().filter(|number| *number > 0)?;
    // Each port has one way to be written: an origin of its own is what tells its cookies apart.
    (text == format!("{number}")).then_some(number)
}

/// What stands before `domain` in a `Host` header: `None` where the host is not below it.
pub(crate) fn below<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let at = host.len().checked_sub(domain.len())?;
    let (label, rest) = (host.get(..at)?, host.get(at..)?);
    rest.eq_ignore_ascii_case(domain).then(|| label.strip_suffix('.')).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> Id<Space> {
        Id::from_uuid(Uuid::from_u128(0x0123_4567_89ab_cdef))
    }

    fn named(port: PortName, space: &str, owner: &str) -> Option<Address> {
        Some(Address::Named { port, space: space.to_owned(), owner: owner.to_owned() })
    }

    #[test]
    fn each_form_is_read() {
        let number = PortName::Number(8080);
        assert_eq!(Address::parse("8080--dev--anna"), named(number.clone(), "dev", "anna"));
        assert_eq!(Address::parse("8080--My-Dev--Anna"), named(number, "my-dev", "anna"));
        let web = PortName::Name("web".to_owned());
        assert_eq!(Address::parse("web--a-b--c-d"), named(web, "a-b", "c-d"));
        let by_id = Address::ById { port: 80, space: id() };
        assert_eq!(Address::parse("80--00000000000000000123456789abcdef"), Some(by_id));
        let other = Address::Alternative { name: "shop".to_owned(), owner: "anna".to_owned() };
        assert_eq!(Address::parse("shop--anna"), Some(other));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for label in [
            "",
            "--",
            "dev",
            "8080--dev",
            "8080--dev--",
            "--dev--anna",
            "8080---dev--anna",
            "8080--dev---anna",
            "8080--a--b--c",
            "0--dev--anna",
            "08080--dev--anna",
            "65536--d--a",
            "80x--dev--anna",
            "xn--dev--anna",
            "8080--dev--an_na",
            "8080--d.v--anna",
            "80--00000000-0000-0000-0123-456789abcdef",
            "-80--dev--anna",
            "8080--dev-anna",
        ] {
            assert_eq!(Address::parse(label), None, "{label}");
        }
        assert_eq!(Address::parse(&format!("8080--{}--anna", "a".repeat(60))), None);
    }

    #[test]
    fn only_hosts_below_the_domain_are_spaces() {
        for (host, label) in [
            ("a--b.spaces.example.org", Some("a--b")),
            ("a--b.Spaces.Example.org.:8443", Some("a--b")),
            ("spaces.example.org", None),
            (".spaces.example.org", Some("")),
            ("x.y.spaces.example.org", Some("x.y")),
            ("evilspaces.example.org", None),
            ("example.org", None),
            ("", None),
            ("é.spaces.example.org", Some("é")),
            ("[::1]:3000", None),
        ] {
            assert_eq!(below(host, "spaces.example.org"), label, "{host}");
        }
    }

    /// A name with dashes wherever they may be.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z][a-z0-9-]{0,12}[a-z0-9]",
            "[a-z](-{1,3}[a-z0-9]){0,4}",
            "[a-zA-Z0-9._-]{1,70}"
        ]
    }

    proptest! {
        #[test]
        fn every_port_of_every_space_has_a_label_that_names_it(
            port in 1_u16.., space in name(), owner in name(), id in any::<u128>(),
        ) {
            let id = Id::from_uuid(Uuid::from_u128(id));
            let label = Address::label(port, id, &space, &owner);
            prop_assert!(label.len() <= LONGEST, "{label}");
            match Address::parse(&label) {
                Some(Address::Named { port: PortName::Number(read), space: s, owner: o }) => {
                    prop_assert_eq!((read, s, o), (port, space, owner));
                }
                Some(Address::ById { port: read, space }) => {
                    prop_assert_eq!((read, space), (port, id));
                }
                other => prop_assert!(false, "{label}: {other:?}"),
            }
        }

        #[test]
        fn two_addresses_share_no_label(
            one in (1_u16..100, name(), name()), other in (1_u16..100, name(), name()),
        ) {
            let of = |(port, space, owner): &(u16, String, String), id| {
                Address::label(*port, Id::from_uuid(Uuid::from_u128(id)), space, owner)
            };
            prop_assume!(one != other);
            prop_assert_ne!(of(&one, 1), of(&other, 2));
        }

        #[test]
        fn no_label_is_read_and_written_differently(label in "[a-z0-9-]{0,64}") {
            if let Some(Address::Named { port: PortName::Number(port), space, owner }) = Address::parse(&label) {
                prop_assert_eq!(Address::label(port, id(), &space, &owner), label);
            }
        }
    }
}
