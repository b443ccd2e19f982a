//! Who holds an edit: waiting until other servers do, and telling them once this one does.
//!
//! A server that waits asks its linked peers, and asks again each second whoever has not answered:
//! so an answer, or a question, may be lost. A peer answers after its own commit and puts off what
//! it does not hold. An answer counts for as long as its sender is linked and belongs to the
//! cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Core, Effects};
use crate::{
    id::{ChangeHash, DocId, Id, ServerId},
    model::Server,
    replica::DurableError,
    sync::{Heads, Message},
};

/// The most edits that are waited for here.
const WAITS: usize = 4_096;
/// The most hashes that one peer's questions may make wait here; those beyond it asks again.
const PUT_OFF: usize = 4_096;
/// The most hashes of one document that are asked about: an edit of more heads does not fit a change.
const HEADS: usize = 1_024;
/// How often a peer that has not answered is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// A question that was not asked again for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// Told once enough servers hold an edit, or why not.
pub(crate) type HeldReply = Box<dyn FnOnce(Result<(), DurableError>) + Send>;

#[derive(Default)]
pub(super) struct Holding {
    waits: BTreeMap<Heads, Wait>,
    /// What peers have asked about and is not held here, with when it was last asked.
    put_off: BTreeMap<DocId, BTreeMap<(ServerId, Vec<ChangeHash>), Duration>>,
    /// How many hashes of each peer are put off.
    hashes: BTreeMap<ServerId, usize>,
    /// Documents that were committed since the questions about them were last looked at.
    changed: BTreeSet<DocId>,
    asked: Duration,
}

/// An edit that somebody waits for.
#[derive(Default)]
struct Wait {
    /// Whether this server held it when it was asked for.
    here: bool,
    by: BTreeSet<ServerId>,
    waiters: Vec<Waiter>,
}

/// The servers whose word counts now.
struct Holders {
    peers: BTreeSet<ServerId>,
    me: bool,
}

struct Waiter {
    servers: usize,
    until: Duration,
    reply: HeldReply,
}

impl Wait {
    /// Tells those whose number is reached, and says how many servers are known to hold the edit.
    fn reply(&mut self, holders: &Holders) -> usize {
        let held = self.by.intersection(&holders.peers).count();
        let held = held + usize::from(self.here && holders.me);
        for done in self.waiters.extract_if(.., |waiter| waiter.servers <= held) {
            (done.reply)(Ok(()));
        }
        held
    }
}

impl Holding {
    /// Documents are committed: what was put off about them may be answered.
    pub(super) fn committed<'a>(&mut self, docs: impl Iterator<Item = &'a DocId>) {
        let asked = docs.filter(|doc| self.put_off.contains_key(doc));
        self.changed.extend(asked);
    }

    /// A peer's link is gone: what it said counts no more, and what it asked it will ask again.
    fn lose(&mut self, peer: ServerId) {
        self.waits.values_mut().for_each(|wait| {
            wait.by.remove(&peer);
        });
        self.forget(|asker, _| asker == peer);
    }

    fn put_off(&mut self, now: Duration, peer: ServerId, heads: Heads) {
        let Heads { doc, heads } = heads;
        let count = self.hashes.entry(peer).or_default();
        let questions = self.put_off.entry(doc).or_default();
        let key = (peer, heads);
        if let Some(asked) = questions.get_mut(&key) {
            *asked = now;
        } else if *count + key.1.len() <= PUT_OFF {
            *count += key.1.len();
            questions.insert(key, now);
        }
    }

    fn forget(&mut self, forgotten: impl Fn(ServerId, Duration) -> bool) {
        let hashes = &mut self.hashes;
        self.put_off.retain(|_, questions| {
            questions.retain(|(peer, heads), asked| {
                let forget = forgotten(*peer, *asked);
                if forget && let Some(count) = hashes.get_mut(peer) {
                    *count -= heads.len();
                }
                !forget
            });
            !questions.is_empty()
        });
        hashes.retain(|_, count| *count > 0);
    }

    /// Whether everything that waits is within its bounds.
    #[cfg(feature = "sim")]
    pub(super) fn is_bounded(&self) -> bool {
        self.waits.len() <= WAITS && self.hashes.values().all(|count| *count <= PUT_OFF)
    }
}

impl Core {
    /// Waits until so many servers hold an edit, this one counted.
    pub(super) fn wait_until_held(
        &mut self,
        now: Duration,
        edit: Heads,
        servers: usize,
        bound: Duration,
        reply: HeldReply,
        effects: &mut Effects,
    ) {
        let here = self.belongs(self.me) && self.holds(edit.doc, &edit.heads);
        let peers = self.belonging_peers();
        let linked = peers.len() + usize::from(here);
        if linked < servers {
            return reply(Err(DurableError::TooFew { wanted: servers, linked }));
        }
        if servers <= usize::from(here) {
            return reply(Ok(()));
        }
        if self.holding.waits.len() >= WAITS || edit.heads.len() > HEADS {
            return reply(Err(DurableError::Busy));
        }
        let wait = self.holding.waits.entry(edit.clone()).or_default();
        wait.here = here;
        wait.waiters.push(Waiter { servers, until: now + bound, reply });
        effects.sends.push((peers, Message::AskHeld(vec![edit])));
    }

    /// A peer asks whether this server holds some edits.
    pub(super) fn asked_held(
        &mut self,
        now: Duration,
        peer: ServerId,
        edits: Vec<Heads>,
        effects: &mut Effects,
    ) {
        let mut held = Vec::new();
        for edit in edits {
            if edit.heads.is_empty() || edit.heads.len() > HEADS {
                continue;
            }
            if self.holds(edit.doc, &edit.heads) {
                held.push(edit);
            } else if self.engine.peers().any(|linked| linked == peer) {
                self.holding.put_off(now, peer, edit);
            }
        }
        tell(peer, held, effects);
    }

    /// A peer says that it holds some edits.
    pub(super) fn heard_held(&mut self, peer: ServerId, edits: Vec<Heads>) {
        if !self.belonging_peers().contains(&peer) {
            return;
        }
        let holders = self.holders();
        for edit in edits {
            if let Some(wait) = self.holding.waits.get_mut(&edit) {
                wait.by.insert(peer);
                wait.reply(&holders);
                if wait.waiters.is_empty() {
                    self.holding.waits.remove(&edit);
                }
            }
        }
    }

    /// A peer was linked: it may be the one that is waited for.
    pub(super) fn holder_up(&mut self, peer: ServerId, effects: &mut Effects) {
        if self.belongs(peer) {
            ask(peer, self.holding.waits.keys().cloned(), effects);
        }
    }

    pub(super) fn holder_down(&mut self, peer: ServerId) {
        self.holding.lose(peer);
    }

    /// Answers what was put off, where a commit has brought it. Comes after the commit.
    pub(super) fn answer_put_off(&mut self, effects: &mut Effects) {
        for doc in std::mem::take(&mut self.holding.changed) {
            let questions = self.holding.put_off.remove(&doc).unwrap_or_default();
            let mut still = BTreeMap::new();
            let mut held: BTreeMap<ServerId, Vec<Heads>> = BTreeMap::new();
            for ((peer, heads), asked) in questions {
                if !self.holds(doc, &heads) {
                    still.insert((peer, heads), asked);
                    continue;
                }
                if let Some(count) = self.holding.hashes.get_mut(&peer) {
                    *count -= heads.len();
                }
                held.entry(peer).or_default().push(Heads { doc, heads });
            }
            if !still.is_empty() {
                self.holding.put_off.insert(doc, still);
            }
            held.into_iter().for_each(|(peer, held)| tell(peer, held, effects));
        }
    }

    /// Time has passed: whoever has waited long enough is told so, and peers are asked again.
    pub(super) fn holding_tick(&mut self, now: Duration, effects: &mut Effects) {
        let holders = self.holders();
        self.holding.waits.retain(|_, wait| {
            let held = wait.reply(&holders);
            for late in wait.waiters.extract_if(.., |waiter| now >= waiter.until) {
                (late.reply)(Err(DurableError::NotYet { wanted: late.servers, held }));
            }
            !wait.waiters.is_empty()
        });
        if now < self.holding.asked + AGAIN {
            return;
        }
        self.holding.asked = now;
        self.holding.forget(|_, asked| now > asked + FORGOTTEN);
        for peer in self.belonging_peers() {
            let waits = self.holding.waits.iter();
            let silent = waits.filter(|(_, wait)| !wait.by.contains(&peer));
            ask(peer, silent.map(|(edit, _)| edit.clone()), effects);
        }
    }

    fn holders(&self) -> Holders {
        let peers = self.belonging_peers().into_iter().collect();
        Holders { peers, me: self.belongs(self.me) }
    }

    fn belonging_peers(&self) -> Vec<ServerId> {
        self.engine.peers().filter(|peer| self.belongs(*peer)).collect()
    }

    /// Whether a server has not been removed: its document is not dead.
    fn belongs(&self, server: ServerId) -> bool {
        let document = Id::<Server>::from_uuid(server.0).into();
        self.read(|index| !index.graves.contains_key(&document))
    }
}

fn ask(peer: ServerId, edits: impl Iterator<Item = Heads>, effects: &mut Effects) {
    let messages = cut(edits).into_iter().map(|edits| (vec![peer], Message::AskHeld(edits)));
    effects.sends.extend(messages);
}

fn tell(peer: ServerId, edits: Vec<Heads>, effects: &mut Effects) {
    let messages = cut(edits.into_iter()).into_iter();
    effects.sends.extend(messages.map(|edits| (vec![peer], Message::Held(edits))));
}

/// Edits in messages of at most [`HEADS`] hashes, far below the limit of a frame.
fn cut(edits: impl Iterator<Item = Heads>) -> Vec<Vec<Heads>> {
    let mut messages: Vec<(usize, Vec<Heads>)> = Vec::new();
    for edit in edits {
        let size = edit.heads.len();
        match messages.last_mut() {
            Some((filled, message)) if *filled + size <= HEADS => {
                *filled += size;
                message.push(edit);
            }
            _ => messages.push((size, vec![edit])),
        }
    }
    messages.into_iter().map(|(_, message)| message).collect()
}
