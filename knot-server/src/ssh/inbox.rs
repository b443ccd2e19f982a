//! What a client has sent on one channel and nobody has taken yet.
//!
//! The library opens a channel's window again as soon as data has come, whether anybody has taken it or
//! not, and its loop, which all channels of a connection share, must not wait for a slow one. What it
//! does ask is how far to open the window the next time, of the whole connection. So while any inbox has
//! too much, windows are opened by [`TRICKLE`] bytes: its client stands as before a closed window, and
//! asks again with each such crumb; and once there is room, the next crumb opens it whole. Meanwhile
//! other channels give and take as before, but for those that have much to send: those crawl too.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

/// From how many bytes on an inbox is full.
const FULL: usize = 4 << 20;
/// With how many bytes there is room again.
const ROOM: usize = 1 << 20;
/// How many bytes are taken at most: only who ignores its window, or sends crumbs for hours, has more.
const MOST: usize = 16 << 20;
/// By how many bytes a window is opened while there is no room. Fewer than 2 would open it never again:
/// the library divides them by two, and asks only where the window is smaller.
pub(super) const TRICKLE: u32 = 2;
/// How long a connection rests for each packet to a full inbox, so that crumbs cost no processor.
pub(super) const REST: Duration = Duration::from_millis(5);

/// One channel's inbox.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    held: Mutex<Held>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Held {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    full: bool,
    ended: bool,
}

/// The inbox takes no more.
#[derive(Debug)]
pub(super) struct Overflow;

impl Inbox {
    /// Puts data in.
    pub(super) fn push(&self, data: &[u8]) -> Result<(), Overflow> {
        self.with(|held| {
            if held.bytes + data.len() > MOST {
                return Err(Overflow);
            }
            held.bytes += data.len();
            held.full |= held.bytes >= FULL;
            match held.chunks.back_mut() {
                // Crumbs would else cost more than they hold.
                Some(last) if last.len() + data.len() <= 4_096 && data.len() < 512 => {
                    *last = [last, data].concat().into();
                }
                _ => held.chunks.push_back(Bytes::copy_from_slice(data)),
            }
            Ok(())
        })?;
        self.news.notify_one();
        Ok(())
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.with(|held| held.ended = true);
        self.news.notify_one();
    }

    /// Whether it has more than it should, until it has been emptied for the most part.
    pub(super) fn is_full(&self) -> bool {
        self.with(|held| held.full)
    }

    /// The next data; `None` at the end. For one taker; may be dropped and called again.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            let news = self.news.notified();
            let taken = self.with(|held| {
                let chunk = held.chunks.pop_front();
                if let Some(chunk) = &chunk {
                    held.bytes -= chunk.len();
                    held.full &= held.bytes > ROOM;
                }
                chunk.map(Some).or(held.ended.then_some(None))
            });
            if let Some(taken) = taken {
                return taken;
            }
            news.await;
        }
    }

    fn with<T>(&self, access: impl FnOnce(&mut Held) -> T) -> T {
        access(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_full_until_most_was_taken_and_ends_after_all_was() {
        let inbox = Inbox::default();
        let packet = vec![7; 32 << 10];
        let mut sent = 0;
        while !inbox.is_full() {
            inbox.push(&packet).unwrap();
            sent += packet.len();
        }
        assert_eq!(sent, FULL);
        for _ in 0..1_000 {
            inbox.push(b"ab").unwrap();
            sent += 2;
        }
        inbox.end();
        let mut taken = 0;
        while let Some(chunk) = inbox.next().await {
            taken += chunk.len();
            assert_eq!(inbox.is_full(), sent - taken > ROOM);
        }
        assert_eq!(taken, sent);
        while inbox.push(&packet).is_ok() {
            taken += packet.len();
        }
        assert!(taken - sent <= MOST);
    }
}
