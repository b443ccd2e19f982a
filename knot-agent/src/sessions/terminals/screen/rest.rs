//! What `vt100` does not keep of a terminal: character sets, tab stops, modes, colours, keys, the title.
//!
//! Each piece of output comes here first. What `vt100` understands goes on to it, if need be in words that it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use knot_core::agent::sequences::Piece;

use super::{
    Above, MAX_COLUMNS,
    colours::{self, Palette},
    print::{come_back, come_back_from_nothing, unfinished},
};

/// Private modes that nothing is drawn by here: reversed colours, wrapping at the margin, going back over a wrapped
/// line's beginning, how a viewer's terminal reports focus, the mouse, and light or dark.
const MODES: [u16; 7] = [5, 7, 45, 1004, 1015, 1016, 2031];
/// The same where terminals differ in what they begin with: a blinking cursor, and a wheel that types arrows.
const EITHER: [u16; 2] = [12, 1007];
/// Wrapping at the margin, on at first.
const WRAP: u16 = 7;
/// The longest title that is kept, in bytes.
const MAX_TITLE: usize = 200;
/// How far apart tab stops are where nobody has set any.
const TAB: u16 = 8;
/// The most settings of the keyboard that are kept one above the other, as kitty has them.
const MAX_KEYS: usize = 16;

type Parser = vt100::Parser<Above>;

/// What `vt100` does not keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) sets: Sets,
    /// What was in use when the cursor was saved, on the main screen and the alternate one.
    pub(super) saved: Both<Sets>,
    modes: BTreeMap<u16, bool>,
    /// Characters move what is behind them (IRM); a line feed is a carriage return as well (LNM).
    pub(super) inserts: bool,
    pub(super) returns: bool,
    /// Columns where there is a tab stop and would be none if nobody had set any, or the other way round.
    tabs: BTreeSet<u16>,
    palette: Palette,
    /// How keys are sent, on the main screen and the alternate one (kitty): the first by itself, the others one above
    /// the other; and how keys with modifiers are (xterm).
    pub(super) keys: Both<Vec<u8>>,
    modified: Option<u8>,
    title: Option<Vec<u8>>,
    /// A character that was cut off.
    pub(super) partial: Vec<u8>,
}

/// What each of the two screens has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Both<T> {
    main: T,
    pub(super) alternate: T,
}

impl<T> Both<T> {
    pub(super) fn of(&self, is_alternate: bool) -> &T {
        if is_alternate { &self.alternate } else { &self.main }
    }

    fn of_mut(&mut self, is_alternate: bool) -> &mut T {
        if is_alternate { &mut self.alternate } else { &mut self.main }
    }
}

/// Which characters are for drawing lines: of the four sets, the one in use counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    draws: [bool; 4],
    used: usize,
}

impl Sets {
    pub(super) fn draws_now(self) -> bool {
        self.draws.get(self.used).copied().unwrap_or_default()
    }

    fn set(&mut self, which: usize, draws: bool) {
        if let Some(set) = self.draws.get_mut(which) {
            *set = draws;
        }
    }

    /// Writes what makes a terminal that uses `before` use these.
    pub(super) fn write(self, before: Self, out: &mut String) {
        for (name, (now, was)) in "()*+".chars().zip(self.draws.into_iter().zip(before.draws)) {
            if now != was {
                let _ = write!(out, "\x1b{name}{}", if now { '0' } else { 'B' });
            }
        }
        if self.used != before.used {
            out.push_str(
                ["\x0f", "\x0e", "\x1bn", "\x1bo"].get(self.used).copied().unwrap_or("\x0f"),
            );
        }
    }
}

impl Rest {
    /// Takes a piece of output.
    pub(super) fn take(&mut self, piece: Piece<'_>, parser: &mut Parser) {
        if let Piece::Text(text) = piece {
            let partial = unfinished(&self.partial, text);
            self.print(text, parser);
            self.partial = partial;
            return;
        }
        self.partial.clear();
        match piece {
            Piece::Text(_) | Piece::Long(_) => {}
            Piece::Shift(byte) => self.sets.used = usize::from(byte == 0x0e),
            Piece::Escape(sequence) => self.escape(sequence, parser),
            Piece::Control(sequence) => self.control(sequence, parser),
            Piece::String(sequence) => self.string(sequence),
        }
    }

    /// Whether text goes on in the next line where one is full.
    pub(super) fn wraps(&self) -> bool {
        self.modes.get(&WRAP).copied().unwrap_or(true)
    }

    /// All this on screens of so many columns: those that come later have tab stops of their own.
    pub(super) fn within(&self, columns: u16) -> Self {
        let mut rest = self.clone();
        rest.tabs.retain(|column| *column < columns);
        rest
    }

    /// Writes the tab stops of a terminal of any.
    pub(super) fn write_tabs(&self, columns: u16, out: &mut String) {
        out.push_str("\x1b[3g");
        for column in (1..columns).filter(|column| self.is_stop(*column)) {
            let _ = write!(out, "\x1b[{}G\x1bH", column + 1);
        }
    }

    /// Writes how keys are sent on a screen that was just entered.
    pub(super) fn write_keys(&self, is_alternate: bool, out: &mut String) {
        let mut keys = self.keys.of(is_alternate).iter();
        if let Some(first) = keys.next().filter(|first| **first != 0) {
            let _ = write!(out, "\x1b[={first};1u");
        }
        for above in keys {
            let _ = write!(out, "\x1b[>{above}u");
        }
    }

    /// Writes what is left once everything is drawn.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut text = String::new();
        for (mode, on) in &self.modes {
            let _ = write!(text, "\x1b[?{mode}{}", if *on { 'h' } else { 'l' });
        }
        for (mode, on) in [(4, self.inserts), (20, self.returns)] {
            if on {
                let _ = write!(text, "\x1b[{mode}h");
            }
        }
        if let Some(modified) = self.modified {
            let _ = write!(text, "\x1b[>4;{modified}m");
        }
        self.sets.write(Sets::default(), &mut text);
        out.extend_from_slice(text.as_bytes());
        self.palette.write(out);
        if let Some(title) = &self.title {
            out.extend_from_slice(b"\x1b]2;");
            out.extend_from_slice(title);
            out.push(7);
        }
    }

    fn is_stop(&self, column: u16) -> bool {
        column.is_multiple_of(TAB) != self.tabs.contains(&column)
    }

    /// The first column is as good as a stop: nothing is before it.
    fn set_stop(&mut self, column: u16, stop: bool) {
        if column == 0 {
            return;
        }
        if column.is_multiple_of(TAB) == stop {
            self.tabs.remove(&column);
        } else {
            self.tabs.insert(column);
        }
    }

    /// Tabs forwards or backwards. A cursor that waits behind the last column stays there.
    pub(super) fn tab(&self, count: &[u8], forwards: bool, parser: &mut Parser) {
        let columns = parser.screen().size().1.get();
        let mut column = parser.screen().cursor_position().1;
        if column >= columns {
            return;
        }
        if forwards && count.is_empty() && self.tabs.is_empty() {
            return parser.process(b"\t");
        }
        for _ in 0..number(count).unwrap_or(1).clamp(1, MAX_COLUMNS) {
            let next = if forwards {
                (column + 1..columns).find(|column| self.is_stop(*column))
            } else {
                (0..column).rev().find(|column| self.is_stop(*column))
            };
            column = next.unwrap_or(if forwards { columns - 1 } else { 0 });
        }
        parser.process(format!("\x1b[{}G", column.saturating_add(1)).as_bytes());
    }

    fn save(&mut self, parser: &mut Parser, sequence: &[u8]) {
        *self.saved.of_mut(parser.screen().alternate_screen()) = self.sets;
        parser.process(sequence);
    }

    fn restore(&mut self, parser: &mut Parser, sequence: &[u8]) {
        parser.process(sequence);
        come_back_from_nothing(parser);
        self.sets = *self.saved.of(parser.screen().alternate_screen());
    }

    fn escape(&mut self, sequence: &[u8], parser: &mut Parser) {
        match sequence {
            [_, set @ (b'(' | b')' | b'*' | b'+'), .., name] => {
                let draws = *name == b'0' && sequence.len() == 3;
                self.sets.set(usize::from(set - b'('), draws);
            }
            [_, set @ (b'-' | b'.' | b'/'), _] => self.sets.set(usize::from(set - b','), false),
            [_, b'%', b'@' | b'G'] => (self.sets.used, self.sets.draws[0]) = (0, false),
            [_, b'~'] => self.sets.used = 1,
            [_, b'n' | b'}'] => self.sets.used = 2,
            [_, b'o' | b'|'] => self.sets.used = 3,
            [_, b'H'] => self.set_stop(column(parser), true),
            [_, b'7'] => self.save(parser, sequence),
            [_, b'8'] => self.restore(parser, sequence),
            [_, b'c'] => {
                let Self { title, mut palette, .. } = std::mem::take(self);
                palette.clear();
                *self = Self { title, palette, ..Self::default() };
                parser.process(sequence);
            }
            // Index and next line.
            [_, b'D'] => {
                come_back(parser);
                parser.process(b"\n");
            }
            [_, b'E'] => parser.process(b"\r\n"),
            [_, b'M'] => {
                come_back(parser);
                parser.process(sequence);
            }
            _ => parser.process(sequence),
        }
    }

    fn control(&mut self, sequence: &[u8], parser: &mut Parser) {
        let Some(([_, _], [inner @ .., last])) = sequence.split_at_checked(2) else { return };
        // What moves, erases, inserts or scrolls.
        if b"@ABCDEFJKLMPSTXade".contains(last) {
            come_back(parser);
        }
        match (inner, last) {
            ([], b's') => self.save(parser, b"\x1b7"),
            ([], b'u') => self.restore(parser, b"\x1b8"),
            ([mark @ (b'>' | b'<' | b'='), settings @ ..], b'u') => {
                let is_alternate = parser.screen().alternate_screen();
                set_keys(self.keys.of_mut(is_alternate), *mark, settings);
            }
            ([b'>', b'4', rest @ ..], b'm' | b'n') => {
                let value = rest.strip_prefix(b";").and_then(number);
                self.modified = value.and_then(|value| u8::try_from(value).ok());
            }
            ([b'0'..=b'9' | b';' | b':', ..], b'm') if !colours::is_known(inner) => {
                if let Some(known) = colours::known(inner) {
                    parser.process(&known);
                }
            }
            (b"!", b'p') => self.soft_reset(parser),
            (b"3", b'J') => {
                *parser.callbacks_mut() =
                    Above { limit: parser.callbacks().limit, ..Above::default() }
            }
            (_, b'I' | b'Z') => self.tab(inner, *last == b'I', parser),
            (b"" | b"0", b'g') => self.set_stop(column(parser), false),
            (b"3", b'g') => {
                let columns = 1..parser.screen().size().1.get();
                self.tabs = columns.filter(|column| column.is_multiple_of(TAB)).collect();
            }
            (b"?5", b'W') => self.tabs.clear(),
            // Relative, by the names that are less common.
            (_, b'a') => parser.process(&[b"\x1b[", inner, b"C"].concat()),
            (_, b'e') => parser.process(&[b"\x1b[", inner, b"B"].concat()),
            ([b'?', modes @ ..], b'h' | b'l') => {
                for mode in modes.split(|byte| *byte == b';') {
                    self.set(mode, *last == b'h', parser);
                }
            }
            (modes, b'h' | b'l') => {
                for mode in modes.split(|byte| *byte == b';') {
                    match mode {
                        b"4" => self.inserts = *last == b'h',
                        b"20" => self.returns = *last == b'h',
                        _ => {}
                    }
                }
            }
            _ => parser.process(sequence),
        }
    }

    /// As terminals do it: tab stops, colours, keys and title stay, and the cursor where it is.
    fn soft_reset(&mut self, parser: &mut Parser) {
        let before = std::mem::take(self);
        let Self { tabs, palette, keys, title, mut saved, .. } = before;
        *saved.of_mut(parser.screen().alternate_screen()) = Sets::default();
        *self = Self { tabs, palette, keys, title, saved, ..Self::default() };
        let (row, column) = parser.screen().cursor_position();
        let reset = "\x1b[?6l\x1b[r\x1b[?25h\x1b[?1;2004l\x1b>\x1b[0m\x1b[H\x1b7";
        parser.process(format!("{reset}\x1b[{};{}H", row + 1, column + 1).as_bytes());
    }

    fn set(&mut self, mode: &[u8], on: bool, parser: &mut Parser) {
        match number(mode) {
            Some(66) => parser.process(if on { b"\x1b=" } else { b"\x1b>" }),
            Some(47 | 1047) => self.switch(on, parser),
            Some(1048) if on => self.save(parser, b"\x1b7"),
            Some(1048) => self.restore(parser, b"\x1b8"),
            Some(1049) if on => {
                self.save(parser, b"\x1b7");
                self.switch(true, parser);
            }
            Some(1049) => {
                self.switch(false, parser);
                self.restore(parser, b"\x1b8");
            }
            Some(number) if EITHER.contains(&number) => {
                self.modes.insert(number, on);
            }
            Some(number) if MODES.contains(&number) => {
                if on == (number == WRAP) {
                    self.modes.remove(&number);
                } else {
                    self.modes.insert(number, on);
                }
            }
            Some(number) => {
                let last = if on { 'h' } else { 'l' };
                parser.process(format!("\x1b[?{number}{last}").as_bytes());
            }
            None => {}
        }
    }

    fn string(&mut self, sequence: &[u8]) {
        let Some(data) = sequence.strip_prefix(b"\x1b]") else { return };
        let data = data.strip_suffix(b"\x1b\\").or_else(|| data.strip_suffix(b"\x07"));
        let data = data.unwrap_or_default();
        let (kind, rest) = match data.iter().position(|byte| *byte == b';') {
            Some(end) => (data.get(..end), data.get(end + 1..)),
            None => (Some(data), None),
        };
        let (kind, rest) = (kind.unwrap_or_default(), rest.unwrap_or_default());
        match number(kind) {
            Some(0 | 2) => self.title = Some(rest.get(..MAX_TITLE).unwrap_or(rest).to_vec()),
            Some(kind) => self.palette.set(kind, rest),
            None => {}
        }
    }
}

/// One of kitty's keyboard sequences: another setting above this one, so many taken away, or this one changed.
fn set_keys(keys: &mut Vec<u8>, mark: u8, settings: &[u8]) {
    let mut numbers = settings.split(|byte| *byte == b';').map(number);
    let value = numbers.next().flatten();
    let flags = u8::try_from(value.unwrap_or_default()).unwrap_or_default() & 0x1f;
    if keys.is_empty() {
        keys.push(0);
    }
    let height = keys.len();
    match (mark, numbers.next().flatten().unwrap_or(1), keys.last_mut()) {
        (b'>', ..) if height < MAX_KEYS => keys.push(flags),
        (b'<', ..) => match height.checked_sub(usize::from(value.unwrap_or(1).max(1))) {
            Some(left @ 1..) => keys.truncate(left),
            _ => keys.clear(),
        },
        (b'=', 1, Some(now)) => *now = flags,
        (b'=', 2, Some(now)) => *now |= flags,
        (b'=', 3, Some(now)) => *now &= !flags,
        _ => {}
    }
    if matches!(keys.as_slice(), [0]) {
        keys.clear();
    }
}

/// The column of the cursor: the last one also where it waits behind that.
fn column(parser: &Parser) -> u16 {
    let screen = parser.screen();
    screen.cursor_position().1.min(screen.size().1.get() - 1)
}

/// A number as sequences have it.
pub(super) fn number(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
