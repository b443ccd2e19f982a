//! Terminals that an agent keeps: what is said to look at one, from wherever and again and again.
//!
//! Bytes of output are counted from 0 for a terminal's whole life, and bytes of input from 0 for each
//! viewer's. Whoever loses a stream opens another and says how far it came: nothing is lost by that,
//! and nothing comes twice.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Exit, Run, TerminalSize};
use crate::clock::Millis;

/// The most terminals that an agent keeps at a time.
pub const MAX_TERMINALS: usize = 100;
/// The most viewers of one terminal at a time.
pub const MAX_VIEWERS: usize = 32;
/// The longest name of a terminal, in characters.
pub const MAX_TERMINAL_NAME: usize = 64;

/// Look at a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The terminal, named by who made it.
    pub terminal: Uuid,
    /// What it runs, where there is none of this id yet; `None` to look at one that there is.
    pub make: Option<Make>,
    /// The viewer, by the same id each time. A stream that it still has is ended.
    pub viewer: Uuid,
    /// The size of the viewer's own window.
    pub size: TerminalSize,
    /// How many bytes of output the viewer has; `None` to begin with what is on the screen, as also
    /// for one that was cut off in the middle of a snapshot.
    pub from: Option<u64>,
    /// How many of its input bytes the viewer knows to be taken: from there it is counted where the
    /// agent knows this viewer no more.
    pub sent: u64,
}

/// A new terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Make {
    /// What to run. Its `terminal` is not looked at: the viewer's size counts.
    pub run: Run,
    /// Its name; empty for that of the command. Made different from those that there are.
    pub name: String,
}

/// What follows [`super::Answer::Ready`] on the stream of a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The offset of the first output byte that follows; `None` where a snapshot comes first.
    pub from: Option<u64>,
    /// How many bytes there were by now. What comes before this one is a replay: programs have long
    /// given up waiting for answers to what they asked in it.
    pub head: u64,
    /// How many of this viewer's input bytes were taken: the next is the first that is wanted.
    pub taken: u64,
    /// The size of the terminal at `from`.
    pub size: TerminalSize,
    /// Whether this viewer leads: its terminal alone answers what programs ask of a terminal.
    pub leads: bool,
}

/// What a viewer sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTerminal {
    /// Input bytes, at most [`super::MAX_CHUNK`], the first of which has this number. What was taken
    /// already is left out; what is ahead of what was taken ends the stream.
    Input {
        /// The number of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The viewer's window has another size, and so the terminal.
    Resize(TerminalSize),
}

/// What a viewer is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromTerminal {
    /// What the next `length` bytes of [`FromTerminal::Output`] draw is the whole state: the viewer
    /// begins anew. They are not counted: the byte after them is the one at `at`.
    Snapshot {
        /// Where the output goes on after it.
        at: u64,
        /// How many bytes it has.
        length: u64,
    },
    /// Bytes of the terminal, at most [`super::MAX_CHUNK`].
    Output(Bytes),
    /// So many of this viewer's input bytes were taken.
    Taken(u64),
    /// From here on the terminal has this size.
    Size(TerminalSize),
    /// From here on this viewer leads, or leads no more.
    Leads(bool),
    /// The command has ended, and all of its output was sent. The last frame.
    Ended(Exit),
    /// The agent is ending, and all terminals with it. The last frame.
    Stopping,
    /// This viewer has opened another stream. The last frame.
    Replaced,
}

/// A terminal in a list. The list is one frame, after [`super::Answer::Ready`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalInfo {
    /// Its id.
    pub id: Uuid,
    /// Its name, of which there is no other.
    pub name: String,
    /// What it runs, in short, for people.
    pub command: String,
    /// Its size.
    pub size: TerminalSize,
    /// How many look at it.
    pub viewers: u32,
    /// When it was made.
    pub since: Millis,
}
