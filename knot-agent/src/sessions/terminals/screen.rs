//! What is on a terminal's screens, and how to draw it on another terminal.
//!
//! `vt100` keeps the screens, and [`rest`] what `vt100` does not. What no snapshot has is in `docs/src/pages.md`.

mod colours;
mod print;
mod rest;
mod switch;

use std::{
    collections::VecDeque,
    fmt::Write as _,
    num::NonZeroU16,
    panic::{AssertUnwindSafe, catch_unwind},
};

use knot_core::agent::{TerminalSize, sequences::Scanner};

use self::rest::{Rest, Sets};

/// Sizes beyond these are brought within: a cell takes 32 bytes.
const MAX_COLUMNS: u16 = 1_000;
const MAX_ROWS: u16 = 300;
/// What ends a row above the screen.
const ROW_END: &str = "\x1b[0m\r\n";
/// What brings a terminal of any state to the beginning: nothing half said, main screen, no modes or
/// margins, nothing on it.
const BLANK: &str = "\x18\x1b[?47l\x1b[!p\x1b[?6l\x1b[r\x1b[4;20l\x1b[?7h\x1b[?25h\x1b[?1l\x1b>\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[0m\
    \x1b[?5;9;45;1000;1002;1003;1004;1005;1006;1015;1016;2004;2026;2031l\x1b[0 q\x1b[<99u\x1b[>4m\
    \x1b]8;;\x07\x1b[H\x1b[2J";
/// What makes the alternate screen the one in use, with no keys but the usual.
const ALTERNATE: &str = "\x1b[?47h\x1b[<99u";

/// The screens of one terminal.
pub(super) struct Screen {
    parser: vt100::Parser<Above>,
    scanner: Scanner,
    rest: Rest,
    /// A size that counts from the next byte on: of several in a row only the last is drawn on.
    resized: Option<TerminalSize>,
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
            self.rest = self.rest.within(columns.get());
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
        let rest = &self.rest.within(screen.size().1.get());
        if screen.alternate_screen() {
            draw_screen(&mut out, &main(screen), rest);
            out.push_str(ALTERNATE);
        }
        draw_screen(&mut out, screen, rest);
        out.push_str(&screen.input_mode_formatted());
        let mut out = out.into_bytes();
        rest.write(&mut out);
        // Output may have been cut in the middle of a sequence, or of a character.
        out.extend_from_slice(&rest.partial);
        out.extend_from_slice(&self.scanner.unfinished());
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
            format!("{:?} {:?}", screen.size(), self.rest.within(screen.size().1.get())),
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
    saved_origin: bool,
    saved: (u16, u16),
    saved_attributes: String,
}

fn hidden(screen: &vt100::Screen) -> Hidden {
    let row = |output: &[u8]| after(screen, output).cursor_position().0;
    let top = row(b"\x1b[?6h\x1b[H");
    let margins = (top, row(b"\x1b[?6h\x1b[999H"));
    let saved = after(screen, b"\x1b8");
    Hidden {
        margins,
        origin: origin(screen),
        saved_origin: origin(&saved),
        saved: saved.cursor_position(),
        saved_attributes: saved.attributes_formatted(),
    }
}

/// Whether positions count from the first row of the margins.
fn origin(screen: &vt100::Screen) -> bool {
    after(screen, b"\x1b[2;3r\x1b[H").cursor_position().0 > 0
}

/// Draws the active one of the screens: contents, saved cursor, margins, tab stops, keys, cursor and colours.
fn draw_screen(out: &mut String, screen: &vt100::Screen, rest: &Rest) {
    let Hidden { margins, origin, saved_origin, saved, saved_attributes } = hidden(screen);
    let is_alternate = screen.alternate_screen();
    out.push_str("\x1b[?6l\x1b[r");
    rest.write_keys(is_alternate, out);
    // Some terminals have tab stops for each screen.
    rest.write_tabs(screen.size().1.get(), out);
    let columns = screen.size().1.get();
    let (row, column) = (saved.0 + 1, saved.1 + 1);
    // There are no margins yet, so that positions are the same either way.
    let (counts, not) = if saved_origin { ("\x1b[?6h", "\x1b[?6l") } else { ("", "") };
    let _ = write!(out, "{counts}\x1b[{row};{column}H\x1b[0m");
    if column > columns {
        // A cursor gets behind the last column by what is written there.
        out.push(' ');
    }
    out.push_str(&saved_attributes);
    let sets = *rest.saved.of(is_alternate);
    sets.write(Sets::default(), out);
    out.push_str("\x1b7");
    Sets::default().write(sets, out);
    out.push_str(not);
    out.push_str(&screen.contents_formatted());
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

#[cfg(test)]
mod tests;
