//! A person at a terminal.

use std::{
    os::fd::OwnedFd,
    process::{Child, Command},
};

use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

use crate::screen::{Screen, put_on, resize};

/// A person at a terminal, with a program on it.
pub(crate) struct Person {
    screen: Screen,
    pub(crate) line: OwnedFd,
    pub(crate) child: Child,
}

impl Person {
    /// A person with a program on the terminal.
    pub(crate) fn at(command: &mut Command) -> Self {
        let (screen, line) = Screen::new();
        resize(&line, 101, 33);
        let mut modes = tcgetattr(&line).unwrap();
        modes.special_codes[SpecialCodeIndex::VERASE] = 8;
        tcsetattr(&line, OptionalActions::Now, &modes).unwrap();
        let child = put_on(command, &line).spawn().unwrap();
        Self { screen, line, child }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.screen.types(keys);
    }

    /// Looks until the screen shows the words, and gives all that it showed.
    #[track_caller]
    pub(crate) fn sees(&mut self, words: &str) -> String {
        self.screen.sees(words)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
