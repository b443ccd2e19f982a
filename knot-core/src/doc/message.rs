//! The commit message of a change: who made it, and how its layer stands on those below.
//!
//! `<author>` in layer 0, `<author> <layer>` above, and `<author> <layer> <heads>` where the change
//! names heads of lower layers that no change it depends on has named: 32 bytes each, base64url.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::id::{Author, ChangeHash};

/// The most heads of lower layers that a change names. A constant of the protocol. Those beyond stay
/// heads, for later changes to name.
pub const MAX_BELOW: usize = 512;

/// What a commit message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) author: Option<Author>,
    pub(super) layer: u32,
    /// Heads of lower layers, in order.
    pub(super) below: Vec<ChangeHash>,
}

/// The message of a change.
pub(super) fn write(author: Author, layer: u32, below: &[ChangeHash]) -> String {
    let author = author.to_message();
    match (layer, below) {
        (0, _) => author,
        (layer, []) => format!("{author} {layer}"),
        (layer, below) => {
            let heads: Vec<u8> = below.iter().flat_map(|hash| hash.0).collect();
            format!("{author} {layer} {}", BASE64_URL_SAFE_NO_PAD.encode(heads))
        }
    }
}

/// What a message says; one that this module did not write says nothing.
pub(super) fn read(message: Option<&str>) -> Said {
    message.and_then(parse).unwrap_or_default()
}

fn parse(message: &str) -> Option<Said> {
    let mut parts = message.split(' ');
    let author = Author::from_message(parts.next()?);
    let Some(layer) = parts.next() else { return Some(Said { author, ..Said::default() }) };
    let layer: u32 = layer.parse().ok().filter(|layer| *layer > 0)?;
    let Some(heads) = parts.next() else { return Some(Said { author, layer, below: Vec::new() }) };
    if parts.next().is_some() {
        return None;
    }
    let heads = BASE64_URL_SAFE_NO_PAD.decode(heads).ok()?;
    let (heads, rest) = heads.as_chunks::<32>();
    let below: Vec<_> = heads.iter().copied().map(ChangeHash).collect();
    let sound = rest.is_empty() && !below.is_empty() && below.len() <= MAX_BELOW;
    sound.then_some(Said { author, layer, below })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let author = Author::User(uuid::Uuid::max());
        let heads = [ChangeHash([1; 32]), ChangeHash([2; 32])];
        for (layer, below) in [(0, &heads[..0]), (1, &heads[..0]), (7, &heads[..])] {
            let said = Said { author: Some(author), layer, below: below.to_vec() };
            assert_eq!(read(Some(&write(author, layer, below))), said);
        }
    }

    #[test]
    fn a_message_of_another_program_says_nothing() {
        for message in ["", " ", "hello", "u 1", "x 0 ", "x 1 AA", "x 99999999999", "x 1 AA AA"] {
            let said = read(Some(message));
            assert!(said.author.is_none() && said.below.is_empty(), "{message}: {said:?}");
        }
    }
}
