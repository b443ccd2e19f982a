//! What a snapshot draws, beside what it was taken of.
//!
//! | State of a terminal | Kept by | In a snapshot |
//! |---|---|---|
//! | Cells, their colours, bold, dim, italic, underlined, inverse | `vt100` | as it was |
//! | Both screens, cursor, hidden cursor, its shape (DECSCUSR) | `vt100` | as it was |
//! | Saved cursor with colours, one for each screen | `vt100` | as it was |
//! | The same: its character sets | `rest` | added |
//! | Margins (DECSTBM), origin mode | `vt100` | as it was |
//! | Cursor and keypad keys (1, `ESC =`), mouse (9, 1000 to 1003, 1005, 1006), bracketed paste | `vt100` | as it was |
//! | Keypad by 66 | `vt100`, as `ESC =` | added |
//! | Focus (1004), 1015, 1016, 2031, title | `rest` | as it was |
//! | Autowrap (7) | `rest` | as it was; what is drawn by it: added |
//! | Reversed colours (5), blinking (12), reverse wrap (45), arrows by the wheel (1007) | `rest` | added |
//! | Insert mode (IRM), line feed as a new line (LNM), with what is drawn by them | `rest` | added |
//! | Line drawing in G0 and G1 | `rest` | as it was |
//! | The same in G2 and G3, locked | `rest` | added |
//! | Tab stops | `rest` | added |
//! | Palette, colours of text, background and cursor (OSC 4, 10 to 12, 104, 110 to 112) | `rest` | added |
//! | Keyboard as kitty has it, for each screen; `modifyOtherKeys` | `rest` | added |
//! | The middle of a sequence, or of a character | scanner, `rest` | added |
//! | Synchronized output (2026) | nobody | never: what is half drawn shows for a moment |
//! | Hyperlinks (OSC 8), images, blinking, struck out and hidden text, shapes and colours of underlines | nobody | never |
//! | National character sets, single shifts, protected cells, stacks of titles, rows of double width, what REP repeats | nobody | never |

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
        "\x1b[?1049h\x1b[2;4r\x1b[?6hxx\x1b[?1003;1006;2004;1004h\x1b(0\x1b[31m\x1b[?25l\
         \x1b[3g\x1b[4;20h\x1b[?7;5;45l\x1b*0\x1bn\x1b[>5u\x1b[>4;2m",
    );
    // Colours that a program has touched are seen to, and only those: the rest may be a viewer's own.
    if output.contains("\x1b]") {
        other.feed(b"\x1b]4;1;red;9;#fff\x07\x1b]11;blue\x07\x1b]12;");
    }
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
    check("\x1b]2;a title\x07\x1b]104\x07", "");
    check("\x1b[2;4rin margins\x1b[4;1H", "\n\n\nx");
    check("\x1b[2;4r\x1b[?6h\x1b[2;3Hx", "\x1b[Hy\x1b[?6lz");
    check("one\x1b7two\x1b[31m three", "\x1b8x");
    check("a\x1b[ub\x1b[sc", "\x1b[ud");
    check("\u{65e5}\u{672c}\u{8a9e} e\u{301}", "!");
}

#[test]
fn both_screens_are_in_a_snapshot() {
    check("$ vim\r\nold \x1b[32mgreen\x1b[?1049h\x1b[2J\x1b[Hvim \x1b[7mstatus", "\x1b[?1049lback");
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

#[test]
fn tab_stops_are_in_a_snapshot() {
    check("\x1b[3g\x1b[4G\x1bH\x1b[11G\x1bH\r", "a\tb\tc\td\x1b[Ze");
    check("\x1b[9G\x1b[g\r", "a\tb\x1b[2Ic");
    check("\x1b[3g\x1b[?1049h", "\tx\x1b[?1049l\ty");
    check("\x1b[3g\x1bc", "\tx");
    check("12345678901234567890", "\tx");
    let mut screen = drawn("\x1b[3g\x1b[4G\x1bH\ra\tb\tc");
    assert_eq!(screen.parser.screen().contents(), "a  b               c");
    screen.feed(b"\x1b[?5W\r\x1b[Kx\ty");
    assert_eq!(screen.parser.screen().contents(), "x       y");
}

#[test]
fn what_is_typed_in_insert_mode_moves_the_rest() {
    check("abc\r\x1b[4h", "x\u{65e5}\x1b[4ly");
    let screen = drawn("abc\r\x1b[4hx\u{65e5}e\u{301}");
    assert_eq!(screen.parser.screen().contents(), "x\u{65e5}e\u{301}abc");
}

#[test]
fn without_wrapping_the_last_column_is_written_again() {
    check("\x1b[?7l1234567890123456789012345", "x\x1b[?7hyz");
    let screen = drawn("\x1b[?7l1234567890123456789012345\u{65e5}");
    assert_eq!(screen.parser.screen().contents(), "12345678901234567895");
    check("\x1b[20h", "a\nb\x1b[20lc\nd");
}

#[test]
fn a_cursor_behind_the_last_column_moves_from_that_one() {
    for (moves, shown) in [("\x08", 'x'), ("\x1b[D", 'x'), ("\x1b[B\x1b[A", '0')] {
        let screen = drawn(&format!("12345678901234567890{moves}x"));
        let last = screen.parser.screen().contents().chars().nth(18);
        assert_eq!(last, Some(if shown == 'x' { 'x' } else { '9' }), "{moves:?}");
        assert_eq!(screen.parser.screen().cursor_position().0, 0, "{moves:?}");
    }
}

#[test]
fn colours_are_in_a_snapshot() {
    check("\x1b]4;1;rgb:11/22/33;200;#fff\x1b\\\x1b]10;red;blue\x07\x1b]12;green\x07", "x");
    check("\x1b]4;1;red;2;blue\x07\x1b]104;1\x07\x1b]11;red\x07\x1b]111\x07", "\x1b]104\x07");
    let untouched = drawn("\x1b]4;1;?\x07\x1b]4;256;red\x07\x1b]10;?\x07");
    let snapshot = untouched.snapshot(&VecDeque::new());
    assert!(!snapshot.windows(3).any(|three| three == b"]10"), "a viewer's own are left alone");
    check("a\x1b[58;2;9;9;9mb\x1b[4:3mc\x1b[38:2::1:2:3md\x1b[48:5:7me\x1b[0;58;5;1;1mf", "g");
    let screen = drawn("\x1b[1;58;2;0;0;0;4:3;38:2::1:2:3m");
    let screen = screen.parser.screen();
    assert!(screen.bold() && screen.underline() && !screen.dim());
    assert_eq!(screen.fgcolor(), vt100::Color::Rgb(1, 2, 3));
}

#[test]
fn keys_and_sets_are_in_a_snapshot() {
    check("\x1b[>1u\x1b[>5u\x1b[=3;1u\x1b[?1049h\x1b[>8u", "\x1b[<u\x1b[?1049l\x1b[<u");
    check("\x1b[=5u\x1b[=2;2u\x1b[=1;3u\x1b[>4;2m", "\x1b[<u\x1b[>4m");
    check("\x1b*0\x1bnq", "q\x0fq");
    check("\x1b(0\x1b7\x1b(B\x1b[3;3H", "\x1b8q");
    check("\x1b)0\x0e\x1b[?1049h\x0f", "q\x1b[?1049lq");
    check("\x1b[?5;45;1007h\x1b[?12l\x1b[?66h", "\x1b[!px");
}

#[test]
fn a_snapshot_may_be_taken_in_the_middle_of_anything() {
    for whole in ["\x1b[1;31mx", "\u{65e5}x", "\x1b]2;title\x1b\\x", "\x1b(0q", "\x1b[?7l\u{65e5}x"]
    {
        for cut in 1..whole.len() {
            let (before, after) = whole.as_bytes().split_at(cut);
            let mut screen = drawn("");
            screen.feed(before);
            let mut other = drawn("other");
            other.feed(&screen.snapshot(&VecDeque::new()));
            for screen in [&mut screen, &mut other] {
                screen.feed(after);
            }
            assert_eq!(other.contents(), screen.contents(), "{whole:?} cut at {cut}");
        }
    }
}
