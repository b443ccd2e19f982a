//! How a space is shown: a pure function of what this server knows of it.

use knot_core::{
    generation::Generation,
    id::{Id, ServerId},
    model::{self, Platform, ServerStatus, SpaceStatus, Template, Witness},
};

use crate::api::{
    app::Reachability,
    types::{Conflict, Desired, Health, Observed, Reached, Space, ports::Forward},
    world::{SEALED, is_sealed},
};

/// What this server knows of a space.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) id: Id<model::Space>,
    pub(crate) space: &'a model::Space,
    /// Its name, with digits behind it where another has the same.
    pub(crate) name: &'a str,
    /// The owner's name, where the owner is known.
    pub(crate) owner: Option<&'a str>,
    /// The template and its name, where it lives.
    pub(crate) template: Option<(&'a Template, &'a str)>,
    /// The template's current revision, where it is known.
    pub(crate) revision: Option<String>,
    /// The home's name, where the home belongs to the cluster.
    pub(crate) home: Option<&'a str>,
    /// Whether this server hears the home.
    pub(crate) reachability: Reachability,
    /// How this server reaches the agent.
    pub(crate) reached: Option<Reached>,
    /// The names of those it is shared with.
    pub(crate) shares: Vec<String>,
    /// What listens in it and leads to other spaces.
    pub(crate) forwards: Vec<Forward>,
    /// The name of the server that it is to move to.
    pub(crate) moving: Option<String>,
    /// The home's record.
    pub(crate) status: Option<&'a SpaceStatus>,
    /// The home's record of itself.
    pub(crate) server: Option<&'a ServerStatus>,
    /// What another server has seen later on an engine that both use.
    pub(crate) witness: Option<Witness>,
    pub(crate) conflicts: Vec<Conflict>,
}

/// The space as the API shows it.
pub(crate) fn show(facts: Facts<'_>) -> Space {
    let Facts {
        id,
        space,
        name,
        owner,
        template,
        revision,
        home,
        reachability,
        status,
        server,
        witness,
        conflicts,
        ..
    } = facts;
    let ServerId(home_id) = space.placement.server;
    let home = home.map_or_else(|| home_id.to_string(), str::to_owned);
    let (observed, since, cause) = match (witness, reachability, status) {
        (Some(witness), ..) => (observed(witness.state), Some(witness.since), witness.words),
        (None, Reachability::Lost { since }, _) => (
            Observed::Unreachable,
            since,
            Some(format!(
                "its home {home} cannot be reached from here: what is asked of the space is kept, and done once \
                 the home hears of it"
            )),
        ),
        (None, Reachability::Linked, None) => (Observed::Created, Some(space.created), None),
        (None, Reachability::Linked, Some(status)) => {
            let words = status.cause.clone().or_else(|| status.note.clone());
            (observed(status.state), Some(status.since), words)
        }
    };
    let linked = reachability == Reachability::Linked;
    // On an engine that servers share, who drives a space is said with more in the home's own words.
    let is_shared = |status: &SpaceStatus| status.driver.parse().is_ok_and(Platform::is_shared);
    let alone = linked && !status.is_some_and(is_shared);
    let waits = server.filter(|_| alone).and_then(|server| waits(server, id, &home));
    let cause = waits.or(cause);
    let begun = status.filter(|status| status.generation > Generation::default());
    Space {
        id: id.to_string(),
        name: name.to_owned(),
        owner: owner.map_or_else(|| space.owner.to_string(), str::to_owned),
        owner_id: space.owner.to_string(),
        template: template.map_or_else(|| space.template.to_string(), |(_, name)| name.to_owned()),
        template_id: space.template.to_string(),
        without: template
            .map(|(template, _)| template.without.iter().cloned().collect())
            .unwrap_or_default(),
        desired: match space.desired {
            model::Desired::Stopped => Desired::Stopped,
            model::Desired::Running => Desired::Running,
        },
        observed,
        cause,
        since: since.map(|since| since.to_string()),
        health: begun.and_then(|status| status.health.as_ref()).map(|health| Health {
            well: health.well,
            since: health.since.to_string(),
            words: health.words.clone(),
        }),
        generation: begun.map(|status| status.generation.to_string()),
        revision: begun.map(|status| status.revision.clone()),
        driver: begun.map(|status| status.driver.clone()).filter(|driver| !driver.is_empty()),
        home,
        home_id: home_id.to_string(),
        home_reachable: reachability == Reachability::Linked,
        reached: facts.reached,
        update_available: update_available(begun, revision.as_deref()),
        parameters: space.parameters.iter().map(parameter).collect(),
        conflicts,
        description: space.description.clone(),
        note: space.note.clone(),
        shares: facts.shares,
        forwards: facts.forwards,
        alt_names: space.alt_names.clone(),
        depends_on: space.depends_on.iter().map(ToString::to_string).collect(),
        term: space.placement.term,
        moving_to: facts.moving,
        empty_volumes: match space.moving_to() {
            Some(wanted) => wanted.empty,
            None => space.emptied == space.placement,
        },
        created: space.created.to_string(),
    }
}

/// That the home does nothing for the space, since it may not know enough.
fn waits(server: &ServerStatus, id: Id<model::Space>, home: &str) -> Option<String> {
    let why = match (server.restored, server.outdated.contains(&id.uuid())) {
        (true, _) => "was restored, and may be older than what its engine runs",
        (false, true) => "is older than what its engine runs",
        (false, false) => return None,
    };
    Some(format!(
        "its server {home} waits: its data {why}; what is asked of the space is kept, and done once \
         {home} has caught up with another server, or is told that there is none (`knot-server alone`)"
    ))
}

/// Whether a generation runs that was started from another revision than the template has now.
fn update_available(status: Option<&SpaceStatus>, revision: Option<&str>) -> bool {
    let (Some(status), Some(revision)) = (status, revision) else { return false };
    let running = matches!(
        status.state,
        model::Observed::Provisioning
            | model::Observed::Starting
            | model::Observed::Running
            | model::Observed::Stopping
    );
    running && status.revision != revision
}

/// A parameter's value as people see it.
fn parameter((name, value): (&String, &String)) -> (String, String) {
    let value = if is_sealed(value) { SEALED } else { value };
    (name.clone(), value.to_owned())
}

fn observed(state: model::Observed) -> Observed {
    match state {
        model::Observed::Created => Observed::Created,
        model::Observed::Provisioning => Observed::Provisioning,
        model::Observed::Starting => Observed::Starting,
        model::Observed::Running => Observed::Running,
        model::Observed::Stopping => Observed::Stopping,
        model::Observed::Stopped => Observed::Stopped,
        model::Observed::Failed => Observed::Failed,
        model::Observed::Deleting => Observed::Deleting,
        model::Observed::Gone => Observed::Gone,
    }
}

#[cfg(test)]
mod tests {
    use knot_core::clock::Millis;

    use super::*;

    struct World {
        space: model::Space,
        template: Template,
        status: Option<SpaceStatus>,
        server: ServerStatus,
        witness: Option<Witness>,
        reachability: Reachability,
    }

    fn world() -> World {
        let template = Template { image: "busybox".to_owned(), ..Template::default() };
        let status = SpaceStatus {
            state: model::Observed::Running,
            since: Millis(5_000),
            generation: Generation { term: 1, n: 2 },
            revision: template.revision(),
            driver: "docker".to_owned(),
            ..SpaceStatus::default()
        };
        let space = model::Space {
            desired: model::Desired::Running,
            created: Millis(1_000),
            ..model::Space::default()
        };
        World {
            space,
            template,
            status: Some(status),
            server: ServerStatus::default(),
            witness: None,
            reachability: Reachability::Linked,
        }
    }

    fn shown(world: &World) -> Space {
        show(Facts {
            id: Id::default(),
            space: &world.space,
            name: "web",
            owner: Some("anna"),
            template: Some((&world.template, "rust")),
            revision: Some(world.template.revision()),
            home: Some("alpha"),
            shares: Vec::new(),
            forwards: Vec::new(),
            moving: None,
            reached: None,
            reachability: world.reachability,
            status: world.status.as_ref(),
            server: Some(&world.server),
            witness: world.witness.clone(),
            conflicts: Vec::new(),
        })
    }

    #[test]
    fn a_space_is_as_its_home_says() {
        let space = shown(&world());
        assert_eq!((space.observed, space.home_reachable), (Observed::Running, true));
        assert_eq!(space.since.as_deref(), Some("1970-01-01T00:00:05.000Z"));
        assert_eq!(space.generation.as_deref(), Some("1.2"));
        assert_eq!(space.driver.as_deref(), Some("docker"));
        assert!(!space.update_available);
    }

    #[test]
    fn what_a_stand_in_has_seen_later_is_shown() {
        let words = Some("stopped".to_owned());
        let (state, since) = (model::Observed::Stopped, Millis(9_000));
        let witness = Some(Witness { state, since, words: words.clone(), ..Witness::default() });
        let reachability = Reachability::Lost { since: None };
        let space = shown(&World { witness, reachability, ..world() });
        assert_eq!((space.observed, space.cause), (Observed::Stopped, words));
        assert!(!space.home_reachable);
    }

    #[test]
    fn without_a_record_it_is_created() {
        let space = shown(&World { status: None, ..world() });
        assert_eq!((space.observed, space.generation), (Observed::Created, None));
        assert_eq!(space.since, Some(space.created));
    }

    #[test]
    fn a_home_out_of_reach_is_said_and_the_last_word_kept() {
        let reachability = Reachability::Lost { since: Some(Millis(9_000)) };
        let space = shown(&World { reachability, ..world() });
        assert_eq!((space.observed, space.home_reachable), (Observed::Unreachable, false));
        assert_eq!(space.since.as_deref(), Some("1970-01-01T00:00:09.000Z"));
        assert_eq!(space.generation.as_deref(), Some("1.2"));
        assert!(space.cause.unwrap().contains("alpha"));
    }

    #[test]
    fn a_home_whose_data_is_old_waits_and_says_so() {
        let mut world = world();
        world.server.outdated = [uuid::Uuid::from_u128(7)].into();
        assert_eq!(shown(&world).cause, None, "another space's");
        world.server.outdated = [uuid::Uuid::nil()].into();
        let old = shown(&world);
        assert_eq!(old.observed, Observed::Running);
        assert!(
            old.cause.unwrap().starts_with(
                "its server alpha waits: its data is older than what its engine runs;"
            )
        );
        world.server.restored = true;
        let restored = shown(&world).cause.unwrap();
        assert!(restored.contains("was restored") && restored.contains("knot-server alone"));
        world.reachability = Reachability::Lost { since: None };
        assert!(shown(&world).cause.unwrap().contains("cannot be reached"));
    }

    #[test]
    fn an_update_is_available_while_a_generation_of_another_revision_runs() {
        use model::Observed as State;
        for (state, running) in [
            (State::Created, false),
            (State::Provisioning, true),
            (State::Starting, true),
            (State::Running, true),
            (State::Stopping, true),
            (State::Stopped, false),
            (State::Failed, false),
        ] {
            let mut world = world();
            world.status.as_mut().unwrap().state = state;
            assert!(!shown(&world).update_available, "{state}: the same revision");
            world.template.image = "alpine".to_owned();
            assert_eq!(shown(&world).update_available, running, "{state}");
            world.template.image = "busybox".to_owned();
            world.template.description = "changed".to_owned();
            assert!(!shown(&world).update_available, "{state}: no field that a start uses");
        }
    }
}
