//! `knot space terminal`: a login shell in a space, on this terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::context::{Context, is_interactive, variable};
use super::exec::status;
use super::failure::Failure;
use super::output::clean;
use super::prompt::RawMode;
use super::socket::{End, Signals, Socket, size};
use crate::api::types::exec::{Ended, Open};

/// What brings a terminal back from programs that did not end by themselves: colours, cursor, mouse, pasting.
const RESET: &str =
    "\u{1b}[0m\u{1b}[?25h\u{1b}[?1000l\u{1b}[?1002l\u{1b}[?1003l\u{1b}[?1006l\u{1b}[?2004l";

/// What leaves the alternate screen; harmful on the normal one.
const LEAVE_SCREEN: &str = "\u{1b}[?1049l";

/// Opens a terminal; gives the shell's status.
pub(crate) async fn run(context: &Context, space: &str) -> Result<u8, Failure> {
    if !is_interactive() {
        return Err(Failure::usage(format!(
            "`knot space terminal` needs a terminal on standard input and output; without one use \
             `knot space exec {space} -- COMMAND`"
        )));
    }
    let client = context.client().map_err(Failure::into_could_not_run)?;
    let environment: BTreeMap<String, String> = ["TERM", "COLORTERM"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), variable(name)?)))
        .collect();
    let open = Open { command: Vec::new(), environment, directory: None, terminal: Some(size()) };
    let failed =
        |error: io::Error| Failure::could_not_run(format!("this terminal cannot be used: {error}"));
    let socket = Socket::open(&client, space, &open).await.map_err(Failure::into_could_not_run)?;
    let signals = Signals::of_terminal().map_err(failed)?;
    let mut screen = Screen::default();
    let raw = RawMode::enter().map_err(failed)?;
    let end = socket.converse(tokio::io::stdin(), signals, |output| screen.see(output)).await;
    if !matches!(end, Ok(End::Command(_))) {
        screen.leave();
    }
    drop(raw);
    let (space, address) = (clean(space), client.address());
    let (status, why) = match end? {
        End::Command(ended @ Ended::Code(code)) => {
            (status(ended), format!("the shell exited with status {code}"))
        }
        End::Command(ended @ Ended::Signal(number)) => {
            (status(ended), format!("signal {number} ended the shell"))
        }
        End::Told(number) => {
            (status(Ended::Signal(number)), format!("signal {number} ended this program"))
        }
        End::Failed(why) => {
            return Err(Failure::could_not_run(format!("the terminal of {space} ended: {why}")));
        }
        End::Lost(why) => {
            return Err(Failure::could_not_run(format!(
                "the terminal of {space} ended: the connection to {address} was lost: {why}; open it again with \
                 `knot space terminal {space}`"
            )));
        }
    };
    // It may be the terminal that went away.
    let _ = writeln!(io::stderr(), "knot: the terminal of {space} ended: {why}");
    Ok(status)
}

/// Whether the programs in the terminal are on its alternate screen, from their output.
#[derive(Debug, Default)]
struct Screen {
    is_alternate: bool,
    /// The end of what was seen: a sequence may be cut.
    tail: Vec<u8>,
}

impl Screen {
    fn see(&mut self, output: &[u8]) {
        let length = LEAVE_SCREEN.len();
        let seen = [self.tail.as_slice(), output].concat();
        for sequence in seen.windows(length) {
            if let Some(end) = sequence.strip_prefix(b"\x1b[?1049") {
                self.is_alternate = end == b"h" || (self.is_alternate && end != b"l");
            }
        }
        self.tail = seen.get(seen.len().saturating_sub(length - 1)..).unwrap_or_default().to_vec();
    }

    /// Makes the terminal usable again where its programs had no chance to.
    fn leave(&self) {
        let mut out = io::stdout().lock();
        let screen = if self.is_alternate { LEAVE_SCREEN } else { "" };
        let _ = write!(out, "{screen}{RESET}\r\n").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alternate_screen_is_known_wherever_the_output_is_cut() {
        let output = b"text\x1b[?1049hvim\x1b[?25l";
        for size in 1..output.len() {
            let mut screen = Screen::default();
            output.chunks(size).for_each(|piece| screen.see(piece));
            assert!(screen.is_alternate, "pieces of {size}");
            LEAVE_SCREEN.as_bytes().chunks(size).for_each(|piece| screen.see(piece));
            assert!(!screen.is_alternate, "pieces of {size}");
        }
    }
}
