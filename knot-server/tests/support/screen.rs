//! A terminal's two sides: the line that a program is on, and the screen that somebody looks at.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::Command,
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// How long anything may take to be shown.
const BOUND: Duration = Duration::from_secs(60);
/// How many pieces of what is shown wait to be looked at.
const PIECES: usize = 64;

/// What a program on a terminal shows, and its keys.
pub(crate) struct Screen {
    keys: File,
    shown: Receiver<Vec<u8>>,
}

impl Screen {
    /// A new terminal: its screen, and its line.
    pub(crate) fn new() -> (Self, OwnedFd) {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap();
        let line = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let keys = File::from(keys);
        let mut screen = keys.try_clone().unwrap();
        let (show, shown) = sync_channel(PIECES);
        // It ends with the line, whose last holder is the program, or with this screen.
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                if show.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        (Self { keys, shown }, line)
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Looks until it shows the words, and gives all that it showed.
    #[track_caller]
    pub(crate) fn sees(&mut self, words: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(words) {
            match self.shown.recv_timeout(BOUND) {
                Ok(piece) => seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(why) => panic!("no `{words}`: {why} after `{seen}`"),
            }
        }
        seen
    }
}

/// Puts a program on a line.
pub(crate) fn put_on<'a>(command: &'a mut Command, line: &OwnedFd) -> &'a mut Command {
    command
        .env("TERM", "xterm-256color")
        .stdin(line.try_clone().unwrap())
        .stdout(line.try_clone().unwrap())
        .stderr(line.try_clone().unwrap())
}

/// Gives a terminal another size.
pub(crate) fn resize(line: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(line, size).unwrap();
}
