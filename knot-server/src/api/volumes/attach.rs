//! Which space a volume belongs to: attaching and detaching.

use axum::extract::State;
use knot_core::{
    id::{Id, ServerId},
    model,
    replica::Doc,
};

use super::{
    super::{
        app::App,
        body::Body,
        caller::{Caller, Key},
        permit::Use,
        problem::{Code, Problem},
        types::{self, AttachVolume},
        world::{World, server_name},
    },
    Shown, change, find, in_use, is_declared,
};
use crate::spaces::current;

/// Attaches a volume of its owner's to one of the owner's spaces, from that space's next start on.
#[utoipa::path(
    post, path = "/volumes/{volume}/attach", tag = "volumes", request_body = AttachVolume,
    responses((status = 200, body = types::Volume)),
    params(("volume" = String, Path, description = "Its id or name."))
)]
pub(in crate::api) async fn attach(
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
    responses((status = 200, body = types::Volume)),
    params(("volume" = String, Path, description = "Its id or name."))
)]
pub(in crate::api) async fn detach(State(app): State<App>, caller: Caller, Key(key): Key) -> Shown {
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
