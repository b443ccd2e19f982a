//! Colours that programs give to the terminal's palette, and those of text in words that `vt100` knows.

use std::collections::BTreeMap;

use super::rest::number;

/// The longest name of a colour that is kept, in bytes.
const MAX_COLOUR: usize = 40;
/// How many colours have numbers. Behind them: of text, of what is behind it, and of the cursor.
const NUMBERED: u16 = 256;

/// What gives a terminal its own colours again.
const USUAL: &[u8] = b"\x1b]104\x07\x1b]110\x07\x1b]111\x07\x1b]112\x07";

/// The colours that are other than at first, as programs have named them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Palette {
    colours: BTreeMap<u16, Vec<u8>>,
    /// Whether any program has touched them: else a viewer's own are left as they are.
    touched: bool,
}

impl Palette {
    /// Takes an operating system command of this number, if it is about colours.
    pub(super) fn set(&mut self, kind: u16, data: &[u8]) {
        let mut parts = data.split(|byte| *byte == b';');
        self.touched |= matches!(kind, 104 | 110..=112);
        match kind {
            4 => {
                while let (Some(index), Some(colour)) = (parts.next(), parts.next()) {
                    if let Some(index) = number(index).filter(|index| *index < NUMBERED) {
                        self.insert(index, colour);
                    }
                }
            }
            10..=12 => {
                for (kind, colour) in (kind..=12).zip(parts) {
                    self.insert(NUMBERED + kind - 10, colour);
                }
            }
            104 if data.is_empty() => self.colours.retain(|index, _| *index >= NUMBERED),
            104 => {
                for index in parts.filter_map(number).filter(|index| *index < NUMBERED) {
                    self.colours.remove(&index);
                }
            }
            110..=112 => {
                self.colours.remove(&(NUMBERED + kind - 110));
            }
            _ => {}
        }
    }

    fn insert(&mut self, index: u16, colour: &[u8]) {
        let is_name = (1..=MAX_COLOUR).contains(&colour.len()) && colour != b"?";
        if is_name && colour.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            self.colours.insert(index, colour.to_vec());
            self.touched = true;
        }
    }

    /// All as at first.
    pub(super) fn clear(&mut self) {
        self.colours.clear();
    }

    /// Writes what gives a terminal these.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.touched {
            out.extend_from_slice(USUAL);
        }
        for (index, colour) in &self.colours {
            let kind = match index.checked_sub(NUMBERED) {
                Some(special) => format!("\x1b]{};", 10 + special),
                None => format!("\x1b]4;{index};"),
            };
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(colour);
            out.push(7);
        }
    }
}

/// Whether `vt100` understands all attributes of text that a sequence may have which looks like this: nearly every one.
pub(super) fn is_known(inner: &[u8]) -> bool {
    !inner.contains(&b':') && !inner.windows(2).any(|two| two == b"58" || two == b"21")
}

/// A sequence that sets attributes of text, as `vt100` understands it; `None` where nothing of it is left. It takes
/// the colour of an underline for attributes, knows one shape of underlines, and no space of colours.
pub(super) fn known(inner: &[u8]) -> Option<Vec<u8>> {
    let mut known: Vec<Vec<u8>> = Vec::new();
    let mut parts = inner.split(|byte| *byte == b';');
    while let Some(part) = parts.next() {
        let fields: Vec<&[u8]> = part.split(|byte| *byte == b':').collect();
        match fields.as_slice() {
            [b"4", b"0"] => known.push(b"24".to_vec()),
            [b"4", _] | [b"21"] => known.push(b"4".to_vec()),
            [b"58", _, ..] => {}
            [kind @ (b"38" | b"48"), b"5", index, ..] => {
                known.push([kind, b";5;".as_slice(), index].concat());
            }
            [kind @ (b"38" | b"48"), b"2", .., red, green, blue] => {
                known.push([kind, b";2;".as_slice(), &[*red, *green, *blue].join(&b';')].concat());
            }
            [kind @ (b"38" | b"48" | b"58")] => {
                let space = parts.next().unwrap_or_default();
                let count = if space == b"2" { 3 } else { 1 };
                let values: Vec<&[u8]> =
                    [*kind, space].into_iter().chain(parts.by_ref().take(count)).collect();
                if *kind != b"58" {
                    known.push(values.join(&b';'));
                }
            }
            [one] => known.push(one.to_vec()),
            _ => {}
        }
    }
    (!known.is_empty()).then(|| [b"\x1b[".as_slice(), &known.join(&b';'), b"m"].concat())
}
