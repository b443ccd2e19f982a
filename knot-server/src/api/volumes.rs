//! Volumes: storage that outlives the stops of its space. What is wanted is written here, and done by
//! the server whose engine holds the volume.

pub(super) mod adopt;
pub(super) mod attach;
pub(super) mod show;

use axum::{Json, extract::State, http::StatusCode};
use knot_core::{
    id::{Id, ServerId},
    model::{self, Server, ServerStatus},
    replica::{Committed, Doc},
    schema::Edit,
};
use uuid::Uuid;

use self::show::{all, orphans, records, show};
use super::{
    app::App,
    body::Body,
    caller::{Caller, Key},
    causality::{Answer, of_dead, recent},
    names,
    permit::{self, Use},
    problem::{Code, Problem},
    types::{CreateVolume, DiscardVolume, EditVolume, Volume, Volumes},
    world::{World, find_server, server_name},
};
use crate::spaces::{drivers::Platform, engine_id};

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
