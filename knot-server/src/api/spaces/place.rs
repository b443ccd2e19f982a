//! Where a new space gets its home.

use std::collections::BTreeMap;

use knot_core::{
    id::ServerId,
    model::{Server, ServerStatus},
};

use crate::api::{
    app::{App, Reachability},
    problem::{Code, Problem},
    world::World,
};

/// The server that a new space is placed on: this one, if it has the engine; else, of those that
/// this one hears and that have it, the one with the fewest spaces.
pub(super) fn home(app: &App, world: &World<'_>, platform: &str) -> Result<ServerId, Problem> {
    let mut placed: BTreeMap<ServerId, usize> = BTreeMap::new();
    for space in world.all_spaces() {
        *placed.entry(space.placement.server).or_default() += 1;
    }
    let able = app.replica.list::<Server>().into_iter().filter_map(|server| {
        let id = ServerId(server.id().uuid());
        let status: ServerStatus = app.replica.observed(server.id(), id)?;
        let linked = app.reachability(id) == Reachability::Linked;
        (linked && status.platforms.iter().any(|has| has == platform)).then_some(id)
    });
    let me = app.replica.me();
    able.min_by_key(|id| (*id != me, placed.get(id).copied().unwrap_or_default(), *id)).ok_or_else(|| {
        Problem::new(
            Code::NoEngine,
            format!(
                "no server that can be reached has an engine for platform {platform}: GET /api/v1/servers says what \
                 each has; start the engine on one of them, or change the template's platform"
            ),
        )
    })
}
