//! What a viewer has typed, kept until the agent has taken it: a way to the agent that breaks loses none of it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use knot_core::agent::{MAX_CHUNK, TerminalSize};
use tokio::sync::Notify;

/// How many bytes wait to be taken at most. Nobody waits for room here: a client knows what was taken, and whoever
/// did not read on until there is room would not hear what makes it.
const WAITING: usize = 256 << 10;

/// A viewer's input, and the size of its window.
#[derive(Debug)]
pub(super) struct Input {
    inner: Mutex<Inner>,
    /// There is more to send.
    more: Notify,
}

#[derive(Debug)]
struct Inner {
    /// The number of the first byte that waits.
    first: u64,
    waiting: VecDeque<Bytes>,
    length: usize,
    size: TerminalSize,
    /// Whether the agent is to be told the size.
    resized: bool,
}

/// A client has sent more than may wait to be taken. Nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {WAITING} bytes of input were sent ahead of what was taken")]
pub(super) struct TooMuch;

/// Something for the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// Bytes, the first of which has this number.
    Bytes(u64, Bytes),
    /// The window's size.
    Size(TerminalSize),
}

impl Input {
    /// Of a viewer of which so many bytes were taken.
    pub(super) fn new(first: u64, size: TerminalSize) -> Self {
        let inner = Inner { first, waiting: VecDeque::new(), length: 0, size, resized: false };
        Self { inner: inner.into(), more: Notify::new() }
    }

    /// How many bytes were taken, and the window's size: with these another way to the agent begins.
    pub(super) fn state(&self) -> (u64, TerminalSize) {
        let mut inner = self.inner();
        inner.resized = false;
        (inner.first, inner.size)
    }

    /// Adds what the viewer has typed, unless too much waits already.
    pub(super) fn push(&self, bytes: Bytes) -> Result<(), TooMuch> {
        let mut inner = self.inner();
        if inner.length >= WAITING {
            return Err(TooMuch);
        }
        inner.length += bytes.len();
        inner.waiting.push_back(bytes);
        drop(inner);
        self.more.notify_one();
        Ok(())
    }

    /// Notes the window's size.
    pub(super) fn resize(&self, size: TerminalSize) {
        let mut inner = self.inner();
        inner.size = size;
        inner.resized = true;
        drop(inner);
        self.more.notify_one();
    }

    /// The agent has taken so many bytes of this viewer. The first time, the viewer learns only by this how many.
    pub(super) fn taken(&self, taken: u64) {
        let mut inner = self.inner();
        while inner.first < taken
            && let Some(mut bytes) = inner.waiting.pop_front()
        {
            let done = usize::try_from(taken - inner.first).unwrap_or(usize::MAX).min(bytes.len());
            let rest = bytes.split_off(done);
            inner.first += done as u64;
            inner.length -= done;
            if !rest.is_empty() {
                inner.waiting.push_front(rest);
            }
        }
        inner.first = inner.first.max(taken);
    }

    /// What is to be sent to an agent that was sent all bytes before `at`.
    pub(super) async fn next(&self, at: u64) -> Sending {
        loop {
            let more = self.more.notified();
            if let Some(next) = self.inner().next(at) {
                return next;
            }
            more.await;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next(&mut self, at: u64) -> Option<Sending> {
        if std::mem::take(&mut self.resized) {
            return Some(Sending::Size(self.size));
        }
        let mut first = self.first;
        for bytes in &self.waiting {
            let end = first + bytes.len() as u64;
            if end > at {
                let start = usize::try_from(at.saturating_sub(first)).unwrap_or(usize::MAX);
                let rest = bytes.slice(start.min(bytes.len())..);
                let piece = rest.slice(..rest.len().min(MAX_CHUNK));
                return Some(Sending::Bytes(first.max(at), piece));
            }
            first = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

    #[tokio::test]
    async fn what_was_not_taken_is_sent_again() {
        let input = Input::new(10, SIZE);
        input.push(Bytes::from_static(b"abc")).unwrap();
        input.push(Bytes::from_static(b"def")).unwrap();
        assert_eq!(input.next(10).await, Sending::Bytes(10, Bytes::from_static(b"abc")));
        assert_eq!(input.next(13).await, Sending::Bytes(13, Bytes::from_static(b"def")));
        input.taken(14);
        assert_eq!(input.state(), (14, SIZE));
        assert_eq!(input.next(14).await, Sending::Bytes(14, Bytes::from_static(b"ef")));
        let other = TerminalSize { columns: 1, rows: 1 };
        input.resize(other);
        assert_eq!(input.next(16).await, Sending::Size(other));
        input.taken(16);
        assert_eq!(input.state(), (16, other));
    }

    #[test]
    fn who_types_too_far_ahead_is_refused() {
        let input = Input::new(0, SIZE);
        input.push(vec![0; WAITING].into()).unwrap();
        assert_eq!(input.push(Bytes::from_static(b"x")), Err(TooMuch));
        input.taken(1);
        input.push(Bytes::from_static(b"x")).unwrap();
        assert_eq!(input.inner().length, WAITING);
    }
}
