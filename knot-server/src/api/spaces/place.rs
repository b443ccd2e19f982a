//! Where a new space gets its home.

use knot_core::{
    id::{Id, ServerId},
    model::{self, Server, ServerStatus},
};

use crate::api::{
    app::{App, Reachability},
    problem::{Code, Problem},
    world::{World, find_server, server_name},
};

/// The server that a new space is placed on: this one, if it has the engine; else, of those that
/// this one hears and that have it, the one with the fewest spaces.
pub(super) fn home(app: &App, world: &World<'_>, platform: &str) -> Result<ServerId, Problem> {
    let placed = world.homes();
    let able = able(app, platform).into_iter();
    let able = able.filter(|id| app.reachability(*id) == Reachability::Linked);
    let me = app.replica.me();
    able.min_by_key(|id| (*id != me, placed.get(id).copied().unwrap_or_default(), *id))
        .ok_or_else(|| no_engine(platform))
}

/// The home of a space that is made with a key of its client's: the same wherever the request is
/// taken, so that one which is sent again on the other side of a partition is not done there, too.
pub(super) fn home_of(
    app: &App,
    space: Id<model::Space>,
    platform: &str,
) -> Result<ServerId, Problem> {
    let weight = |server: &ServerId| {
        Id::<()>::of_key(&[space.uuid().as_bytes(), server.0.as_bytes()]).uuid()
    };
    let home = able(app, platform).into_iter().max_by_key(weight);
    let home = home.ok_or_else(|| no_engine(platform))?;
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
pub(super) fn chosen(app: &App, key: &str, platform: &str) -> Result<ServerId, Problem> {
    let server = find_server(app, key)?;
    let id = ServerId(server.id().uuid());
    if app.reachability(id) != Reachability::Linked {
        return Err(Problem::new(
            Code::HomeUnreachable,
            format!("server {} cannot be reached from here: choose another", server.name),
        ));
    }
    if !able(app, platform).contains(&id) {
        return Err(Problem::new(
            Code::NoEngine,
            format!(
                "server {} has no engine for platform {platform}: choose another, or start the engine \
                 there",
                server.name
            ),
        ));
    }
    Ok(id)
}

/// The servers that say they have an engine for a platform.
fn able(app: &App, platform: &str) -> Vec<ServerId> {
    let servers = app.replica.list::<Server>();
    let able = servers.iter().filter_map(|server| {
        let id = ServerId(server.id().uuid());
        let status: ServerStatus = app.replica.observed(server.id(), id)?;
        status.platforms.iter().any(|has| has == platform).then_some(id)
    });
    able.collect()
}

fn no_engine(platform: &str) -> Problem {
    Problem::new(
        Code::NoEngine,
        format!(
            "no server that can be reached has an engine for platform {platform}: GET /api/v1/servers says what \
             each has; start the engine on one of them, or change the template's platform"
        ),
    )
}
