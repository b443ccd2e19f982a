//! Says that a terminal goes on through another server, beside the screen: that belongs to what runs in it.

use std::io::{self, IsTerminal, Write};

use crate::cli::context::variable;
use crate::cli::output::clean;

/// Keeps the window's title, and brings it back.
const KEEP_TITLE: &str = "\u{1b}[22;2t";
const BRING_TITLE_BACK: &str = "\u{1b}[23;2t";
/// Terminals that have no title and may show what is to set one.
const UNTITLED: [&str; 2] = ["dumb", "linux"];

/// Where it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the window's title.
    Title,
    /// On standard error, which is no terminal.
    Lines,
    Nowhere,
}

/// Where a terminal went on.
#[derive(Debug)]
pub(super) struct Elsewhere {
    place: Place,
    space: String,
    /// Another server has answered, and did not show the terminal yet.
    next: Option<String>,
    /// The last that has shown it.
    through: Option<String>,
}

impl Elsewhere {
    /// Of a terminal that has not gone anywhere yet.
    pub(super) fn new(space: &str) -> Self {
        let term = variable("TERM").unwrap_or_else(|| "dumb".to_owned());
        let place = match io::stderr().is_terminal() {
            false => Place::Lines,
            true if UNTITLED.contains(&term.as_str()) => Place::Nowhere,
            true => Place::Title,
        };
        Self { place, space: clean(space), next: None, through: None }
    }

    /// The server of this address is tried.
    pub(super) fn tries(&mut self, address: &str) {
        self.next = Some(clean(address));
    }

    /// The terminal is shown: by another server, if one was tried.
    pub(super) fn is_shown(&mut self) {
        let Some(address) = self.next.take() else { return };
        let space = &self.space;
        match self.place {
            Place::Lines => {
                write(&format!("knot: the terminal of {space} goes on through {address}\n"))
            }
            Place::Title => {
                let keep = if self.through.is_none() { KEEP_TITLE } else { "" };
                write(&format!("{keep}\u{1b}]2;{space} goes on through {address}\u{7}"));
            }
            Place::Nowhere => {}
        }
        self.through = Some(address);
    }

    /// It is looked at no more: what to add to how it ended.
    pub(super) fn end(self) -> String {
        let Some(address) = self.through else { return String::new() };
        if self.place == Place::Title {
            write(BRING_TITLE_BACK);
        }
        format!("; it went on through {address}")
    }
}

/// What cannot be said is no reason to fail.
fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
