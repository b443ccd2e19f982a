//! Taking up again what was set aside: a space has its old volume back in place of the new one.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use knot_core::{
    id::{Id, ServerId},
    model::{self, Adopted, Desired, Observed, Server, SpaceStatus},
    replica::Doc,
};
use uuid::Uuid;

use super::{
    super::{
        app::App,
        body::Body,
        caller::{Caller, Key},
        causality::Answer,
        problem::{Code, Problem},
        types::{AdoptVolume, Volume},
        world::server_name,
    },
    change, find, in_use, is_declared,
    show::records,
};

/// Gives a space what was set aside for a volume of it back, from its next start on. What it has now is
/// set aside in its turn.
#[utoipa::path(
    post, path = "/volumes/{volume}/adopt", tag = "volumes", request_body = AdoptVolume,
    responses((status = 200, body = Volume)),
    params(("volume" = String, Path, description = "Its id, its space's and its name with a colon between, or what its engine calls what was set aside."))
)]
pub(in crate::api) async fn adopt(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(AdoptVolume { engine_id }): Body<AdoptVolume>,
) -> Result<Answer<(StatusCode, Json<Volume>)>, Problem> {
    let (volume, named) = match by_engine(&app, &key) {
        Some(id) => (find(&app, &caller, &id.to_string())?, Some(key)),
        None => (find(&app, &caller, &key)?, engine_id),
    };
    let space = app.replica.get(volume.space).filter(|_| is_declared(&volume));
    let Some(space) = space else {
        return Err(in_use(format!("{} is of no space's template: attach it", volume.name)));
    };
    let engine = set_aside(&app, &volume, &space, named)?;
    if volume.discard.contains(&engine) {
        return Err(in_use(format!("{engine} is being deleted")));
    }
    if !is_stopped(&app, &space) {
        return Err(in_use(format!(
            "{} has the volume it was given instead: stop the space first",
            space.name
        )));
    }
    let Ok(engine) = Uuid::parse_str(&engine) else {
        return Err(Problem::not_found("volume that was set aside", &engine));
    };
    let emptied = space.emptied;
    tracing::info!(volume = %volume.id(), %engine, by = %caller.user, "what was set aside is adopted");
    change(&app, &caller, &volume, move |edit| {
        edit.set(model::Volume::adopted, Some(Adopted { engine, emptied }));
    })
    .await
}

/// The volume for which something was set aside that its engine calls so, where that is no volume's id.
fn by_engine(app: &App, engine: &str) -> Option<Id<model::Volume>> {
    let id = Id::<model::Volume>::from_uuid(Uuid::parse_str(engine).ok()?);
    if app.replica.get(id).is_some() {
        return None;
    }
    let volumes = app.replica.list::<model::Volume>();
    let servers = app.replica.list::<Server>();
    let has = |volume: &&Doc<model::Volume>| {
        records(app, &servers, volume.id()).any(|(_, status)| status.aside.contains(engine))
    };
    volumes.iter().find(has).map(Doc::id)
}

/// What was set aside where the space is now: the one that was named, or the only one.
fn set_aside(
    app: &App,
    volume: &Doc<model::Volume>,
    space: &model::Space,
    named: Option<String>,
) -> Result<String, Problem> {
    let home = space.placement.server;
    let (mut here, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
    let servers = app.replica.list::<Server>();
    for (server, status) in records(app, &servers, volume.id()) {
        let server = ServerId(server.id().uuid());
        let names = status.aside.into_iter();
        let names = names.filter(|one| named.as_ref().is_none_or(|named| named == one));
        let all: &mut BTreeSet<(ServerId, String)> =
            if server == home { &mut here } else { &mut elsewhere };
        all.extend(names.map(|name| (server, name)));
    }
    let mut found = here.into_iter();
    match (found.next(), found.next(), elsewhere.first()) {
        (Some((_, one)), None, _) => Ok(one),
        (Some((_, one)), Some((_, other)), _) => Err(Problem::new(
            Code::AmbiguousName,
            format!(
                "several volumes were set aside for {}: say which by its engine id: {one}, {other}{}",
                volume.name,
                found.map(|(_, more)| format!(", {more}")).collect::<String>()
            ),
        )),
        (None, _, Some((server, one))) => Err(in_use(format!(
            "{one} is on {}, and {} on {}: move the space there first, with new, empty volumes",
            server_name(app, *server),
            space.name,
            server_name(app, home)
        ))),
        (None, _, None) => {
            let what = named.unwrap_or_else(|| volume.name.clone());
            Err(Problem::not_found("volume that was set aside", &what))
        }
    }
}

/// Whether nothing of the space runs or is to run.
fn is_stopped(app: &App, space: &Doc<model::Space>) -> bool {
    let status: Option<SpaceStatus> = app.replica.observed(space.id(), space.placement.server);
    let state = status.unwrap_or_default().state;
    space.desired == Desired::Stopped
        && space.moving_to().is_none()
        && matches!(state, Observed::Created | Observed::Stopped)
}
