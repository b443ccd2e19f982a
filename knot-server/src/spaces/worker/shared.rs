//! A space on an engine that servers share: whether another part of the cluster drives it, and standing
//! in for its home.

use knot_core::{
    clock::Millis,
    id::{Id, ServerId},
    model::{Server, ServerStatus, Space, SpaceStatus},
    replica::{EditError, Replica},
};

use super::{Done, Failure, Worker};
use crate::spaces::{
    drivers::{Job, Platform},
    rendezvous,
    stand_in::{self, Actor, DRIVEN, Step},
    wishes,
};

impl Worker {
    /// Whether the engine has a job of the space that serves a change which is not held here, or is of a
    /// term that is not known here. What is held once is held for good.
    pub(super) async fn is_driven(&mut self, space: Option<&Space>, job: Option<&Job>) -> bool {
        let later = |space: &Space, job: &Job| job.labels.generation.term > space.placement.term;
        if space.zip(job).is_some_and(|(space, job)| later(space, job)) {
            return true;
        }
        let Some(change) = job.and_then(|job| job.serves) else { return false };
        if self.held == Some(change) {
            return false;
        }
        let held = wishes::holds(&self.home.replica, self.space, change).await;
        if held {
            self.held = Some(change);
        }
        !held
    }

    /// What this server's record should say of another part of the cluster that drives the space, where
    /// it says something else; the home's record has also to show that it has seen what a stand-in has.
    pub(super) fn news(
        &self,
        job: Option<&Job>,
        driven: bool,
        status: &SpaceStatus,
    ) -> Option<SpaceStatus> {
        if status.witness.is_some() {
            // The space has come here since.
            return Some(SpaceStatus { witness: None, ..status.clone() });
        }
        let note = job.filter(|_| driven).map(stand_in::driven);
        let said = status.note.as_deref().is_some_and(|note| note.starts_with(DRIVEN));
        if (note.is_some() || said) && note != status.note {
            return Some(SpaceStatus { note, ..status.clone() });
        }
        let seen = job.filter(|job| job.index > status.index)?;
        let others = witnesses(&self.home.replica, self.space, status);
        let behind = others.into_iter().any(|witness| witness > status.index);
        (behind && !driven && seen.index > 0).then(|| status.clone())
    }

    /// Does what there is to do in place of the home; `None` where that is nothing.
    pub(super) async fn stand_in(
        &self,
        space: Option<&Space>,
        job: Option<&Job>,
        driven: bool,
        status: &SpaceStatus,
    ) -> Result<Option<Done>, EditError> {
        if space.is_none() && self.home.replica.grave(self.space).is_none() {
            return Ok(None);
        }
        let home = space.map(|space| space.placement.server);
        let Some(home) = home.or(job.map(|job| ServerId(job.labels.owner.home))) else {
            return Ok(None);
        };
        if self.actor(home) == Actor::Me {
            // One that has just come up may not have been linked to the home yet.
            self.home.trusted.settle(&self.home.replica).await;
        }
        let of_home: SpaceStatus = self.home.replica.observed(self.space, home).unwrap_or_default();
        let step = stand_in::next(&stand_in::World {
            actor: self.actor(home),
            desired: space.map(|space| space.desired),
            job,
            driven,
            home: &of_home,
            witness: status.witness.as_ref(),
            now: Millis::now(),
        });
        match step {
            Step::Rest => Ok(None),
            Step::Say(witness) => {
                self.write(SpaceStatus { witness, ..status.clone() }).await?;
                Ok(Some(Done::Done))
            }
            Step::Stop(instance) => {
                let found = [(Platform::Nomad, instance.clone())];
                let outcome = self.end(&instance, &of_home, &found).await.outcome;
                if let Err(Failure(why)) = outcome {
                    tracing::warn!(space = %self.space, why, "not stopped in place of its home");
                    return Ok(Some(Done::TryAgain));
                }
                tracing::info!(space = %self.space, %home, "stopped in place of its home");
                Ok(Some(Done::Done))
            }
        }
    }

    /// Who acts on the space: its home where that is heard and sees the engine; else the one of those
    /// that do.
    fn actor(&self, home: ServerId) -> Actor {
        let (replica, me) = (&self.home.replica, self.home.me);
        let Some(engine) = engine_of(replica, me) else { return Actor::Another };
        let is_able = |server: ServerId| {
            let heard = server == me || self.home.net.reach().is_reachable(server);
            heard && engine_of(replica, server).is_some_and(|other| may_be_one(&engine, &other))
        };
        if is_able(home) {
            return Actor::Home;
        }
        let servers = replica.list::<Server>();
        let able =
            servers.iter().map(|server| ServerId(server.id().uuid())).filter(|id| is_able(*id));
        match rendezvous::chosen(self.space.uuid(), able) {
            Some(chosen) if chosen == me => Actor::Me,
            _ => Actor::Another,
        }
    }
}

/// The shared engine that a server sees, by what it says of who it is.
fn engine_of(replica: &Replica, server: ServerId) -> Option<Option<String>> {
    let status: ServerStatus = replica.observed(Id::<Server>::from_uuid(server.0), server)?;
    let nomad = Platform::Nomad.as_str();
    let sees = status.platforms.iter().any(|platform| platform == nomad);
    sees.then(|| status.engines.get(nomad).cloned())
}

/// One that does not say who it is may be any.
fn may_be_one(one: &Option<String>, other: &Option<String>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// The numbers that others' records give to what they saw last of the generation, in place of its home.
fn witnesses(replica: &Replica, space: Id<Space>, status: &SpaceStatus) -> Vec<u64> {
    let others = replica.all_observed::<SpaceStatus>(space).into_iter();
    let witnesses = others.filter_map(|(_, other)| other.witness);
    let of_this = witnesses.filter(|witness| witness.generation >= status.generation);
    of_this.map(|witness| witness.index).collect()
}
