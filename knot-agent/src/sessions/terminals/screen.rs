//! What is on a terminal's screens, and how to draw it on another terminal.
//!
//! `vt100` keeps the screens. What it does not know is seen to here: characters for drawing lines, a few
//! sequences that mean the same as others, modes that only the terminal of a viewer acts on, the title.
//! Custom tab stops, palettes, hyperlinks and images are not kept: a snapshot is without them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    num::NonZeroU16,
    panic::{AssertUnwindSafe, catch_unwind},
};

use knot_core::agent::{
    TerminalSize,
    sequences::{Piece, Scanner},
};

/// Sizes beyond these are brought within: a cell takes 32 bytes.
const MAX_COLUMNS: u16 = 1_000;
const MAX_ROWS: u16 = 300;
/// Private modes that nothing is drawn by: how a viewer's terminal reports focus, the mouse and keys.
const MODES: [u16; 5] = [7, 1004, 1015, 1016, 2031];
/// The longest title that is kept, in bytes.
const MAX_TITLE: usize = 200;
/// What ends a row above the screen.
const ROW_END: &str = "\x1b[0m\r\n";
/// What brings a terminal of any state to the beginning: main screen, no modes, colours or margins,
/// nothing on it.
const BLANK: &str = "\x1b[?47l\x1b[!p\x1b[?6l\x1b[r\x1b[4l\x1b[?7h\x1b[?25h\x1b[?1l\x1b>\x1b(B\x0f\x1b[0m\
    \x1b[?9;1000;1002;1003;1004;1005;1006;1015;1016;2004;2031l\x1b[0 q\x1b[H\x1b[2J";

/// The screens of one terminal.
pub(super) struct Screen {
    parser: vt100::Parser<Above>,
    scanner: Scanner,
    rest: Rest,
    /// A size that counts from the next byte on: of several in a row only the last is drawn on.
    resized: Option<TerminalSize>,
}

/// What `vt100` does not keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rest {
    /// Whether the usual character set, and the other, is that for drawing lines.
    draws: [bool; 2],
    /// Whether the other one is in use.
    shifted: bool,
    modes: BTreeMap<u16, bool>,
    title: Vec<u8>,
}

/// The newest rows that have left the main screen, as text with colours.
#[derive(Clone, Debug, Default)]
struct Above {
    /// The most bytes of them.
    limit: usize,
    bytes: usize,
    rows: VecDeque<String>,
}

impl vt100::Callbacks for Above {
    fn on_scroll(&mut self, contents: vt100::capture::RowContents<'_>, alternate_screen: bool) {
        if self.limit == 0 || alternate_screen {
            return;
        }
        let mut row = String::new();
        let mut colours = vt100::capture::BasicFormattedCaptureState::new();
        // To write to a string does not fail.
        let _ = contents.write_formatted_basic(&mut row, &mut colours);
        self.bytes += row.len() + ROW_END.len();
        self.rows.push_back(row);
        while self.bytes > self.limit
            && let Some(oldest) = self.rows.pop_front()
        {
            self.bytes -= oldest.len() + ROW_END.len();
        }
    }
}

/// A size within what is kept.
pub(super) fn bounded(size: TerminalSize) -> TerminalSize {
    TerminalSize { columns: size.columns.clamp(2, MAX_COLUMNS), rows: size.rows.clamp(1, MAX_ROWS) }
}

impl Screen {
    /// Empty screens; of the rows that leave the main one, the newest `above` bytes are kept.
    pub(super) fn new(size: TerminalSize, above: usize) -> Self {
        let (rows, columns) = dimensions(size);
        let above = Above { limit: above, ..Above::default() };
        Self {
            parser: vt100::Parser::new_with_callbacks(rows, columns, 0, above),
            scanner: Scanner::default(),
            rest: Rest::default(),
            resized: None,
        }
    }

    /// Draws output.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.apply_size();
        let Self { parser, scanner, rest, .. } = self;
        // What output makes it panic is not known; if there is any, it is not to end the terminal.
        let drawn = catch_unwind(AssertUnwindSafe(|| {
            scanner.scan(bytes, |piece| rest.take(piece, parser));
        }));
        if drawn.is_err() {
            tracing::warn!("output that cannot be kept: the screen begins anew");
            let (rows, columns) = self.parser.screen().size();
            let size = TerminalSize { columns: columns.get(), rows: rows.get() };
            *self = Self::new(size, self.parser.callbacks().limit);
        }
    }

    /// Gives the screens another size, from the next byte on.
    pub(super) fn resize(&mut self, size: TerminalSize) {
        self.resized = Some(size);
    }

    fn apply_size(&mut self) {
        let Some(size) = self.resized.take() else { return };
        let (rows, columns) = dimensions(size);
        let resized = catch_unwind(AssertUnwindSafe(|| {
            let is_alternate = self.parser.screen().alternate_screen();
            self.parser.process(forget(is_alternate));
            self.parser.set_size(rows, columns);
        }));
        if resized.is_err() {
            *self = Self::new(size, self.parser.callbacks().limit);
        }
    }

    /// What draws all this, on a terminal of the same size and any state. It asks for no answer.
    /// `above` is what is to be scrolled out of sight first.
    pub(super) fn snapshot(&self, above: &VecDeque<String>) -> Vec<u8> {
        let drawn = catch_unwind(AssertUnwindSafe(|| self.draw(above)));
        drawn.unwrap_or_else(|_| BLANK.as_bytes().to_vec())
    }

    fn draw(&self, above: &VecDeque<String>) -> Vec<u8> {
        let screen = &self.now();
        let rows = usize::from(screen.size().0.get());
        let mut out = String::from(BLANK);
        if !above.is_empty() {
            for row in above {
                out.push_str(row);
                out.push_str(ROW_END);
            }
            let _ = write!(out, "\x1b[{rows};1H");
            out.push_str(&"\n".repeat(above.len().min(rows.saturating_sub(1))));
        }
        if screen.alternate_screen() {
            draw_screen(&mut out, &main(screen));
            out.push_str("\x1b[?47h");
        }
        draw_screen(&mut out, screen);
        out.push_str(&screen.input_mode_formatted());
        for (mode, on) in &self.rest.modes {
            let _ = write!(out, "\x1b[?{mode}{}", if *on { 'h' } else { 'l' });
        }
        for (set, draws) in ['(', ')'].into_iter().zip(self.rest.draws) {
            let _ = write!(out, "\x1b{set}{}", if draws { '0' } else { 'B' });
        }
        if self.rest.shifted {
            out.push('\x0e');
        }
        let mut out = out.into_bytes();
        if !self.rest.title.is_empty() {
            out.extend_from_slice(b"\x1b]2;");
            out.extend_from_slice(&self.rest.title);
            out.push(7);
        }
        out
    }

    /// The screens with the size that they have from now on. What is drawn on goes by the last size that
    /// there was before the next byte, and so is not given one in between.
    fn now(&self) -> vt100::Screen {
        let mut screen = self.parser.screen().clone();
        if let Some(size) = self.resized {
            let (rows, columns) = dimensions(size);
            screen = after(&screen, forget(screen.alternate_screen()));
            screen.set_size(rows, columns);
        }
        screen
    }

    /// The rows that have left the main screen, as text with colours.
    pub(super) fn above(self) -> VecDeque<String> {
        self.parser.callbacks().rows.clone()
    }

    /// What is there, in a form that can be compared.
    #[cfg(test)]
    pub(super) fn contents(&self) -> Vec<String> {
        let screen = &self.now();
        let main = main(screen);
        vec![
            screen.state_formatted(),
            main.contents_formatted(),
            format!("{:?}", (hidden(screen), hidden(&main))),
            format!("{:?} {:?}", screen.size(), self.rest),
        ]
    }
}

fn dimensions(size: TerminalSize) -> (NonZeroU16, NonZeroU16) {
    let size = bounded(size);
    let whole = |number| NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN);
    (whole(size.rows), whole(size.columns))
}

/// A screen that grows is given empty rows below, and none for those that have left it above: a viewer
/// has these already, or is given them.
fn forget(is_alternate: bool) -> &'static [u8] {
    if is_alternate { b"\x1b[?47l\x1b[3J\x1b[?47h" } else { b"\x1b[3J" }
}

/// The screens as they would be without the alternate one.
fn main(screen: &vt100::Screen) -> vt100::Screen {
    after(screen, b"\x1b[?47l")
}

/// A copy of a screen after some more output.
fn after(screen: &vt100::Screen, output: &[u8]) -> vt100::Screen {
    let (rows, columns) = screen.size();
    let mut parser = vt100::Parser::new(rows, columns, screen.scrollback_capacity());
    *parser.screen_mut() = screen.clone();
    parser.process(output);
    parser.screen().clone()
}

/// What a screen does not tell, found out by what copies of it do.
#[derive(Debug, PartialEq, Eq)]
struct Hidden {
    /// First and last row of the margins, from 0.
    margins: (u16, u16),
    /// Whether positions count from the first row of the margins.
    origin: bool,
    saved: (u16, u16),
    saved_attributes: String,
}

fn hidden(screen: &vt100::Screen) -> Hidden {
    let row = |output: &[u8]| after(screen, output).cursor_position().0;
    let top = row(b"\x1b[?6h\x1b[H");
    let margins = (top, row(b"\x1b[?6h\x1b[999H"));
    let last = screen.size().0.get() - 1;
    let (first, end) = (row(b"\x1b[H"), row(b"\x1b[999H"));
    let origin = (first, end) == margins && margins != (0, last);
    let saved = after(screen, b"\x1b8");
    Hidden {
        margins,
        origin,
        saved: saved.cursor_position(),
        saved_attributes: saved.attributes_formatted(),
    }
}

/// Draws the active one of the screens: contents, saved cursor, margins, cursor and colours.
fn draw_screen(out: &mut String, screen: &vt100::Screen) {
    let Hidden { margins, origin, saved_attributes, .. } = hidden(screen);
    out.push_str("\x1b[?6l\x1b[r");
    out.push_str(&screen.contents_formatted());
    // A cursor behind the last column gets there by what stands in it.
    let saved = after(screen, b"\x1b8").cursor_state_formatted();
    let _ = write!(out, "\x1b[0m{saved}{saved_attributes}\x1b7");
    if margins != (0, screen.size().0.get() - 1) {
        let _ = write!(out, "\x1b[{};{}r", margins.0 + 1, margins.1 + 1);
    }
    if origin {
        let (row, column) = screen.cursor_position();
        let row = row.saturating_sub(margins.0);
        let _ = write!(out, "\x1b[?6h\x1b[{};{}H\x1b[0m", row + 1, column + 1);
        let last = screen.size().1.get() - 1;
        if column > last {
            let cells = screen.rows_formatted(last, 1).nth(usize::from(screen.cursor_position().0));
            out.push_str(&cells.unwrap_or_default());
        }
    } else {
        out.push_str("\x1b[0m");
        out.push_str(&screen.cursor_state_formatted());
    }
    out.push_str(&screen.attributes_formatted());
}

/// Shows text, each new line from a column that there is.
fn print(text: &[u8], parser: &mut vt100::Parser<Above>) {
    for line in text.split_inclusive(|byte| matches!(byte, b'\n' | 0x0b | 0x0c)) {
        match line.split_last() {
            Some((end @ (b'\n' | 0x0b | 0x0c), said)) => {
                parser.process(said);
                come_back(parser);
                parser.process(&[*end]);
            }
            _ => parser.process(line),
        }
    }
}

/// Where the cursor waits behind the last column, brings it back to that one. Terminals do so before they
/// change lines; `vt100` does not, and no sequence could draw what comes of that.
fn come_back(parser: &mut vt100::Parser<Above>) {
    let screen = parser.screen();
    if screen.cursor_position().1 >= screen.size().1.get() {
        parser.process(b"\x08");
    }
}

impl Rest {
    /// Takes a piece of output: what `vt100` understands goes there.
    fn take(&mut self, piece: Piece<'_>, parser: &mut vt100::Parser<Above>) {
        match piece {
            Piece::Text(text) if self.draws_now() => print(&lines(text), parser),
            Piece::Text(text) => print(text, parser),
            Piece::Shift(byte) => self.shifted = byte == 0x0e,
            Piece::Escape(sequence) => self.escape(sequence, parser),
            Piece::Control(sequence) => self.control(sequence, parser),
            Piece::String(sequence) => self.string(sequence),
            Piece::Long(_) => {}
        }
    }

    fn draws_now(&self) -> bool {
        let [usual, other] = self.draws;
        if self.shifted { other } else { usual }
    }

    fn escape(&mut self, sequence: &[u8], parser: &mut vt100::Parser<Above>) {
        match sequence {
            [_, b'(', set] => self.draws = [*set == b'0', self.draws[1]],
            [_, b')', set] => self.draws = [self.draws[0], *set == b'0'],
            [_, b'c'] => {
                *self = Self::default();
                parser.process(sequence);
            }
            // Index and next line.
            [_, b'D'] => print(b"\n", parser),
            [_, b'E'] => print(b"\r\n", parser),
            [_, b'M'] => {
                come_back(parser);
                parser.process(sequence);
            }
            _ => parser.process(sequence),
        }
    }

    fn control(&mut self, sequence: &[u8], parser: &mut vt100::Parser<Above>) {
        let Some(([_, _], [inner @ .., last])) = sequence.split_at_checked(2) else { return };
        // What erases, inserts or scrolls.
        if b"@JKLMPSTX".contains(last) {
            come_back(parser);
        }
        match (inner, last) {
            ([], b's') => parser.process(b"\x1b7"),
            ([], b'u') => parser.process(b"\x1b8"),
            (b"!", b'p') => {
                *self = Self { title: std::mem::take(&mut self.title), ..Self::default() };
                // A soft reset leaves the cursor where it is.
                let (row, column) = parser.screen().cursor_position();
                let place = format!(
                    "\x1b[?6l\x1b[r\x1b[?25h\x1b[?1l\x1b>\x1b[0m\x1b[{};{}H",
                    row + 1,
                    column + 1
                );
                parser.process(place.as_bytes());
            }
            (b"3", b'J') => {
                *parser.callbacks_mut() =
                    Above { limit: parser.callbacks().limit, ..Above::default() }
            }
            (_, b'I' | b'Z') => tab(inner, *last == b'I', parser),
            ([b'?', modes @ ..], b'h' | b'l') => {
                for mode in modes.split(|byte| *byte == b';') {
                    self.set(mode, *last, parser);
                }
            }
            _ => parser.process(sequence),
        }
    }

    fn set(&mut self, mode: &[u8], last: u8, parser: &mut vt100::Parser<Above>) {
        let on = last == b'h';
        let number: Option<u16> = std::str::from_utf8(mode).ok().and_then(|mode| mode.parse().ok());
        match number {
            Some(1047) if on => parser.process(b"\x1b[?47h"),
            Some(1047) => parser.process(b"\x1b[?47l"),
            Some(1048) => parser.process(if on { b"\x1b7" } else { b"\x1b8" }),
            Some(number) if MODES.contains(&number) => {
                if on == (number == 7) {
                    self.modes.remove(&number);
                } else {
                    self.modes.insert(number, on);
                }
            }
            Some(number) => {
                parser.process(format!("\x1b[?{number}{}", char::from(last)).as_bytes());
            }
            None => {}
        }
    }

    fn string(&mut self, sequence: &[u8]) {
        let data = sequence.strip_prefix(b"\x1b]0;").or_else(|| sequence.strip_prefix(b"\x1b]2;"));
        let Some(data) = data else { return };
        let title = data.strip_suffix(b"\x1b\\").or_else(|| data.strip_suffix(b"\x07"));
        let title = title.unwrap_or_default();
        self.title = title.get(..MAX_TITLE).unwrap_or(title).to_vec();
    }
}

/// Tabs forwards or backwards, with a stop every eight columns.
fn tab(count: &[u8], forwards: bool, parser: &mut vt100::Parser<Above>) {
    let count = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok());
    let count = count.unwrap_or(1_u16).clamp(1, MAX_COLUMNS);
    let column = parser.screen().cursor_position().1;
    let column = if forwards {
        (column / 8).saturating_add(count).saturating_mul(8)
    } else {
        column.div_ceil(8).saturating_sub(count) * 8
    };
    parser.process(format!("\x1b[{}G", column.saturating_add(1)).as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TerminalSize = TerminalSize { columns: 20, rows: 5 };

    fn drawn(output: &str) -> Screen {
        let mut screen = Screen::new(SIZE, 0);
        screen.feed(output.as_bytes());
        screen
    }

    /// A snapshot draws the same on a new terminal, and on one that shows something else; and what is
    /// drawn after it looks the same, too.
    #[track_caller]
    fn check(output: &str, more: &str) {
        let mut screen = drawn(output);
        let snapshot = screen.snapshot(&VecDeque::new());
        let mut fresh = Screen::new(SIZE, 0);
        fresh.feed(&snapshot);
        let mut other = drawn(
            "\x1b[?1049h\x1b[2;4r\x1b[?6hxx\x1b[?1003;1006;2004;1004h\x1b(0\x1b[31m\x1b[?25l",
        );
        other.feed(&snapshot);
        for step in ["", more] {
            screen.feed(step.as_bytes());
            fresh.feed(step.as_bytes());
            other.feed(step.as_bytes());
            assert_eq!(fresh.contents(), screen.contents(), "{output:?} {step:?}");
            assert_eq!(other.contents(), screen.contents(), "{output:?} {step:?}");
        }
        let mut asks = false;
        Scanner::default().scan(&snapshot, |piece| asks |= piece.is_query());
        assert!(!asks, "a snapshot asks nothing");
    }

    #[test]
    fn a_snapshot_draws_the_same() {
        check("plain\r\ntext \x1b[1;31mred", "more");
        check("wraps wraps wraps wraps wraps", "x");
        check("full line of 20 chars", "\x1b[Kx");
        check("12345678901234567890", "x");
        check("\x1b[5;20Hx", "y");
        check("a\x1b[?2004h\x1b[?1h\x1b=\x1b[?1002;1006h\x1b[?25l\x1b[?1004h\x1b[4 q", "b");
        check("\x1b]2;a title\x07", "");
        check("\x1b[2;4rin margins\x1b[4;1H", "\n\n\nx");
        check("\x1b[2;4r\x1b[?6h\x1b[2;3Hx", "\x1b[Hy\x1b[?6lz");
        check("one\x1b7two\x1b[31m three", "\x1b8x");
        check("a\x1b[ub\x1b[sc", "\x1b[ud");
        check("\u{65e5}\u{672c}\u{8a9e} e\u{301}", "!");
    }

    #[test]
    fn both_screens_are_in_a_snapshot() {
        check(
            "$ vim\r\nold \x1b[32mgreen\x1b[?1049h\x1b[2J\x1b[Hvim \x1b[7mstatus",
            "\x1b[?1049lback",
        );
        check("a\x1b[31m\x1b7b\x1b[?47hother", "\x1b[?47lx\x1b8y");
        check("main\x1b[?1047hother\x1b[2;3r", "\x1b[?1047lx");
        check("main\x1b[?1049hfirst\x1b[?1049lx", "\x1b[?1049hy");
    }

    #[test]
    fn lines_are_drawn_by_whatever_means() {
        let mut screen = drawn("\x1b(0lqk\x1b(B q \x1b)0\x0eq\x0fq");
        assert_eq!(screen.parser.screen().contents(), "┌─┐ q ─q");
        check("\x1b(0lq", "k\x1b(Bk");
        check("\x1b)0\x0e", "q\x0fq");
        screen.feed(b"\x1bc\x1b[9Gx\x1b[Zy\x1b[Iz");
        assert_eq!(screen.parser.screen().contents(), "        y       z");
    }

    #[test]
    fn rows_that_left_the_screen_come_first() {
        let mut screen = Screen::new(SIZE, 1 << 20);
        for line in 0..30 {
            screen.feed(format!("\x1b[31mline {line}\r\n").as_bytes());
        }
        screen.feed(b"\x1b[?1049h1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n\x1b[?1049l");
        let above = screen.parser.callbacks().rows.clone();
        assert_eq!(above.len(), 26);
        assert!(above[0].contains("line 0") && above[25].contains("line 25"), "{above:?}");
        let snapshot = screen.snapshot(&above);
        let mut other = Screen::new(SIZE, 1 << 20);
        other.feed(&snapshot);
        assert_eq!(other.contents(), screen.contents());
        assert_eq!(other.above(), above);
        let mut few = Screen::new(SIZE, 50);
        few.feed(&snapshot);
        let newest = few.above();
        assert!(newest.len() == 2 && newest[1].contains("line 25"), "{newest:?}");
        screen.feed(b"\x1b[3J");
        assert!(screen.above().is_empty());
    }

    #[test]
    fn sizes_are_bounded() {
        let mut screen = Screen::new(TerminalSize { columns: 0, rows: 0 }, 0);
        screen.feed("日本".as_bytes());
        screen.resize(TerminalSize { columns: u16::MAX, rows: u16::MAX });
        screen.feed(b"x");
        assert_eq!(screen.parser.screen().size().0.get(), MAX_ROWS);
    }
}
