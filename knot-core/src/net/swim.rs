//! The shell around membership: brings datagrams to it and sends its own, and looks again for a peer
//! whose link was lost.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    links::Links,
    peer::{self, Open},
    service::Shared,
};
use crate::{
    id::ServerId,
    membership::{self, Input, Membership, Output},
};

/// How long a peer whose link was lost has to be linked again, or another server to say that it
/// reaches it. Within it a dialler has dialled again.
const LOOK: Duration = Duration::from_millis(400);
/// How long a server that is asked tries, so that its answer is there in time.
const TRY: Duration = Duration::from_millis(250);
/// How many events may wait. Of datagrams, which may be lost anyway, what is beyond is dropped.
const EVENTS: usize = 1_024;

pub(super) enum Event {
    Linked { peer: ServerId, run: u64 },
    Lost { peer: ServerId, run: u64, stops: bool },
    Belong(BTreeSet<ServerId>),
    Packet { from: ServerId, packet: Bytes },
}

/// A handle to the task of membership; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Swim(mpsc::Sender<Event>);

impl Swim {
    /// A handle, and what [`run`] takes.
    pub(super) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (sender, events) = mpsc::channel(EVENTS);
        (Self(sender), events)
    }

    /// A peer is linked, in this run of it.
    pub(super) async fn linked(&self, peer: ServerId, run: u64) {
        self.0.send(Event::Linked { peer, run }).await.ok();
    }

    /// The link to this run of a peer is gone; perhaps because it `stops`.
    pub(super) async fn lost(&self, peer: ServerId, run: u64, stops: bool) {
        self.0.send(Event::Lost { peer, run, stops }).await.ok();
    }

    /// These servers belong to the cluster, and no others.
    pub(super) async fn belong(&self, servers: BTreeSet<ServerId>) {
        self.0.send(Event::Belong(servers)).await.ok();
    }

    /// A packet came over the link of a peer. It is dropped where too many wait.
    pub(super) fn offer(&self, from: ServerId, packet: Bytes) {
        self.0.try_send(Event::Packet { from, packet }).ok();
    }
}

/// Runs membership until the network stops.
pub(super) async fn run(shared: Shared, mut events: mpsc::Receiver<Event>) {
    let mut rng = StdRng::seed_from_u64(shared.seed);
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    let mut membership = Membership::new(shared.identity.server, shared.run, seed);
    let began = Instant::now();
    let mut looks = JoinSet::new();
    loop {
        let deadline = membership.deadline().map(|at| began + at);
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let outputs = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            () = due => membership.handle(began.elapsed(), Input::Due),
            Some(Some(input)) = next_look(&mut looks) => {
                membership.handle(began.elapsed(), input)
            }
            event = events.recv() => match event {
                Some(event) => take(&shared, &mut membership, &mut looks, began.elapsed(), event),
                None => return,
            }
        };
        outputs.into_iter().for_each(|output| follow(&shared, output));
    }
}

fn take(
    shared: &Shared,
    membership: &mut Membership,
    looks: &mut JoinSet<Option<Input>>,
    now: Duration,
    event: Event,
) -> Vec<Output> {
    let input = match event {
        Event::Packet { from, packet } => {
            return membership.receive(now, from, &packet).unwrap_or_else(|error| {
                tracing::debug!(peer = %from, %error, "a packet of membership was dropped");
                Vec::new()
            });
        }
        Event::Linked { peer, run } => Input::Linked { peer, run },
        Event::Belong(servers) => Input::Belong(servers),
        // Linked again already, which another task tells.
        Event::Lost { peer, .. } if shared.links.connection(peer).is_some() => return Vec::new(),
        Event::Lost { peer, run, stops } => {
            let mut outputs = membership.handle(now, Input::Lost(peer));
            if stops {
                outputs.extend(membership.handle(now, Input::Unreached { peer, run }));
            } else {
                let chance = shared.seed.wrapping_add(u64::from(now.subsec_nanos()));
                looks.spawn(look(shared.links.clone(), peer, run, chance));
            }
            return outputs;
        }
    };
    membership.handle(now, input)
}

/// The next look that has ended; never, while there is none.
async fn next_look(looks: &mut JoinSet<Option<Input>>) -> Option<Option<Input>> {
    match looks.join_next().await {
        Some(ended) => Some(ended.ok().flatten()),
        None => std::future::pending().await,
    }
}

fn follow(shared: &Shared, output: Output) {
    match output {
        Output::Send(to, packet) => {
            let Some(connection) = shared.links.connection(to) else { return };
            let datagram = membership::encode(shared.replica.root().into(), &packet);
            if let Err(error) = connection.send_datagram(datagram) {
                tracing::debug!(peer = %to, %error, "a datagram was not sent");
            }
        }
        Output::Up(server) => {
            tracing::info!(%server, "server can be reached");
            shared.links.set_up(server, true);
        }
        Output::Down(server) => {
            tracing::info!(%server, "server cannot be reached");
            shared.links.set_up(server, false);
        }
    }
}

/// Looks again for a peer whose link was lost. It is dialled meanwhile, as every peer is that is not
/// linked.
async fn look(links: Links, peer: ServerId, run: u64, chance: u64) -> Option<Input> {
    let linked = links.until(peer, true);
    let heard = async {
        if !ask_another(&links, peer, chance).await {
            std::future::pending::<()>().await;
        }
    };
    let found = async {
        tokio::select! {
            () = linked => (),
            () = heard => (),
        }
    };
    timeout(LOOK, found).await.is_err().then_some(Input::Unreached { peer, run })
}

/// Asks another server whether it reaches a peer.
async fn ask_another(links: &Links, peer: ServerId, chance: u64) -> bool {
    let others = links.others(peer);
    let count = u64::try_from(others.len().max(1)).unwrap_or(u64::MAX);
    let chosen = usize::try_from(chance % count).unwrap_or_default();
    let Some(other) = others.get(chosen) else { return false };
    peer::ask(other, &Open::Reach(peer)).await.unwrap_or(false)
}

/// Whether a server answers over its link now.
pub(super) async fn reaches(links: &Links, server: ServerId) -> bool {
    let Some(connection) = links.connection(server) else { return false };
    peer::answers(&connection, TRY).await
}
