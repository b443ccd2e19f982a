//! How volumes are shown: what is wanted of them, beside what their servers say.

use std::collections::BTreeSet;

use knot_core::{
    id::{Id, ServerId},
    model::{self, Server, ServerStatus, VolumeStatus},
    replica::Doc,
};

use super::{
    super::{
        app::{App, Reachability},
        caller::Caller,
        types::{Orphan, Volume},
        world::{World, server_name, user_name},
    },
    may_see, wanted_engine,
};

/// The volumes that a caller may see, and what was set aside for them, by space and name; and their ids.
pub(in crate::api) fn all(
    app: &App,
    world: &World<'_>,
    servers: &[Doc<Server>],
    caller: &Caller,
) -> (Vec<Volume>, BTreeSet<Id<model::Volume>>) {
    let mut seen = app.replica.list::<model::Volume>();
    seen.retain(|volume| may_see(app, caller, volume));
    let rows = seen.iter().flat_map(|volume| {
        let shown = show(app, world, volume);
        let aside = aside(app, servers, volume, &shown);
        std::iter::once(shown).chain(aside)
    });
    let mut volumes: Vec<Volume> = rows.collect();
    volumes.sort_by(|a, b| (&a.space, &a.name, &a.id).cmp(&(&b.space, &b.name, &b.id)));
    (volumes, seen.iter().map(Doc::id).collect())
}

/// What each server says of a volume.
pub(super) fn records<'a>(
    app: &'a App,
    servers: &'a [Doc<Server>],
    volume: Id<model::Volume>,
) -> impl Iterator<Item = (&'a Doc<Server>, VolumeStatus)> {
    servers.iter().filter_map(move |server| {
        let status = app.replica.observed(volume, ServerId(server.id().uuid()))?;
        Some((server, status))
    })
}

/// The server whose engine holds a volume, or is to.
fn holder(app: &App, volume: &model::Volume) -> ServerId {
    match app.replica.get(volume.space).or_else(|| app.replica.remains(volume.space)) {
        Some(space) if volume.server.uuid().is_nil() => space.placement.server,
        _ => ServerId(volume.server.uuid()),
    }
}

/// A volume as a caller is shown it.
pub(super) fn show(app: &App, world: &World<'_>, volume: &Doc<model::Volume>) -> Volume {
    let space = app.replica.get(volume.space);
    let dead = app.replica.remains(volume.space);
    let server = holder(app, volume);
    let status: Option<VolumeStatus> = app.replica.observed(volume.id(), server);
    let of = space.as_ref().or(dead.as_ref());
    let engine = wanted_engine(app, volume);
    let cause = status.as_ref().and_then(|status| status.cause.clone());
    let unreachable = app.reachability(server) != Reachability::Linked;
    let (state, on_engine) = match status {
        Some(VolumeStatus { engine_id: Some(is), lost, .. }) if is == engine => {
            (if lost { "missing" } else { "present" }, is)
        }
        Some(VolumeStatus { engine_id: None, aside, .. })
            if aside.is_empty() && cause.is_none() =>
        {
            ("removed", String::new())
        }
        _ => ("wanted", String::new()),
    };
    let template = of.and_then(|space| app.replica.get(space.template));
    let path = template.and_then(|template| template.volumes.get(&volume.name).cloned());
    Volume {
        id: volume.id().to_string(),
        name: volume.name.clone(),
        space: of.map(|space| world.space_name(space)).unwrap_or_default(),
        space_id: of.map(|space| space.id().to_string()).unwrap_or_default(),
        owner: user_name(app, volume.owner),
        path: if volume.path.is_empty() { path.unwrap_or_default() } else { volume.path.clone() },
        platform: volume.platform.clone(),
        state: state.to_owned(),
        engine_id: on_engine,
        server: server_name(app, server),
        size: volume.size,
        keep: volume.keep,
        cause: cause
            .or_else(|| unreachable.then(|| "its server cannot be reached from here".to_owned())),
    }
}

/// What servers have set aside for a volume, each shown as the volume is.
fn aside(
    app: &App,
    servers: &[Doc<Server>],
    volume: &Doc<model::Volume>,
    shown: &Volume,
) -> Vec<Volume> {
    let wanted = wanted_engine(app, volume);
    let mut rows = Vec::new();
    for (server, status) in records(app, servers, volume.id()) {
        // What is its space's again has not been taken note of yet.
        let aside = status.aside.into_iter().filter(|engine_id| *engine_id != wanted);
        rows.extend(aside.map(|engine_id| {
            Volume {
                state: "aside".to_owned(),
                engine_id,
                server: server.name.clone(),
                keep: true,
                cause: Some(
                    "set aside when its space got another in its place; it stays until it is adopted \
                     or deleted"
                        .to_owned(),
                ),
                ..shown.clone()
            }
        }));
    }
    rows
}

/// What is on the engines of servers and of no document.
pub(in crate::api) fn orphans(app: &App, servers: &[Doc<Server>]) -> Vec<Orphan> {
    let mut found = Vec::new();
    for server in servers {
        let id = ServerId(server.id().uuid());
        let status: Option<ServerStatus> = app.replica.observed(server.id(), id);
        let strays = status.map(|status| status.strays).unwrap_or_default();
        found.extend(strays.into_iter().map(|(platform, engine_id)| Orphan {
            server: server.name.clone(),
            platform,
            engine_id,
        }));
    }
    found
}
