//! From one screen to the other, as terminals do it: the cursor stays where it is on the glass, and nothing is left on
//! the alternate screen for the next time.

use super::{
    Above, after, origin,
    rest::{Rest, Sets},
};

type Parser = vt100::Parser<Above>;

impl Rest {
    /// Goes to the alternate screen, or back to the main one.
    pub(super) fn switch(&mut self, to_alternate: bool, parser: &mut Parser) {
        if parser.screen().alternate_screen() == to_alternate {
            return;
        }
        let (row, column) = parser.screen().cursor_position();
        if !to_alternate {
            self.clear_alternate(parser);
        }
        parser.process(if to_alternate { b"\x1b[?47h" } else { b"\x1b[?47l" });
        if !origin(parser.screen()) {
            parser.process(format!("\x1b[{};{}H", row + 1, column + 1).as_bytes());
        }
    }

    fn clear_alternate(&mut self, parser: &mut Parser) {
        self.saved.alternate = Sets::default();
        self.keys.alternate.clear();
        // What was saved of colours is the same for both screens.
        let colours = parser.screen().attributes_formatted();
        let saved = after(parser.screen(), b"\x1b8").attributes_formatted();
        let blank = format!("\x1b[?6l\x1b[r\x1b[0m\x1b[2J\x1b[H{saved}\x1b7{colours}");
        parser.process(blank.as_bytes());
    }
}
