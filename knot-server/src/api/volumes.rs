//! Volumes: storage that outlives the stops of its space. What is wanted is written here, and done by
//! the server whose engine holds the volume.

pub(super) mod adopt;

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use knot_core::{
    id::{Id, ServerId},
    model::{self, Server, ServerStatus, VolumeStatus},
    replica::{Committed, Doc},
    schema::Edit,
};
use uuid::Uuid;

use super::{
    app::{App, Reachability},
    body::Body,
    caller::{Caller, Key},
    causality::{Answer, of_dead, recent},
    names,
    permit::{self, Use},
    problem::{Code, Problem},
    types::{AttachVolume, CreateVolume, DiscardVolume, EditVolume, Orphan, Volume, Volumes},
    world::{World, find_server, server_name, user_name},
};
use crate::spaces::{current, drivers::Platform, engine_id};

type Shown = Result<Answer<(StatusCode, Json<Volume>)>, Problem>;

/// Lists the volumes of the spaces that the caller may see, and the caller's own.
#[utoipa::path(get, path = "/volumes", tag = "volumes", responses((status = 200, body = Volumes)))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Volumes>> {
    let world = World::new(&app);
    let servers = app.replica.list::<Server>();
    let (volumes, ids) = all(&app, &world, &servers, &caller);
    let token = recent(&app.replica, |id| ids.contains(&id));
    let orphans = if caller.admin { orphans(&app, &servers) } else { Vec::new() };
    caller.answer(Json(Volumes { volumes, orphans }), &token)
}

/// The volumes that a caller may see, and what was set aside for them, by space and name; and their ids.
pub(super) fn all(
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

/// Makes a volume of the caller's on a server's engine.
#[utoipa::path(
    post, path = "/volumes", tag = "volumes", request_body = CreateVolume,
    responses((status = 201, body = Volume))
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(wanted): Body<CreateVolume>,
) -> Shown {
    names::check(&wanted.name).map_err(|problem| problem.of_field("name"))?;
    let _turn = app.names.lock().await;
    let taken = |volume: &Doc<model::Volume>| {
        volume.owner == caller.user && volume.name == wanted.name && !is_declared(volume)
    };
    if app.replica.list::<model::Volume>().iter().any(taken) {
        return Err(Problem::new(
            Code::NameTaken,
            format!("you have a volume named {} already: choose another name", wanted.name),
        )
        .of_field("name"));
    }
    let server = find_server(&app, &wanted.server)?.id();
    let id = ServerId(server.uuid());
    let status: Option<ServerStatus> = app.replica.observed(server, id);
    if !status.is_some_and(|status| status.platforms.contains(&wanted.platform)) {
        return Err(Problem::new(
            Code::NoEngine,
            format!(
                "server {} has no engine for platform {}: GET /api/v1/servers says what each has",
                server_name(&app, id),
                wanted.platform
            ),
        ));
    }
    if wanted.size.is_some() {
        can_resize(&wanted.platform)?;
    }
    let owner = caller.user;
    let committed = app
        .replica
        .create::<model::Volume, _>(caller.author(), move |edit| {
            edit.set(model::Volume::name, wanted.name);
            edit.set(model::Volume::owner, owner);
            edit.set(model::Volume::platform, wanted.platform);
            edit.set(model::Volume::server, server);
            edit.set(model::Volume::size, wanted.size);
            Ok(())
        })
        .await?;
    written(&app, &caller, StatusCode::CREATED, &committed)
}

/// Changes whether a volume is kept, and its size.
#[utoipa::path(
    patch, path = "/volumes/{volume}", tag = "volumes", request_body = EditVolume,
    responses((status = 200, body = Volume)),
    params(("volume" = String, Path, description = "Its id, its name, or its space's and its name with a colon between."))
)]
pub(super) async fn edit(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(wanted): Body<EditVolume>,
) -> Shown {
    let volume = find(&app, &caller, &key)?;
    if wanted.size.is_some() {
        can_resize(&volume.platform)?;
    }
    change(&app, &caller, &volume, move |edit| {
        if let Some(keep) = wanted.keep {
            edit.set(model::Volume::keep, keep);
        }
        if let Some(size) = wanted.size {
            edit.set(model::Volume::size, Some(size));
        }
    })
    .await
}

/// Attaches a volume of its owner's to one of the owner's spaces, from that space's next start on.
#[utoipa::path(
    post, path = "/volumes/{volume}/attach", tag = "volumes", request_body = AttachVolume,
    responses((status = 200, body = Volume)),
    params(("volume" = String, Path, description = "Its id or name."))
)]
pub(super) async fn attach(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(AttachVolume { space, path }): Body<AttachVolume>,
) -> Shown {
    let volume = find(&app, &caller, &key)?;
    let space = World::new(&app).find_to(&caller, &space, Use::Volumes)?;
    if is_declared(&volume) || !volume.space.uuid().is_nil() {
        return Err(in_use(format!("{} is a space's: detach it first", volume.name)));
    }
    if volume.owner != space.owner {
        return Err(Problem::new(
            Code::Forbidden,
            format!(
                "{} and {} are of two owners: give one of them away first",
                volume.name, space.name
            ),
        ));
    }
    let home = space.placement.server;
    if volume.server.uuid() != home.0 {
        return Err(in_use(format!(
            "{} is on {}, and {} on {}: move the space there, or make a volume here",
            volume.name,
            server_name(&app, ServerId(volume.server.uuid())),
            space.name,
            server_name(&app, home)
        )));
    }
    if let Some(platform) =
        app.replica.get(space.template).map(|template| template.platform.clone())
        && platform != volume.platform
    {
        return Err(Problem::new(
            Code::InvalidValue,
            format!(
                "{} is one of {}, and {} runs on {platform}: make a volume of that platform",
                volume.name, volume.platform, space.name
            ),
        ));
    }
    model::check_path("a volume", &path)
        .map_err(|why| Problem::new(Code::InvalidValue, why).of_field("path"))?;
    if let Some(what) = what_stands_at(&app, &space, &path).await {
        return Err(Problem::new(
            Code::InvalidValue,
            format!("{what} is at {path} of {} already: choose another path", space.name),
        ));
    }
    let of = space.id();
    change(&app, &caller, &volume, move |edit| {
        edit.set(model::Volume::space, of);
        edit.set(model::Volume::path, path);
    })
    .await
}

/// What the template of a space, or somebody who attached it, has put at a path. What an expression
/// comes to is known at a start only.
async fn what_stands_at(app: &App, space: &Doc<model::Space>, path: &str) -> Option<String> {
    if let Some(template) = app.replica.get(space.template) {
        let template = match current::current(&app.replica, &template).await {
            Ok(current) => current.template,
            Err(_) => (*template).clone(),
        };
        if let Some((name, _)) = template.volumes.iter().find(|(_, at)| *at == path) {
            return Some(format!("the template's volume {name}"));
        }
        if template.mounts.contains_key(path) {
            return Some("a folder that the template mounts".to_owned());
        }
    }
    let volumes = app.replica.list::<model::Volume>();
    let other = volumes.iter().find(|one| one.space == space.id() && one.path == path)?;
    Some(format!("the volume {}", other.name))
}

/// Detaches a volume; a space that runs has it until it stops.
#[utoipa::path(
    post, path = "/volumes/{volume}/detach", tag = "volumes",
    responses((status = 200, body = Volume)),
    params(("volume" = String, Path, description = "Its id or name."))
)]
pub(super) async fn detach(State(app): State<App>, caller: Caller, Key(key): Key) -> Shown {
    let volume = find(&app, &caller, &key)?;
    if is_declared(&volume) {
        return Err(in_use(format!(
            "{} belongs to its space's template: it goes with the space",
            volume.name
        )));
    }
    change(&app, &caller, &volume, |edit| {
        edit.set(model::Volume::space, Id::default());
        edit.set(model::Volume::path, String::new());
    })
    .await
}

/// Deletes a volume that is no space's, with all that is in it.
#[utoipa::path(
    delete, path = "/volumes/{volume}", tag = "volumes", responses((status = 204)),
    params(("volume" = String, Path, description = "Its id or name."))
)]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<StatusCode>, Problem> {
    let volume = find(&app, &caller, &key)?;
    if app.replica.get(volume.space).is_some() {
        let what = match is_declared(&volume) {
            true => "goes with its space: delete the space",
            false => "is attached: detach it, or delete the space",
        };
        return Err(in_use(format!("{} {what}", volume.name)));
    }
    app.replica.delete(volume.id(), caller.author()).await?;
    tracing::info!(volume = %volume.id(), user = %caller.user, "volume deleted");
    Ok(caller.answer(StatusCode::NO_CONTENT, &of_dead(volume.id().into())))
}

/// Removes what was set aside for a volume when its space went on elsewhere.
#[utoipa::path(
    post, path = "/volumes/{volume}/discard", tag = "volumes", request_body = DiscardVolume,
    responses((status = 200, body = Volume)),
    params(("volume" = String, Path, description = "Its id, or its space's and its name with a colon between."))
)]
pub(super) async fn discard(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(DiscardVolume { engine_id }): Body<DiscardVolume>,
) -> Shown {
    let volume = find(&app, &caller, &key)?;
    let servers = app.replica.list::<Server>();
    let mut records = records(&app, &servers, volume.id());
    if !records.any(|(_, status)| status.aside.contains(&engine_id)) {
        return Err(Problem::not_found("volume that was set aside", &engine_id));
    }
    if wanted_engine(&app, &volume) == engine_id {
        return Err(in_use(format!("{engine_id} is the volume of its space again")));
    }
    change(&app, &caller, &volume, move |edit| edit.insert(model::Volume::discard, &engine_id))
        .await
}

async fn change(
    app: &App,
    caller: &Caller,
    volume: &Doc<model::Volume>,
    how: impl FnOnce(&mut Edit<'_, model::Volume>) + Send + 'static,
) -> Shown {
    let edited = app.replica.edit(volume.id(), caller.author(), move |edit| {
        how(edit);
        Ok(())
    });
    written(app, caller, StatusCode::OK, &edited.await?)
}

fn written(
    app: &App,
    caller: &Caller,
    status: StatusCode,
    committed: &Committed<model::Volume>,
) -> Shown {
    let Some(volume) = app.replica.get(committed.id) else {
        return Err(Problem::not_found("volume", &committed.id.to_string()));
    };
    let shown = show(app, &World::new(app), &volume);
    Ok(caller.answer((status, Json(shown)), &committed.token()))
}

/// The volume that a caller means, to change it: by its id, by the name of one of its own, or by its
/// space's name and its own.
fn find(app: &App, caller: &Caller, key: &str) -> Result<Doc<model::Volume>, Problem> {
    let world = World::new(app);
    let not_found = || Problem::not_found("volume", key);
    let volume = if let Ok(id) = Uuid::parse_str(key) {
        app.replica.get(Id::<model::Volume>::from_uuid(id)).ok_or_else(not_found)?
    } else if let Some((space, name)) = key.split_once(':') {
        let space = world.find_to(caller, space, Use::Volumes)?;
        app.replica.get(model::Volume::id_of(space.id(), name)).ok_or_else(not_found)?
    } else {
        let mut named = app.replica.list::<model::Volume>();
        named.retain(|volume| {
            volume.name == key && volume.owner == caller.user && !is_declared(volume)
        });
        if named.len() > 1 {
            let ids: Vec<_> = named.iter().map(|volume| volume.id().to_string()).collect();
            let detail = format!(
                "{} volumes are called {key}: say which, by id: {}",
                ids.len(),
                ids.join(" or ")
            );
            return Err(Problem::new(Code::AmbiguousName, detail));
        }
        named.pop().ok_or_else(not_found)?
    };
    if !may_see(app, caller, &volume) {
        return Err(not_found());
    }
    match app.replica.get(volume.space) {
        Some(space) => {
            permit::check_space(caller, &space, &world.space_name(&space), Use::Volumes)?;
        }
        None if caller.admin || volume.owner == caller.user => {}
        None => return Err(not_found()),
    }
    Ok(volume)
}

/// What the engine calls the volume that the document wants.
fn wanted_engine(app: &App, volume: &Doc<model::Volume>) -> String {
    let space = app.replica.get(volume.space).or_else(|| app.replica.remains(volume.space));
    engine_id(volume.id(), volume, space.as_deref()).to_string()
}

fn may_see(app: &App, caller: &Caller, volume: &model::Volume) -> bool {
    let space = app.replica.get(volume.space);
    let of_space = space.is_some_and(|space| permit::space(caller, &space));
    of_space || caller.admin || volume.owner == caller.user
}

pub(super) fn is_declared(volume: &Doc<model::Volume>) -> bool {
    volume.is_declared(volume.id())
}

/// Whether a caller may change a volume.
pub(super) fn may_change(app: &App, caller: &Caller, volume: &model::Volume) -> bool {
    match app.replica.get(volume.space) {
        Some(space) => permit::may(caller, &space, Use::Volumes),
        None => caller.admin || volume.owner == caller.user,
    }
}

/// Refuses a size where the engine bounds none.
fn can_resize(platform: &str) -> Result<(), Problem> {
    if platform.parse().is_ok_and(|platform: Platform| !platform.bounds_volumes()) {
        return Err(Problem::new(
            Code::NotSupported,
            format!(
                "the engine of platform {platform} bounds no volume's size: leave the size out"
            ),
        ));
    }
    Ok(())
}

fn in_use(detail: String) -> Problem {
    Problem::new(Code::VolumeInUse, detail)
}

/// What each server says of a volume.
fn records<'a>(
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

fn show(app: &App, world: &World<'_>, volume: &Doc<model::Volume>) -> Volume {
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
pub(super) fn orphans(app: &App, servers: &[Doc<Server>]) -> Vec<Orphan> {
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
