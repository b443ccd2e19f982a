//! A pseudoterminal: the end that the agent holds.

use std::{
    fs::OpenOptions,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    sync::Arc,
};

use knot_core::agent::TerminalSize;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{SpecialCodeIndex, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize},
};
use tokio::net::unix::pipe;

use crate::children::Group;

/// The agent's end of a terminal, to control it. Clones are the same end.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<OwnedFd>);

/// A new terminal with all of its ends.
#[derive(Debug)]
pub struct Ends {
    /// To control it.
    pub terminal: Terminal,
    /// What is written here is typed. (To the runtime a terminal is like a pipe in each direction.)
    pub input: pipe::Sender,
    /// What is shown is read here. Linux ends it with an error when nobody holds the other end.
    pub output: pipe::Receiver,
    /// What a command is given.
    pub theirs: OwnedFd,
}

impl Terminal {
    /// Opens a new terminal.
    pub fn open(size: TerminalSize) -> io::Result<Ends> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        tcsetwinsize(&ours, winsize(size))?;
        let name = ptsname(&ours, Vec::new())?;
        let theirs = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::from_ne_bytes(OFlags::NOCTTY.bits().to_ne_bytes()))
            .open(name.to_string_lossy().as_ref())?;
        let flags = fcntl_getfl(&ours)?;
        fcntl_setfl(&ours, flags | OFlags::NONBLOCK)?;
        Ok(Ends {
            input: pipe::Sender::from_owned_fd_unchecked(ours.try_clone()?)?,
            output: pipe::Receiver::from_owned_fd_unchecked(ours.try_clone()?)?,
            terminal: Self(Arc::new(ours)),
            theirs: theirs.into(),
        })
    }

    /// Changes the size, which the group in the foreground is told of.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        Ok(tcsetwinsize(&self.0, winsize(size))?)
    }

    /// The process group in the foreground.
    pub fn foreground(&self) -> Option<Group> {
        tcgetpgrp(&self.0).ok().map(Group::new)
    }

    /// The character that ends the input, as control-D does for people.
    pub fn end_of_file(&self) -> Option<u8> {
        tcgetattr(&self.0).ok().map(|modes| modes.special_codes[SpecialCodeIndex::VEOF])
    }
}

fn winsize(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}
