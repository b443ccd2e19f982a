//! What this end knows of the terminal that it shows: how far it has come, and what was typed and not taken yet.

use std::collections::VecDeque;
use std::io::{self, Write};

use bytes::Bytes;
use knot_core::agent::sequences::{Piece, Scanner};
use uuid::Uuid;

use super::{LEAVE_SCREEN, RESET};
use crate::api::types::terminals::{self, MakeTerminal, ServerMessage, TerminalSize};

/// How much of what is typed waits to be taken.
const WAITING: usize = 64 * 1024;

/// A viewer of one terminal.
#[derive(Debug)]
pub(super) struct View {
    make: Option<MakeTerminal>,
    viewer: Uuid,
    pub(super) size: TerminalSize,
    /// The number of the next output byte; none until a snapshot is whole.
    at: Option<u64>,
    /// How much of a snapshot is still to come, and where the output goes on after it.
    drawing: (u64, u64),
    /// How many bytes there were when this connection began.
    head: u64,
    leads: bool,
    taken: u64,
    waiting: VecDeque<Bytes>,
    length: usize,
    /// How many of the pieces that wait this connection was sent; none before it is attached.
    sent: Option<usize>,
    /// How many bytes came by this connection.
    counted: u64,
    scanner: Scanner,
    is_alternate: bool,
    escape: Escape,
}

/// How far the person is in letting go: Enter, `~`, `.`, as in SSH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    Line,
    Tilde,
}

impl View {
    /// Of a new terminal, or of one that there is.
    pub(super) fn new(make: Option<MakeTerminal>, size: TerminalSize) -> Self {
        Self {
            make,
            viewer: Uuid::new_v4(),
            size,
            at: None,
            drawing: (0, 0),
            head: 0,
            leads: false,
            taken: 0,
            waiting: VecDeque::new(),
            length: 0,
            sent: None,
            counted: 0,
            scanner: Scanner::default(),
            is_alternate: false,
            escape: Escape::Line,
        }
    }

    /// A connection begins: what it is to be told first.
    pub(super) fn begin(&mut self) -> terminals::View {
        (self.sent, self.counted) = (None, 0);
        terminals::View {
            make: self.make.clone(),
            viewer: self.viewer,
            size: self.size,
            from: self.at,
            sent: self.taken,
        }
    }

    /// Whether the last connection came to the terminal.
    pub(super) fn was_attached(&self) -> bool {
        self.sent.is_some()
    }

    /// Whether more may be typed.
    pub(super) fn has_room(&self) -> bool {
        self.length < WAITING
    }

    /// Something was typed; whether it was to let go.
    pub(super) fn typed(&mut self, bytes: &[u8]) -> bool {
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.escape = match (self.escape, byte) {
                (Escape::Tilde, b'.') => return true,
                (Escape::Line, b'~') => Escape::Tilde,
                (before, byte) => {
                    if before == Escape::Tilde {
                        passed.push(b'~');
                    }
                    if before != Escape::Tilde || *byte != b'~' {
                        passed.push(*byte);
                    }
                    if matches!(byte, b'\r' | b'\n') { Escape::Line } else { Escape::No }
                }
            };
        }
        if !passed.is_empty() {
            self.length += passed.len();
            self.waiting.push_back(passed.into());
        }
        false
    }

    /// What is to be sent next of what was typed.
    pub(super) fn next_to_send(&mut self) -> Option<Bytes> {
        let sent = self.sent.as_mut()?;
        let next = self.waiting.get(*sent)?.clone();
        *sent += 1;
        Some(next)
    }

    fn take(&mut self, taken: u64) {
        while self.taken < taken
            && let Some(mut bytes) = self.waiting.pop_front()
        {
            let done = usize::try_from(taken - self.taken).unwrap_or(usize::MAX).min(bytes.len());
            let rest = bytes.split_off(done);
            self.taken += done as u64;
            self.length -= done;
            if !rest.is_empty() {
                self.waiting.push_front(rest);
            } else if let Some(sent) = &mut self.sent {
                *sent = sent.saturating_sub(1);
            }
        }
        self.taken = self.taken.max(taken);
    }

    /// The server has said something.
    pub(super) fn hear(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Attached(attached) => {
                self.make = None;
                (self.at, self.drawing) = (attached.from, (0, 0));
                (self.head, self.leads) = (attached.head, attached.leads);
                self.take(attached.taken);
                self.sent = Some(0);
            }
            ServerMessage::Snapshot(snapshot) => {
                (self.at, self.drawing) = (None, (snapshot.length, snapshot.at));
            }
            ServerMessage::Taken(taken) => self.take(taken),
            ServerMessage::Leads(leads) => self.leads = leads,
            // This terminal has the size that it has.
            ServerMessage::Size(_) | ServerMessage::Over(_) => {}
        }
    }

    /// What is to be shown of output that came, and how many bytes came by this connection. Nothing is shown that
    /// asks the terminal for an answer which another viewer gives, or which nobody waits for any more.
    pub(super) fn output(&mut self, bytes: &[u8]) -> (Vec<u8>, u64) {
        let length = bytes.len() as u64;
        self.counted += length;
        let mut shown = Vec::with_capacity(bytes.len());
        let old = match &mut self.at {
            Some(at) => {
                let old = self.head.saturating_sub(*at).min(length);
                *at += length;
                old
            }
            None => {
                let (left, after) = &mut self.drawing;
                *left = left.saturating_sub(length);
                self.at = (*left == 0).then_some(*after);
                length
            }
        };
        let (replayed, live) = bytes.split_at(usize::try_from(old).unwrap_or(bytes.len()));
        let Self { scanner, is_alternate, leads, .. } = self;
        for (bytes, answers) in [(replayed, false), (live, *leads)] {
            scanner.scan(bytes, |piece| {
                match piece.bytes() {
                    b"\x1b[?1049h" | b"\x1b[?1047h" | b"\x1b[?47h" => *is_alternate = true,
                    b"\x1b[?1049l" | b"\x1b[?1047l" | b"\x1b[?47l" => *is_alternate = false,
                    _ => {}
                }
                if answers || !piece.is_query() || matches!(piece, Piece::Text(_)) {
                    shown.extend_from_slice(piece.bytes());
                }
            });
        }
        (shown, self.counted)
    }

    /// Makes the terminal usable again where its programs had no chance to.
    pub(super) fn leave(&self) {
        let mut out = io::stdout().lock();
        let screen = if self.is_alternate { LEAVE_SCREEN } else { "" };
        let _ = write!(out, "{screen}{RESET}\r\n").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::terminals::Attached;

    const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

    fn attached(view: &mut View, from: Option<u64>, head: u64, taken: u64, leads: bool) {
        view.begin();
        let attached = Attached { from, head, taken, size: SIZE, leads };
        view.hear(ServerMessage::Attached(attached));
    }

    #[test]
    fn what_was_not_taken_is_sent_again() {
        let mut view = View::new(None, SIZE);
        assert!(!view.typed(b"ab") && !view.typed(b"cd"));
        assert_eq!(view.next_to_send(), None, "it is not attached");
        attached(&mut view, Some(0), 0, 0, true);
        assert_eq!(view.next_to_send().as_deref(), Some(&b"ab"[..]));
        view.hear(ServerMessage::Taken(1));
        assert_eq!(view.next_to_send().as_deref(), Some(&b"cd"[..]));
        assert_eq!(view.next_to_send(), None);
        attached(&mut view, Some(0), 0, 3, true);
        assert_eq!(view.next_to_send().as_deref(), Some(&b"d"[..]));
        view.hear(ServerMessage::Taken(4));
        assert_eq!((view.next_to_send(), view.begin().sent, view.length), (None, 4, 0));
    }

    #[test]
    fn what_is_asked_is_shown_to_one_that_leads_and_once() {
        let asks = b"a\x1b[6nb";
        let mut view = View::new(None, SIZE);
        attached(&mut view, Some(0), 6, 0, true);
        assert_eq!(view.output(asks), (b"ab".to_vec(), 6), "a replay");
        assert_eq!(view.output(asks), (asks.to_vec(), 12));
        view.hear(ServerMessage::Leads(false));
        assert_eq!(view.output(asks).0, b"ab");
        assert_eq!(view.begin().from, Some(18));
    }

    #[test]
    fn half_a_snapshot_is_none() {
        let mut view = View::new(None, SIZE);
        attached(&mut view, None, 100, 0, true);
        let snapshot = terminals::Snapshot { at: 100, length: 4 };
        view.hear(ServerMessage::Snapshot(snapshot));
        view.output(b"ab");
        assert_eq!(view.begin().from, None);
        view.output(b"cd");
        assert_eq!(view.begin().from, Some(100));
    }

    #[test]
    fn enter_tilde_and_dot_let_go() {
        let mut view = View::new(None, SIZE);
        assert!(!view.typed(b"a~.") && !view.typed(b"\r") && !view.typed(b"~~.\r~x"));
        attached(&mut view, Some(0), 0, 0, true);
        let mut sent = Vec::new();
        while let Some(bytes) = view.next_to_send() {
            sent.extend_from_slice(&bytes);
        }
        assert_eq!(sent, b"a~.\r~.\r~x");
        assert!(view.typed(b"\r~."));
    }

    #[test]
    fn the_alternate_screen_is_known_wherever_the_output_is_cut() {
        let output = b"text\x1b[?1049hvim\x1b[?25l";
        for size in 1..output.len() {
            let mut view = View::new(None, SIZE);
            attached(&mut view, Some(0), 0, 0, true);
            output.chunks(size).for_each(|piece| drop(view.output(piece)));
            assert!(view.is_alternate, "pieces of {size}");
            LEAVE_SCREEN.as_bytes().chunks(size).for_each(|piece| drop(view.output(piece)));
            assert!(!view.is_alternate, "pieces of {size}");
        }
    }
}
