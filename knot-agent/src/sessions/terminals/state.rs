//! A terminal and its viewers as a state machine: no process, stream or clock of its own.
//!
//! What comes out of the terminal goes into a log once; each viewer stands somewhere in it, and takes
//! what comes next whenever it is ready for more. So one that is slow keeps nobody else waiting, and one
//! that was away goes on where it was. What has fallen out of the log is drawn anew.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use knot_core::agent::{
    Attach, Attached, Exit, FromTerminal, MAX_CHUNK, MAX_VIEWERS, TerminalSize,
};
use uuid::Uuid;

use super::{
    log::{Entry, Log, MAX_LOG, Mark, Position},
    screen::{Screen, bounded},
};

/// How far the terminal is ahead of the fastest viewer at most. What is on its way beyond that is what
/// people wait for after they have interrupted a program that writes without end.
pub(super) const AHEAD: u64 = 256 << 10;
/// A viewer that takes nothing for so long holds the terminal up no more.
pub(super) const STUCK: Duration = Duration::from_secs(10);
/// How many viewers that went are remembered by how much of their input was taken.
const GONE: usize = 64;
/// How many bytes of rows above the screen a viewer is given that comes for the first time.
const ABOVE_BYTES: usize = 128 << 10;
/// How much of the log is gone through for them.
const ABOVE_LOG: u64 = 512 << 10;

/// One terminal.
pub(super) struct State {
    log: Log,
    screen: Screen,
    size: TerminalSize,
    leader: Option<Uuid>,
    viewers: BTreeMap<Uuid, Viewer>,
    /// The viewers that went, the last one last, and how much of their input was taken.
    gone: VecDeque<(Uuid, u64)>,
    streams: u64,
    typed: u64,
    last: Option<Last>,
}

/// Why there is no more output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// The command has ended.
    Exit(Exit),
    /// The agent is ending.
    Stopping,
}

struct Viewer {
    stream: u64,
    position: Position,
    /// What is sent before the log is gone on with.
    first: VecDeque<FromTerminal>,
    drawing: Bytes,
    size: TerminalSize,
    taken: u64,
    told: u64,
    typed: u64,
    /// When it last took something, or had nothing to take.
    took: Instant,
}

/// What a viewer is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this.
    Send(FromTerminal),
    /// Send this, and nothing more.
    Finish(FromTerminal),
    /// Wait for something to change.
    Wait,
}

/// Whether the terminal's output is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Now.
    Now,
    /// Once something has changed, or at this time.
    Until(Instant),
}

/// There are as many viewers as there may be. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The viewer has sent what cannot be. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonsense;

impl State {
    /// A terminal that has said nothing yet.
    pub(super) fn new(size: TerminalSize) -> Self {
        Self::with_log(size, MAX_LOG)
    }

    fn with_log(size: TerminalSize, limit: usize) -> Self {
        let size = bounded(size);
        Self {
            log: Log::new(limit, size),
            screen: Screen::new(size, 0),
            size,
            leader: None,
            viewers: BTreeMap::new(),
            gone: VecDeque::new(),
            streams: 0,
            typed: 0,
            last: None,
        }
    }

    /// The size that the terminal has.
    pub(super) fn size(&self) -> TerminalSize {
        self.size
    }

    /// How many look at it.
    pub(super) fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// The terminal has written something.
    pub(super) fn output(&mut self, bytes: &[u8], now: Instant) {
        let end = self.log.end_position();
        for viewer in self.viewers.values_mut().filter(|viewer| viewer.has_all(end)) {
            viewer.took = now;
        }
        self.log.push(bytes);
        self.screen.feed(bytes);
    }

    /// There is no more output.
    pub(super) fn end(&mut self, last: Last) {
        self.last.get_or_insert(last);
    }

    /// A viewer comes, or comes again; gives the number of its stream.
    pub(super) fn attach(
        &mut self,
        attach: &Attach,
        now: Instant,
    ) -> Result<(u64, Attached), TooMany> {
        let id = attach.viewer;
        let known = self.viewers.get(&id).map(|viewer| viewer.taken);
        if known.is_none() && self.viewers.len() >= MAX_VIEWERS {
            return Err(TooMany);
        }
        let before = self.gone.iter().position(|(gone, _)| *gone == id);
        let before = before.and_then(|index| self.gone.remove(index)).map(|(_, taken)| taken);
        let taken = known.or(before).unwrap_or(attach.sent);
        let head = self.log.end();
        let found = attach.from.and_then(|from| self.log.position(from));
        let is_new = attach.from.is_none() && head == 0;
        let found = found.or_else(|| self.log.position(0).filter(|_| is_new));
        self.streams += 1;
        let mut viewer = Viewer {
            stream: self.streams,
            position: found.unwrap_or_else(|| self.log.end_position()),
            first: VecDeque::new(),
            drawing: Bytes::new(),
            size: bounded(attach.size),
            taken,
            told: taken,
            typed: 0,
            took: now,
        };
        let (size, leader) = self.log.state(viewer.position);
        if found.is_none() {
            self.draw(&mut viewer, attach.from.is_none());
        }
        let attached = Attached {
            from: found.map(|position| position.offset),
            head,
            taken,
            size,
            leads: leader == Some(id),
        };
        let is_alone = self.viewers.keys().all(|other| *other == id);
        let own = viewer.size;
        self.viewers.insert(id, viewer);
        if is_alone {
            self.lead(id, own);
        }
        Ok((self.streams, attached))
    }

    /// A viewer's stream is gone. Another one that it has opened since is not meant.
    pub(super) fn detach(&mut self, id: Uuid, stream: u64) {
        if self.viewers.get(&id).is_none_or(|viewer| viewer.stream != stream) {
            return;
        }
        let Some(viewer) = self.viewers.remove(&id) else { return };
        self.gone.push_back((id, viewer.taken));
        if self.gone.len() > GONE {
            self.gone.pop_front();
        }
        if self.leader == Some(id) {
            let next = self.viewers.iter().max_by_key(|(_, viewer)| viewer.typed);
            self.leader = next.map(|(id, _)| *id);
            self.log.mark(Mark::Leader(self.leader));
        }
    }

    /// A viewer has typed; gives what is new of it, for the command.
    pub(super) fn input(
        &mut self,
        id: Uuid,
        stream: u64,
        offset: u64,
        mut bytes: Bytes,
    ) -> Result<Bytes, Nonsense> {
        let viewer = self.viewers.get_mut(&id).filter(|viewer| viewer.stream == stream);
        let viewer = viewer.ok_or(Nonsense)?;
        let known = viewer.taken.checked_sub(offset).ok_or(Nonsense)?;
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        let new = bytes.split_off(known);
        if !new.is_empty() {
            viewer.taken += new.len() as u64;
            self.typed += 1;
            viewer.typed = self.typed;
            let size = viewer.size;
            self.lead(id, size);
        }
        Ok(new)
    }

    /// A viewer's window has another size.
    pub(super) fn resize(&mut self, id: Uuid, stream: u64, size: TerminalSize) {
        let viewer = self.viewers.get_mut(&id).filter(|viewer| viewer.stream == stream);
        let Some(viewer) = viewer else { return };
        viewer.size = bounded(size);
        let size = viewer.size;
        self.set_size(size);
    }

    /// The last to type leads, and the terminal has its window's size.
    fn lead(&mut self, id: Uuid, size: TerminalSize) {
        if self.leader != Some(id) {
            self.leader = Some(id);
            self.log.mark(Mark::Leader(self.leader));
        }
        self.set_size(size);
    }

    fn set_size(&mut self, size: TerminalSize) {
        if self.size != size {
            self.size = size;
            self.screen.resize(size);
            self.log.mark(Mark::Size(size));
        }
    }

    /// What a viewer is to be sent now.
    pub(super) fn next(&mut self, id: Uuid, stream: u64, now: Instant) -> Next {
        let Some(mut viewer) = self.viewers.remove(&id) else {
            return Next::Finish(FromTerminal::Replaced);
        };
        let next = if viewer.stream == stream {
            self.next_of(id, &mut viewer, now)
        } else {
            Next::Finish(FromTerminal::Replaced)
        };
        self.viewers.insert(id, viewer);
        next
    }

    fn next_of(&mut self, id: Uuid, viewer: &mut Viewer, now: Instant) -> Next {
        if viewer.told != viewer.taken {
            viewer.told = viewer.taken;
            return Next::Send(FromTerminal::Taken(viewer.taken));
        }
        loop {
            if let Some(frame) = viewer.first.pop_front() {
                return Next::Send(frame);
            }
            if !viewer.drawing.is_empty() {
                viewer.took = now;
                let piece = viewer.drawing.split_to(viewer.drawing.len().min(MAX_CHUNK));
                return Next::Send(FromTerminal::Output(piece));
            }
            let Ok(next) = self.log.next(viewer.position, MAX_CHUNK) else {
                let (size, leader) = self.log.state(self.log.end_position());
                viewer.first.push_back(FromTerminal::Size(size));
                viewer.first.push_back(FromTerminal::Leads(leader == Some(id)));
                self.draw(viewer, false);
                continue;
            };
            let Some((entry, behind)) = next else { break };
            viewer.position = behind;
            match entry {
                Entry::Mark(Mark::Size(size)) => return Next::Send(FromTerminal::Size(size)),
                Entry::Mark(Mark::Leader(leader)) => {
                    return Next::Send(FromTerminal::Leads(leader == Some(id)));
                }
                Entry::Bytes(bytes) => {
                    viewer.took = now;
                    return Next::Send(FromTerminal::Output(bytes));
                }
            }
        }
        match self.last {
            Some(Last::Exit(exit)) => Next::Finish(FromTerminal::Ended(exit)),
            Some(Last::Stopping) => Next::Finish(FromTerminal::Stopping),
            None => Next::Wait,
        }
    }

    /// Gives a viewer the screen as it is, and has it go on from there.
    fn draw(&mut self, viewer: &mut Viewer, is_first: bool) {
        viewer.position = self.log.end_position();
        let above = if is_first { self.above() } else { VecDeque::new() };
        let drawing = self.screen.snapshot(&above);
        let length = drawing.len() as u64;
        viewer.first.push_back(FromTerminal::Snapshot { at: viewer.position.offset, length });
        viewer.drawing = drawing.into();
    }

    /// The rows above the screen: kept by nobody, but found again by drawing the log.
    fn above(&self) -> VecDeque<String> {
        let start = self.log.start().max(self.log.end().saturating_sub(ABOVE_LOG));
        let Some(mut position) = self.log.position(start) else { return VecDeque::new() };
        let mut screen = Screen::new(self.log.state(position).0, ABOVE_BYTES);
        while let Ok(Some((entry, behind))) = self.log.next(position, MAX_CHUNK) {
            position = behind;
            match entry {
                Entry::Bytes(bytes) => screen.feed(&bytes),
                Entry::Mark(Mark::Size(size)) => screen.resize(size),
                Entry::Mark(Mark::Leader(_)) => {}
            }
        }
        screen.above()
    }

    /// Whether the terminal's output is to be read now.
    pub(super) fn read(&self, now: Instant) -> Read {
        let end = self.log.end_position();
        let awaited = || {
            self.viewers.values().filter(|viewer| viewer.has_all(end) || now < viewer.took + STUCK)
        };
        let Some(fastest) = awaited().map(|viewer| viewer.position.offset).max() else {
            return Read::Now;
        };
        if end.offset - fastest < AHEAD {
            return Read::Now;
        }
        let stuck = awaited().map(|viewer| viewer.took + STUCK).min();
        stuck.map_or(Read::Now, Read::Until)
    }
}

impl Viewer {
    fn has_all(&self, end: Position) -> bool {
        self.position.offset == end.offset && self.drawing.is_empty()
    }
}

#[cfg(test)]
mod tests;
