//! The walk: what two replicas say to each other until each knows what it lacks.
//!
//! Every answer is bounded, whatever was asked: a `Nodes` is answered with at most 16 or 256 entries
//! for each of 128 nodes, an `Items` with at most [`OFFERED`] items.

use std::{collections::BTreeMap, time::Duration};

use super::{Engine, Output};
use crate::{
    id::ServerId,
    sync::{
        message::Message,
        packed::{Buckets, Items, LEVELS, NODES, Nodes},
        tree::{ItemKey, Prefix},
    },
};

/// Under a node with at most so many items here, they are listed rather than walked further.
const FEW: u64 = 8;
/// With at most so many nodes that differ, the walk goes two levels down at once.
const SPARSE: usize = 2;
/// The most bytes of answer to one `Nodes`. What is left out, the next walk finds.
const ANSWER: usize = 512 << 10;
/// The most items in one `Items` or `Offer`, but for one bucket, which is never cut.
const LISTED: usize = 8_192;
/// The most items offered in answer to one `Items`. What is left out, the next walk finds.
const OFFERED: usize = 65_536;

impl Engine {
    /// What begins a walk: the sums two levels down, or all items where there are few.
    pub(super) fn first_step(&mut self) -> Message {
        self.salt = self.salt.wrapping_add(1);
        match self.tree.root().count {
            0..=FEW => Message::Items(Buckets::new([self.list(Prefix::ROOT)])),
            count => {
                let levels = if count <= 16 * FEW { 1 } else { LEVELS };
                let node = self.describe(self.salt, levels, Prefix::ROOT);
                Message::Nodes(Nodes::new(self.salt, levels, [node]))
            }
        }
    }

    /// The peer has told its sums below some nodes: tell ours a level below those that differ, or the
    /// items themselves.
    pub(super) fn compare_nodes(&self, id: ServerId, nodes: &Nodes) -> Vec<Output> {
        let (salt, levels) = (nodes.salt, nodes.levels);
        let (mut deeper, mut buckets, mut size) = (Vec::new(), Vec::new(), 0);
        'all: for (prefix, sums) in nodes.read() {
            for (child, sum) in prefix.below(levels).zip(sums) {
                let mine = self.tree.node(child);
                if mine.salted(salt) == sum {
                    continue;
                }
                if mine.count <= FEW || child.levels() == 0 {
                    let bucket = self.list(child);
                    size += 5 + 24 * bucket.1.len();
                    buckets.push(bucket);
                } else {
                    size += 67;
                    deeper.push(child);
                }
                if size > ANSWER {
                    break 'all;
                }
            }
        }
        let sparse = deeper.len() <= SPARSE
            && deeper
                .iter()
                .all(|node| node.levels() >= LEVELS && self.tree.node(*node).count > 16 * FEW);
        let levels = if sparse { LEVELS } else { 1 };
        let nodes = deeper.chunks(NODES).map(|nodes| {
            let nodes = nodes.iter().map(|node| self.describe(salt, levels, *node));
            Message::Nodes(Nodes::new(salt, levels, nodes))
        });
        let items =
            listed(buckets).into_iter().map(|buckets| Message::Items(Buckets::new(buckets)));
        nodes.chain(items).map(|message| Output::Send(id, message)).collect()
    }

    /// The peer has listed all it has under some nodes: offer what it lacks, and want what it has.
    pub(super) fn compare_items(
        &mut self,
        now: Duration,
        id: ServerId,
        buckets: &Buckets,
    ) -> Vec<Output> {
        let (mut offer, mut theirs) = (Vec::new(), Vec::new());
        for (prefix, items) in buckets.read() {
            let room = OFFERED.saturating_sub(offer.len());
            if room == 0 {
                break;
            }
            let listed: BTreeMap<_, _> = items.iter().copied().collect();
            let lacking =
                self.tree.items(prefix).filter(|(key, digest)| listed.get(key) != Some(digest));
            offer.extend(lacking.take(room));
            theirs.extend(items);
        }
        self.want(now, id, theirs);
        let offers = offer.chunks(LISTED).map(|items| Message::Offer(Items::new(items)));
        offers.map(|message| Output::Send(id, message)).collect()
    }

    fn list(&self, prefix: Prefix) -> (Prefix, Vec<(ItemKey, u64)>) {
        (prefix, self.tree.items(prefix).collect())
    }

    fn describe(&self, salt: u32, levels: u8, prefix: Prefix) -> (Prefix, Vec<u32>) {
        let sum = |node| self.tree.node(node).salted(salt);
        (prefix, prefix.below(levels).map(sum).collect())
    }
}

type Bucket = (Prefix, Vec<(ItemKey, u64)>);

/// Buckets by the message that they go into.
fn listed(buckets: Vec<Bucket>) -> Vec<Vec<Bucket>> {
    let mut messages: Vec<(usize, Vec<Bucket>)> = Vec::new();
    for bucket in buckets {
        // An empty bucket costs something too.
        let size = bucket.1.len() + 1;
        match messages.last_mut() {
            Some((filled, message)) if *filled + size <= LISTED => {
                *filled += size;
                message.push(bucket);
            }
            _ => messages.push((size, vec![bucket])),
        }
    }
    messages.into_iter().map(|(_, message)| message).collect()
}
