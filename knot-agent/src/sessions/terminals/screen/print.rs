//! Text as it comes to stand on a screen.

use std::num::NonZeroU16;

use super::{Above, rest::Rest};

type Parser = vt100::Parser<Above>;

/// Control characters that need more than `vt100` does for them.
fn is_seen_to(byte: u8) -> bool {
    matches!(byte, 0x08..=0x0c)
}

/// Where the cursor waits behind the last column, brings it back to that one. Terminals do so before they
/// move it or change lines; `vt100` does not, and no sequence could draw what comes of that.
pub(super) fn come_back(parser: &mut Parser) {
    let screen = parser.screen();
    if screen.cursor_position().1 >= screen.size().1.get() {
        parser.process(b"\x08");
    }
}

/// The same where nothing stands in that column any more: what could bring another cursor there would.
pub(super) fn come_back_from_nothing(parser: &mut Parser) {
    let screen = parser.screen();
    let last = screen.cell(screen.cursor_position().0, screen.size().1.get() - 1);
    if last.is_none_or(|cell| !cell.has_contents() && !cell.is_wide_continuation()) {
        come_back(parser);
    }
}

/// The bytes at the end of output that begin a character and do not end it (UTF-8); `before` are those of the output
/// before.
pub(super) fn unfinished(before: &[u8], text: &[u8]) -> Vec<u8> {
    let last = text.get(text.len().saturating_sub(3)..).unwrap_or_default();
    let all = if last.len() < 3 { [before, last].concat() } else { last.to_vec() };
    for (back, byte) in (1..=3).zip(all.iter().rev()) {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        let from = if length > back { all.len() - back } else { all.len() };
        return all.get(from..).unwrap_or_default().to_vec();
    }
    Vec::new()
}

impl Rest {
    /// Shows text.
    pub(super) fn print(&self, text: &[u8], parser: &mut Parser) {
        let drawn = if self.sets.draws_now() { Some(lines(text)) } else { None };
        let text = drawn.as_deref().unwrap_or(text);
        if self.inserts || !self.wraps() {
            return self.print_singly(text, parser);
        }
        for piece in text.split_inclusive(|byte| is_seen_to(*byte)) {
            match piece.split_last() {
                Some((last, said)) if is_seen_to(*last) => {
                    parser.process(said);
                    self.control_character(*last, parser);
                }
                _ => parser.process(piece),
            }
        }
    }

    fn control_character(&self, byte: u8, parser: &mut Parser) {
        match byte {
            b'\t' => self.tab(&[], true, parser),
            0x08 => {
                come_back(parser);
                parser.process(&[byte]);
            }
            _ => {
                come_back(parser);
                if self.returns {
                    parser.process(b"\r");
                }
                parser.process(&[byte]);
            }
        }
    }

    /// Shows text where each character has to be looked at.
    fn print_singly(&self, text: &[u8], parser: &mut Parser) {
        let all = [self.partial.as_slice(), text].concat();
        let left = unfinished(&[], &all).len();
        let whole = all.get(..all.len() - left).unwrap_or_default();
        for character in whole.utf8_chunks().flat_map(|chunk| chunk.valid().chars()) {
            match u8::try_from(character) {
                Ok(byte) if is_seen_to(byte) => self.control_character(byte, parser),
                Ok(byte @ (0..0x20 | 0x7f)) => parser.process(&[byte]),
                _ => self.character(character, parser),
            }
        }
    }

    /// Shows a character. In insert mode it moves what is behind it, though not where it comes to stand in the next
    /// line: what asks for that wraps nothing.
    fn character(&self, character: char, parser: &mut Parser) {
        let mut bytes = [0; 4];
        let bytes = character.encode_utf8(&mut bytes).as_bytes();
        let width = width(bytes);
        let (_, column) = parser.screen().cursor_position();
        let columns = parser.screen().size().1.get();
        let fits = column + width <= columns;
        if width > 0 && !fits && !self.wraps() {
            come_back(parser);
            if width > 1 {
                return;
            }
        }
        if width > 0 && self.inserts && (fits || !self.wraps()) {
            parser.process(format!("\x1b[{width}@").as_bytes());
        }
        parser.process(bytes);
    }
}

/// How many columns a character takes.
fn width(character: &[u8]) -> u16 {
    if let [_] = character {
        return 1;
    }
    let size = NonZeroU16::MIN.saturating_add(3);
    let mut parser = vt100::Parser::new(size, size, 0);
    parser.process(character);
    parser.screen().cursor_position().1
}

/// Text in the character set for drawing lines (DEC special graphics).
fn lines(text: &[u8]) -> Vec<u8> {
    const DRAWN: [char; 31] = [
        '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─',
        '⎼', '⎽', '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
    ];
    let mut drawn = Vec::with_capacity(text.len() * 3);
    for byte in text {
        match byte.checked_sub(0x60).and_then(|index| DRAWN.get(usize::from(index))) {
            Some(line) => drawn.extend_from_slice(line.encode_utf8(&mut [0; 4]).as_bytes()),
            None => drawn.push(*byte),
        }
    }
    drawn
}
