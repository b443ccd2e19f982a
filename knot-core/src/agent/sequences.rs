//! Terminal output cut into text and control sequences (ECMA-48), wherever the chunks are cut.
//!
//! Both ends need it: the agent to keep what is on a screen, and whoever shows a replay to leave out
//! what asks the terminal for an answer.

/// The longest sequence that is taken as a whole, in bytes: all colours of a small palette in one, or a
/// link. No query is nearly as long; images and clipboards, which are, come as [`Piece::Long`].
const LONGEST: usize = 2 << 10;

const ESCAPE: u8 = 0x1b;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;
const BELL: u8 = 0x07;

/// A part of a terminal's output. All of them in a row are the output, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text, and control characters other than those that shift or begin a sequence.
    Text(&'a [u8]),
    /// Shift out (14) or shift in (15): the other character set, or the usual one.
    Shift(u8),
    /// ESC and what belongs to it.
    Escape(&'a [u8]),
    /// A control sequence, from ESC `[` to its final byte.
    Control(&'a [u8]),
    /// A string with its beginning and end: OSC, DCS, APC, PM or SOS.
    String(&'a [u8]),
    /// A part of a sequence that is too long to be taken whole, or broken off.
    Long(&'a [u8]),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Intermediate,
    Control,
    String,
    /// ESC within a string: its end, if a backslash follows.
    StringEscape,
}

/// Cuts output into pieces; what is cut off at a chunk's end is kept until the next.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    state: State,
    sequence: Vec<u8>,
}

impl Scanner {
    /// Cuts the next chunk.
    pub fn scan(&mut self, bytes: &[u8], mut take: impl FnMut(Piece<'_>)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.state == State::Ground {
                let special = |byte: &u8| matches!(*byte, ESCAPE | 0x0e | 0x0f);
                let length = rest.iter().position(special).unwrap_or(rest.len());
                let (text, others) = rest.split_at(length);
                if !text.is_empty() {
                    take(Piece::Text(text));
                    rest = others;
                    continue;
                }
                if byte == ESCAPE {
                    self.begin();
                } else {
                    take(Piece::Shift(byte));
                }
            } else {
                self.step(byte, &mut take);
            }
            rest = after;
        }
    }

    /// What another terminal is to be told, beyond what was scanned, to stand where this output was cut:
    /// the beginning of the sequence that is not over; of one too long to be known, the beginning of one
    /// that nobody knows.
    pub fn unfinished(&self) -> Vec<u8> {
        let is_whole = self.sequence.first() == Some(&ESCAPE)
            && (self.state != State::StringEscape || self.sequence.len() > 1);
        let beginning: &[u8] = match self.state {
            State::Ground => b"",
            _ if is_whole => &self.sequence,
            State::Escape | State::Intermediate => b"\x1b ",
            State::Control => b"\x1b[>",
            State::String => b"\x1b]9999;",
            State::StringEscape => b"\x1b]9999;\x1b",
        };
        beginning.to_vec()
    }

    fn begin(&mut self) {
        self.state = State::Escape;
        self.sequence.clear();
        self.sequence.push(ESCAPE);
    }

    /// One byte within a sequence.
    fn step(&mut self, byte: u8, take: &mut impl FnMut(Piece<'_>)) {
        match (self.state, byte) {
            (State::StringEscape, b'\\') => return self.end(byte, take, |all| Piece::String(all)),
            (State::StringEscape, _) => {
                // The string was broken off, and this ESC begins something else.
                self.sequence.pop();
                take(Piece::Long(&self.sequence));
                self.begin();
                return self.step(byte, take);
            }
            (State::String, BELL) => return self.end(byte, take, |all| Piece::String(all)),
            (State::String, ESCAPE) => self.state = State::StringEscape,
            (_, CANCEL | SUBSTITUTE) => return self.end(byte, take, |all| Piece::Long(all)),
            (State::String, _) => {}
            (_, ESCAPE) => {
                take(Piece::Long(&self.sequence));
                return self.begin();
            }
            // Control characters within a sequence count as if they stood before it.
            (_, 0..0x20) => return take(Piece::Text(&[byte])),
            (State::Escape, b'[') => self.state = State::Control,
            (State::Escape, b']' | b'P' | b'_' | b'^' | b'X') => self.state = State::String,
            (State::Escape | State::Intermediate, 0x20..0x30) => self.state = State::Intermediate,
            (State::Escape | State::Intermediate, _) => {
                return self.end(byte, take, |all| Piece::Escape(all));
            }
            (_, 0x40..0x7f) => return self.end(byte, take, |all| Piece::Control(all)),
            (_, _) => {}
        }
        self.sequence.push(byte);
        if self.sequence.len() >= LONGEST && self.state != State::StringEscape {
            take(Piece::Long(&self.sequence));
            self.sequence.clear();
        }
    }

    fn end(
        &mut self,
        byte: u8,
        take: &mut impl FnMut(Piece<'_>),
        piece: impl FnOnce(&[u8]) -> Piece<'_>,
    ) {
        self.sequence.push(byte);
        self.state = State::Ground;
        let is_whole = self.sequence.first() == Some(&ESCAPE) && self.sequence.len() <= LONGEST;
        take(if is_whole { piece(&self.sequence) } else { Piece::Long(&self.sequence) });
        self.sequence.clear();
    }
}

impl Piece<'_> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes)
            | Self::Escape(bytes)
            | Self::Control(bytes)
            | Self::String(bytes)
            | Self::Long(bytes) => bytes,
            Self::Shift(byte) => std::slice::from_ref(byte),
        }
    }

    /// Whether a terminal that is shown this sends something back.
    pub fn is_query(&self) -> bool {
        match self {
            Self::Text(_) | Self::Shift(_) | Self::Long(_) => false,
            Self::Escape(bytes) => *bytes == b"\x1bZ",
            Self::Control(bytes) => control_asks(bytes),
            Self::String(bytes) => string_asks(bytes),
        }
    }
}

fn control_asks(sequence: &[u8]) -> bool {
    let Some(([ESCAPE, b'['], [inner @ .., last])) = sequence.split_at_checked(2) else {
        return false;
    };
    let mark = inner.first().copied().unwrap_or_default();
    match last {
        // Device attributes, whichever.
        b'c' => true,
        // Status and position. With `>` it sets how modified keys are sent.
        b'n' => mark != b'>',
        // DECRQM.
        b'p' => inner.last() == Some(&b'$'),
        // The terminal's version.
        b'q' => mark == b'>',
        // What the keyboard is set to (kitty), and what a sixel may be.
        b'u' | b'S' => mark == b'?',
        // DECREQTPARM, DECRQPSR, checksums.
        b'x' => !inner.contains(&b'$'),
        b'w' => inner.last() == Some(&b'$'),
        b'y' => inner.last() == Some(&b'*'),
        // Sizes, positions and titles of windows.
        b't' => {
            let first = inner.split(|byte| *byte == b';').next().unwrap_or_default();
            matches!(first, b"11" | b"13" | b"14" | b"15" | b"16" | b"18" | b"19" | b"20" | b"21")
        }
        _ => false,
    }
}

fn string_asks(sequence: &[u8]) -> bool {
    let Some(([ESCAPE, kind], rest)) = sequence.split_at_checked(2) else { return false };
    let end = if rest.ends_with(b"\x1b\\") { 2 } else { 1 };
    let data = rest.get(..rest.len().saturating_sub(end)).unwrap_or_default();
    match kind {
        // Colours, the clipboard and others: a question mark where the value would be.
        b']' => data.split(|byte| *byte == b';').any(|part| part == b"?" || part.ends_with(b"=?")),
        // DECRQSS and XTGETTCAP.
        b'P' => data.starts_with(b"$q") || data.starts_with(b"+q"),
        // Whether there are kitty's graphics.
        b'_' => data.starts_with(b"G"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<(&'static str, String, bool)> {
        let (mut scanner, mut found) = (Scanner::default(), Vec::new());
        for chunk in chunks {
            scanner.scan(chunk, |piece| {
                let kind = match piece {
                    Piece::Text(_) => "text",
                    Piece::Shift(_) => "shift",
                    Piece::Escape(_) => "escape",
                    Piece::Control(_) => "control",
                    Piece::String(_) => "string",
                    Piece::Long(_) => "long",
                };
                let text = String::from_utf8_lossy(piece.bytes()).into_owned();
                found.push((kind, text, piece.is_query()));
            });
        }
        found
    }

    #[test]
    fn sequences_are_found_wherever_the_output_is_cut() {
        let output =
            "a\u{e4}\x1b[1;31mred\x1b(0q\x0e\x1b]2;title\x07\x1b]11;?\x1b\\\x1b[6n\x1bPq#0\x1b\\z";
        let whole = pieces(&[output.as_bytes()]);
        let kinds: Vec<&str> = whole.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(
            kinds,
            [
                "text", "control", "text", "escape", "text", "shift", "string", "string",
                "control", "string", "text"
            ]
        );
        let asks: Vec<&str> =
            whole.iter().filter(|(.., asks)| *asks).map(|(_, text, _)| text.as_str()).collect();
        assert_eq!(asks, ["\x1b]11;?\x1b\\", "\x1b[6n"]);
        for size in 1..output.len() {
            let chunks: Vec<&[u8]> = output.as_bytes().chunks(size).collect();
            let mut scanner = Scanner::default();
            let (mut all, mut sequences) = (Vec::new(), Vec::new());
            for chunk in chunks {
                scanner.scan(chunk, |piece| {
                    all.extend_from_slice(piece.bytes());
                    if !matches!(piece, Piece::Text(_)) {
                        sequences.push(piece.bytes().to_vec());
                    }
                });
            }
            assert_eq!(all, output.as_bytes(), "pieces of {size}");
            let wanted = whole.iter().filter(|(kind, ..)| *kind != "text");
            let wanted: Vec<&[u8]> = wanted.map(|(_, text, _)| text.as_bytes()).collect();
            assert_eq!(sequences, wanted, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_asked_is_known() {
        for query in [
            "\x1b[c",
            "\x1b[0c",
            "\x1b[>c",
            "\x1b[=0c",
            "\x1b[5n",
            "\x1b[?6n",
            "\x1b[?2026$p",
            "\x1b[4$p",
            "\x1b[>q",
            "\x1b[?u",
            "\x1b[18t",
            "\x1b[14;2t",
            "\x1bZ",
            "\x1b]10;?\x07",
            "\x1b]4;1;?\x1b\\",
            "\x1b]52;c;?\x07",
            "\x1bP$qm\x1b\\",
            "\x1bP+q544e\x1b\\",
        ] {
            let found = pieces(&[query.as_bytes()]);
            assert!(matches!(found.as_slice(), [(_, _, true)]), "{query:?}: {found:?}");
        }
        for other in [
            "\x1b[>4;1m",
            "\x1b[>4n",
            "\x1b[8;24;80t",
            "\x1b[22;0t",
            "\x1b[u",
            "\x1b[=1u",
            "\x1b[2 q",
            "\x1b[!p",
            "\x1b]11;#fff\x07",
            "\x1b]0;what?\x07",
            "\x1b]8;;http://a/?b\x07",
            "\x1b[?25h",
        ] {
            let found = pieces(&[other.as_bytes()]);
            assert!(matches!(found.as_slice(), [(_, _, false)]), "{other:?}: {found:?}");
        }
    }

    #[test]
    fn a_sequence_that_is_cut_goes_on_elsewhere() {
        let image = format!("\x1bPq{}\x1b\\", "x".repeat(3 * LONGEST));
        for output in ["text", "\x1b[1;31m", "\x1b]2;title\x1b\\", "\x1b(0", &image] {
            let whole = format!("{output}after");
            for cut in (0..output.len()).step_by(1 + output.len() / 300) {
                let (before, after) = whole.as_bytes().split_at(cut);
                let mut scanner = Scanner::default();
                scanner.scan(before, |_| ());
                let begun = scanner.unfinished();
                let found = pieces(&[&begun, after]);
                let text: String = found
                    .iter()
                    .filter(|(kind, ..)| *kind == "text")
                    .map(|(_, text, _)| text.as_str())
                    .collect();
                let shown = if output == "text" { &whole[cut..] } else { "after" };
                assert_eq!(text, shown, "{output:.20} cut at {cut}: {begun:?}");
            }
        }
    }

    #[test]
    fn what_is_too_long_passes_in_parts() {
        let image = format!("\x1bPq{}\x1b\\after", "x".repeat(3 * LONGEST));
        let found = pieces(&[image.as_bytes()]);
        assert_eq!(found.iter().map(|(_, text, _)| text.as_str()).collect::<String>(), image);
        assert!(found.iter().rev().skip(1).all(|(kind, ..)| *kind == "long"), "{found:?}");
        assert_eq!(
            found.last().map(|(kind, text, _)| (*kind, text.as_str())),
            Some(("text", "after"))
        );
    }
}
