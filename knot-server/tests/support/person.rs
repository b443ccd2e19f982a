//! A person at a terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, SpecialCodeIndex, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};

/// A person at a terminal, with a program on it.
pub(crate) struct Person {
    screen: File,
    pub(crate) line: OwnedFd,
    pub(crate) child: Child,
}

impl Person {
    /// A person with a program on the terminal.
    pub(crate) fn at(command: &mut Command) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let line = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        resize(&line, 101, 33);
        let mut modes = tcgetattr(&line).unwrap();
        modes.special_codes[SpecialCodeIndex::VERASE] = 8;
        tcsetattr(&line, OptionalActions::Now, &modes).unwrap();
        command
            .env("TERM", "xterm-256color")
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap());
        Self { screen: File::from(screen), line, child: command.spawn().unwrap() }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads the screen until it shows the words.
    pub(crate) fn sees(&mut self, words: &str) -> String {
        let (mut seen, mut piece) = (String::new(), [0; 1024]);
        while !seen.contains(words) {
            let count = self.screen.read(&mut piece).unwrap();
            assert!(count > 0, "the screen went dark before `{words}`: {seen}");
            seen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        seen
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Gives a terminal another size.
pub(crate) fn resize(line: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(line, size).unwrap();
}
