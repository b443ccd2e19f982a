//! Where a new space gets its home.

use knot_core::{
    id::{Id, ServerId},
    model::{self, Server, ServerStatus, Template},
};

use crate::{
    api::{
        app::{App, Reachability},
        problem::{Code, Problem},
        world::{World, find_server, server_name},
    },
    spaces::rendezvous,
};

/// The server that a new space is placed on: this one, if it has the engine; else, of those that
/// this one hears and that have it, the one with the fewest spaces. Servers of zones that the template
/// leaves out are none of them.
pub(super) fn home(app: &App, world: &World<'_>, template: &Template) -> Result<ServerId, Problem> {
    let placed = world.homes();
    let able = able(app, template).into_iter();
    let able = able.filter(|id| app.reachability(*id) == Reachability::Linked);
    let me = app.replica.me();
    able.min_by_key(|id| (*id != me, placed.get(id).copied().unwrap_or_default(), *id))
        .ok_or_else(|| no_engine(template))
}

/// The home of a space that is made with a key of its client's: the same wherever the request is
/// taken, so that one which is sent again on the other side of a partition is not done there, too.
pub(super) fn home_of(
    app: &App,
    space: Id<model::Space>,
    template: &Template,
) -> Result<ServerId, Problem> {
    let home = rendezvous::chosen(space.uuid(), able(app, template));
    let home = home.ok_or_else(|| no_engine(template))?;
    if app.reachability(home) == Reachability::Linked {
        return Ok(home);
    }
    Err(Problem::new(
        Code::HomeUnreachable,
        format!(
            "a space with this idempotency key belongs on {}, which cannot be reached: whether it was \
             made there is not known here; wait, or use a new key, or name a server",
            server_name(app, home)
        ),
    ))
}

/// The server that a caller chose, if it can be the home.
pub(super) fn chosen(app: &App, key: &str, template: &Template) -> Result<ServerId, Problem> {
    let server = find_server(app, key)?;
    let id = ServerId(server.id().uuid());
    if app.reachability(id) != Reachability::Linked {
        return Err(Problem::new(
            Code::HomeUnreachable,
            format!("server {} cannot be reached from here: choose another", server.name),
        ));
    }
    if !able(app, template).contains(&id) {
        return Err(Problem::new(
            Code::NoEngine,
            format!(
                "server {} has no engine for platform {}, or is in no zone of the template: choose \
                 another, or start the engine there",
                server.name, template.platform
            ),
        ));
    }
    Ok(id)
}

/// The servers in the template's zones that say they have an engine for its platform.
pub(in crate::api) fn able(app: &App, template: &Template) -> Vec<ServerId> {
    let servers = app.replica.list::<Server>();
    let able = servers.iter().filter_map(|server| {
        let id = ServerId(server.id().uuid());
        let status: ServerStatus = app.replica.observed(server.id(), id)?;
        let has = status.platforms.contains(&template.platform);
        (has && template.allows_zone(&server.zone)).then_some(id)
    });
    able.collect()
}

fn no_engine(template: &Template) -> Problem {
    let zones: Vec<_> = template.zones.iter().map(String::as_str).collect();
    let zones = match zones.is_empty() {
        true => String::new(),
        false => format!(" and is in the template's zones ({})", zones.join(", ")),
    };
    let platform = &template.platform;
    Problem::new(
        Code::NoEngine,
        format!(
            "no server that can be reached{zones} has an engine for platform {platform}: GET /api/v1/servers says what \
             each has; start the engine on one of them, or change the template's platform"
        ),
    )
}
