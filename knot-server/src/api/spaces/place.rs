//! Where a new space gets its home.

use std::collections::BTreeMap;

use knot_core::{
    id::ServerId,
    model::{Server, ServerStatus, Template},
};

use crate::api::{
    app::{App, Reachability},
    problem::{Code, Problem},
    world::World,
};

/// The server that a new space is placed on: this one, if it has the engine; else, of those that
/// this one hears and that have it, the one with the fewest spaces.
/// Servers of zones that the template leaves out are none of them.
pub(super) fn home(app: &App, world: &World<'_>, template: &Template) -> Result<ServerId, Problem> {
    let platform = &template.platform;
    let mut placed: BTreeMap<ServerId, usize> = BTreeMap::new();
    for space in world.all_spaces() {
        *placed.entry(space.placement.server).or_default() += 1;
    }
    let able = app.replica.list::<Server>().into_iter().filter_map(|server| {
        let id = ServerId(server.id().uuid());
        let status: ServerStatus = app.replica.observed(server.id(), id)?;
        let linked = app.reachability(id) == Reachability::Linked;
        let fits = linked && template.allows_zone(&server.zone);
        (fits && status.platforms.iter().any(|has| has == platform)).then_some(id)
    });
    let me = app.replica.me();
    let zones: Vec<_> = template.zones.iter().map(String::as_str).collect();
    let zones = match zones.is_empty() {
        true => String::new(),
        false => format!(" and is in the template's zones ({})", zones.join(", ")),
    };
    able.min_by_key(|id| (*id != me, placed.get(id).copied().unwrap_or_default(), *id)).ok_or_else(|| {
        Problem::new(
            Code::NoEngine,
            format!(
                "no server that can be reached{zones} has an engine for platform {platform}: GET /api/v1/servers says what \
                 each has; start the engine on one of them, or change the template's platform"
            ),
        )
    })
}
