//! What a terminal has said: its last bytes, each with its number, and where in them its size and its
//! leader changed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use knot_core::agent::TerminalSize;
use uuid::Uuid;

/// The most bytes that are kept of one terminal.
pub(super) const MAX_LOG: usize = 2 << 20;
/// Bytes that come in small pieces are kept in chunks of up to this many.
const CHUNK: usize = 8 << 10;
/// The most changes that are kept.
const MAX_MARKS: usize = 1_024;

/// Something that changed between two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The terminal's size.
    Size(TerminalSize),
    /// Which viewer leads.
    Leader(Option<Uuid>),
}

/// Where somebody stands in a log: behind so many bytes and so many changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The number of the next byte.
    pub(super) offset: u64,
    /// The number of the next change.
    pub(super) mark: u64,
}

/// What comes next in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Bytes.
    Bytes(Bytes),
    /// A change.
    Mark(Mark),
}

/// The last bytes of a terminal. It grows with what is written, up to its limit.
#[derive(Clone, Debug)]
pub(super) struct Log {
    limit: usize,
    chunks: VecDeque<Vec<u8>>,
    start: u64,
    end: u64,
    /// By their numbers, each with the offset that it stands before.
    marks: BTreeMap<u64, (u64, Mark)>,
    /// The number of the next mark, and of the first that was not dropped.
    next_mark: u64,
    first_mark: u64,
    /// What was so before the first mark.
    size: TerminalSize,
    leader: Option<Uuid>,
}

impl Log {
    /// An empty log of at most `limit` bytes.
    pub(super) fn new(limit: usize, size: TerminalSize) -> Self {
        Self {
            limit,
            chunks: VecDeque::new(),
            start: 0,
            end: 0,
            marks: BTreeMap::new(),
            next_mark: 0,
            first_mark: 0,
            size,
            leader: None,
        }
    }

    /// The number of the first byte that is kept.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes there were.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Behind all that there was.
    pub(super) fn end_position(&self) -> Position {
        Position { offset: self.end, mark: self.next_mark }
    }

    /// Adds bytes, and drops the oldest where they are too many.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(CHUNK) {
            match self.chunks.back_mut() {
                Some(last) if last.len() + piece.len() <= CHUNK => last.extend_from_slice(piece),
                _ => self.chunks.push_back(piece.to_vec()),
            }
            self.end += piece.len() as u64;
        }
        while self.end - self.start > self.limit as u64
            && let Some(first) = self.chunks.pop_front()
        {
            self.start += first.len() as u64;
        }
        while let Some((_, (offset, _))) = self.marks.first_key_value()
            && *offset < self.start
        {
            self.drop_mark();
        }
    }

    /// Notes a change. One of the same kind at the same place is forgotten: nothing was drawn between.
    pub(super) fn mark(&mut self, mark: Mark) {
        let same = |(offset, other): &(u64, Mark)| {
            *offset == self.end && std::mem::discriminant(other) == std::mem::discriminant(&mark)
        };
        let last = self.marks.iter().rev().take(2).find(|(_, entry)| same(entry));
        if let Some(number) = last.map(|(number, _)| *number) {
            self.marks.remove(&number);
        }
        self.marks.insert(self.next_mark, (self.end, mark));
        self.next_mark += 1;
        if self.marks.len() > MAX_MARKS {
            self.drop_mark();
        }
    }

    fn drop_mark(&mut self) {
        let Some((number, (_, mark))) = self.marks.pop_first() else { return };
        self.first_mark = number + 1;
        match mark {
            Mark::Size(size) => self.size = size,
            Mark::Leader(leader) => self.leader = leader,
        }
    }

    /// Where somebody stands that has so many bytes; `None` where the next is not kept any more, or
    /// was never written.
    pub(super) fn position(&self, offset: u64) -> Option<Position> {
        let later = self.marks.iter().find(|(_, (at, _))| *at >= offset);
        let mark = later.map_or(self.next_mark, |(number, _)| *number);
        Some(Position { offset, mark }).filter(|position| self.holds(*position))
    }

    fn holds(&self, position: Position) -> bool {
        (self.start..=self.end).contains(&position.offset) && position.mark >= self.first_mark
    }

    /// What was so at a position: the size and the leader.
    pub(super) fn state(&self, position: Position) -> (TerminalSize, Option<Uuid>) {
        let mut state = (self.size, self.leader);
        for (_, (_, mark)) in self.marks.range(..position.mark) {
            match mark {
                Mark::Size(size) => state.0 = *size,
                Mark::Leader(leader) => state.1 = *leader,
            }
        }
        state
    }

    /// What comes at a position, at most `max` bytes, and the position behind it. `Ok(None)` at the
    /// end; `Err` where it was dropped.
    pub(super) fn next(
        &self,
        position: Position,
        max: usize,
    ) -> Result<Option<(Entry, Position)>, Dropped> {
        if !self.holds(position) {
            return Err(Dropped);
        }
        let mark = self.marks.range(position.mark..).next();
        if let Some((number, (offset, mark))) = mark
            && *offset <= position.offset
        {
            let behind = Position { offset: position.offset, mark: number + 1 };
            return Ok(Some((Entry::Mark(*mark), behind)));
        }
        let end = mark.map_or(self.end, |(_, (offset, _))| *offset);
        let max = (end - position.offset).min(max as u64);
        if max == 0 {
            return Ok(None);
        }
        let bytes = self.read(position.offset, usize::try_from(max).unwrap_or(usize::MAX));
        let behind = Position { offset: position.offset + bytes.len() as u64, ..position };
        Ok(Some((Entry::Bytes(bytes), behind)))
    }

    fn read(&self, from: u64, max: usize) -> Bytes {
        let mut skip = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let mut read = Vec::new();
        for chunk in &self.chunks {
            if let Some(part) = chunk.get(skip..) {
                read.extend_from_slice(part.get(..max - read.len()).unwrap_or(part));
            }
            skip = skip.saturating_sub(chunk.len());
            if read.len() == max {
                break;
            }
        }
        read.into()
    }
}

/// What was asked for is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

    fn all(log: &Log, from: u64) -> (Vec<u8>, Vec<Mark>) {
        let (mut bytes, mut marks) = (Vec::new(), Vec::new());
        let mut position = log.position(from).unwrap();
        while let Some((entry, behind)) = log.next(position, 1_000).unwrap() {
            match entry {
                Entry::Bytes(more) => bytes.extend_from_slice(&more),
                Entry::Mark(mark) => marks.push(mark),
            }
            position = behind;
        }
        assert_eq!(position, log.end_position());
        (bytes, marks)
    }

    #[test]
    fn the_last_bytes_are_kept() {
        let mut log = Log::new(20_000, SIZE);
        let written: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for piece in written.chunks(777) {
            log.push(piece);
        }
        assert!(log.end() - log.start() <= 20_000 && log.end() - log.start() > 20_000 - 2 * 8_192);
        let (bytes, _) = all(&log, log.start());
        assert_eq!(bytes, written[usize::try_from(log.start()).unwrap()..]);
        assert_eq!(log.position(log.start() - 1), None);
        assert_eq!(log.position(log.end() + 1), None);
    }

    #[test]
    fn changes_stand_where_they_were_made() {
        let mut log = Log::new(20_000, SIZE);
        let size = |columns| TerminalSize { columns, rows: 24 };
        log.push(b"ab");
        log.mark(Mark::Size(size(1)));
        log.mark(Mark::Leader(None));
        log.mark(Mark::Size(size(2)));
        log.push(b"cd");
        let marks = vec![Mark::Leader(None), Mark::Size(size(2))];
        assert_eq!(all(&log, 0), (b"abcd".to_vec(), marks.clone()));
        assert_eq!(all(&log, 2), (b"cd".to_vec(), marks));
        assert_eq!(all(&log, 3), (b"d".to_vec(), vec![]));
        assert_eq!(log.state(log.position(2).unwrap()), (SIZE, None));
        assert_eq!(log.state(log.end_position()), (size(2), None));
        log.push(&[0; 40_000]);
        assert_eq!(log.state(log.position(log.start()).unwrap()), (size(2), None));
    }

    #[test]
    fn no_number_of_changes_is_too_large() {
        let mut log = Log::new(20_000, SIZE);
        let start = log.position(0).unwrap();
        for columns in 1..5_000 {
            log.push(b".");
            log.mark(Mark::Size(TerminalSize { columns, rows: 24 }));
        }
        assert_eq!(log.next(start, 1), Err(Dropped));
        assert_eq!(log.marks.len(), MAX_MARKS);
    }
}
