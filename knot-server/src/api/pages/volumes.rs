//! The page of volumes, and the volumes on the page of a space.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use knot_core::{
    id::{Id, ServerId},
    model::{self, Server, ServerStatus, Space},
    replica::Doc,
};

use super::Visitor;
use crate::{
    api::{
        Reachability,
        app::App,
        caller::Caller,
        causality::recent,
        permit::{self, Use},
        types,
        volumes::{
            is_declared, may_change,
            show::{all, orphans},
        },
        world::{World, server_names},
    },
    pages::{MayDo, VolumePlace, VolumeRow, VolumesPage, html},
    spaces::drivers::Platform,
};

pub(super) async fn page(State(app): State<App>, visitor: Visitor) -> Response {
    let world = World::new(&app);
    let Visitor { caller, chrome } = visitor;
    let servers = app.replica.list::<Server>();
    let (volumes, ids) = all(&app, &world, &servers, &caller);
    let token = recent(&app.replica, |id| ids.contains(&id));
    let orphans = if caller.admin { orphans(&app, &servers) } else { Vec::new() };
    let volumes = rows(&app, &world, &caller, volumes);
    let page = html(&VolumesPage { chrome, volumes, orphans, places: places(&app) });
    caller.answer(page, &token).into_response()
}

/// The volumes of a space.
pub(super) fn of_space(
    app: &App,
    world: &World<'_>,
    caller: &Caller,
    space: Id<Space>,
) -> Vec<VolumeRow> {
    let of = space.to_string();
    let (mut volumes, _) = all(app, world, &app.replica.list::<Server>(), caller);
    volumes.retain(|volume| volume.space_id == of);
    rows(app, world, caller, volumes)
}

fn rows(
    app: &App,
    world: &World<'_>,
    caller: &Caller,
    volumes: Vec<types::Volume>,
) -> Vec<VolumeRow> {
    let mut attachable = Attachable { spaces: None };
    volumes.into_iter().map(|volume| row(app, world, caller, &mut attachable, volume)).collect()
}

fn row(
    app: &App,
    world: &World<'_>,
    caller: &Caller,
    attachable: &mut Attachable,
    volume: types::Volume,
) -> VolumeRow {
    let doc = volume.id.parse().ok().and_then(|id: Id<model::Volume>| app.replica.get(id));
    let doc = doc.filter(|doc| may_change(app, caller, doc));
    VolumeRow {
        may: doc.map(|doc| may(app, world, caller, attachable, &doc)),
        id: volume.id,
        name: volume.name,
        space: volume.space,
        space_id: volume.space_id,
        owner: volume.owner,
        path: volume.path,
        platform: volume.platform,
        state: volume.state,
        engine_id: volume.engine_id,
        server: volume.server,
        size: volume.size,
        keep: volume.keep,
        cause: volume.cause,
    }
}

fn may(
    app: &App,
    world: &World<'_>,
    caller: &Caller,
    attachable: &mut Attachable,
    volume: &Doc<model::Volume>,
) -> MayDo {
    let (declared, attached) = (is_declared(volume), !volume.space.uuid().is_nil());
    let attach = match declared || attached {
        true => Vec::new(),
        false => attachable.to(app, world, caller, volume),
    };
    MayDo {
        resize: volume.platform.parse().is_ok_and(Platform::bounds_volumes),
        adopt: declared && app.replica.get(volume.space).is_some(),
        detach: attached && !declared,
        delete: app.replica.get(volume.space).is_none(),
        attach,
    }
}

/// Where a volume has to be for a space, and whose.
type Side = (Id<model::User>, ServerId, String);

/// The spaces that a caller may attach volumes to, by owner, home and platform; looked for when first
/// asked for.
struct Attachable {
    spaces: Option<BTreeMap<Side, Vec<(String, String)>>>,
}

impl Attachable {
    fn to(
        &mut self,
        app: &App,
        world: &World<'_>,
        caller: &Caller,
        volume: &model::Volume,
    ) -> Vec<(String, String)> {
        let spaces = self.spaces.get_or_insert_with(|| {
            let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for space in world.spaces_of(caller) {
                let Some(template) = app.replica.get(space.template) else { continue };
                if permit::may(caller, &space, Use::Volumes) {
                    let one = (space.id().to_string(), world.space_name(&space));
                    let side = (space.owner, space.placement.server, template.platform.clone());
                    found.entry(side).or_default().push(one);
                }
            }
            for spaces in found.values_mut() {
                spaces.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
            }
            found
        });
        let side = (volume.owner, ServerId(volume.server.uuid()), volume.platform.clone());
        spaces.get(&side).cloned().unwrap_or_default()
    }
}

/// The engines that can be reached and hold volumes.
fn places(app: &App) -> Vec<VolumePlace> {
    let names = server_names(app);
    let mut places = Vec::new();
    for server in app.replica.list::<Server>() {
        let id = ServerId(server.id().uuid());
        let status: Option<ServerStatus> = app.replica.observed(server.id(), id);
        if app.reachability(id) != Reachability::Linked {
            continue;
        }
        let platforms = status.map(|status| status.platforms).unwrap_or_default();
        // Where a person starts the agent there is no engine.
        for platform in platforms.into_iter().filter(|one| one.parse() != Ok(Platform::Manual)) {
            places.push(VolumePlace {
                server_id: id.to_string(),
                server: names.of(id.0).unwrap_or_default().to_owned(),
                platform,
            });
        }
    }
    places.sort_by(|a, b| (&a.server, &a.platform).cmp(&(&b.server, &b.platform)));
    places
}
