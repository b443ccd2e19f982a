//! Giving a space another home: moving it, while its home is up, and recovering it, where that is lost.
//!
//! A move is carried out by the home: it stops the space and then raises the term. A recovery raises
//! the term itself, since nobody else is there to do it; the old copy may run until its home hears of
//! that. Either takes what the space keeps along where both servers use one engine, and else begins
//! with empty volumes, if the caller said so: never unasked.

use axum::extract::State;
use knot_core::{
    id::ServerId,
    model::{self, Move, Placement, Template, Volume},
    replica::Doc,
};

use super::{
    super::{
        app::{App, Reachability},
        body::Body,
        caller::{Caller, Key},
        permit::Use,
        problem::{Code, Problem},
        types::{MoveSpace, NewVolumes, RecoverSpace, Space},
        world::{World, server_name, template_deleted},
    },
    Shown, change, place, to_change,
};
use crate::spaces::engines;

/// Moves a space to another server: its home stops it, hands it over, and the other starts it.
#[utoipa::path(
    post, path = "/spaces/{space}/move", tag = "spaces", request_body = MoveSpace,
    responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(in crate::api) async fn move_to(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(MoveSpace { server, volumes }): Body<MoveSpace>,
) -> Shown {
    let space = to_change(&app, &caller, &key, Use::Place)?;
    let (to, empty) = judge(&app, &space, &server, volumes)?;
    let home = space.placement.server;
    if app.reachability(home) != Reachability::Linked {
        return Err(Problem::new(
            Code::HomeUnreachable,
            format!(
                "{}, the home of {}, cannot be reached to hand it over: wait until it is back, or, if \
                 it is lost, recover the space",
                server_name(&app, home),
                space.name
            ),
        ));
    }
    let shown = change(&app, &caller, &space, move |edit| {
        let term = edit.placement.term.max(edit.moving.placement.term) + 1;
        let placement = Placement { term, server: to };
        edit.set(model::Space::moving, Move { placement, empty });
    });
    let shown = shown.await?;
    tracing::info!(space = %space.id(), %to, empty, by = %caller.user, "a move is asked for");
    Ok(shown)
}

/// Gives a space whose home is lost another one, at once. The old home may still be running it, until
/// it hears of this; it then stops its copy and sets what it kept of the space aside.
#[utoipa::path(
    post, path = "/spaces/{space}/recover", tag = "spaces", request_body = RecoverSpace,
    responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(in crate::api) async fn recover(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(RecoverSpace { server, volumes, force }): Body<RecoverSpace>,
) -> Shown {
    let space = to_change(&app, &caller, &key, Use::Place)?;
    let before = space.placement;
    let home = server_name(&app, before.server);
    let answers = app.reachability(before.server) == Reachability::Linked;
    if answers && !force {
        return Err(Problem::new(
            Code::HomeAnswers,
            format!(
                "{home}, the home of {}, answers: move the space instead. A recovery raises the term \
                 while {home} may still be running the space, and would have to be forced",
                space.name
            ),
        ));
    }
    let (to, empty) = judge(&app, &space, &server, volumes)?;
    let shown = change(&app, &caller, &space, move |edit| {
        // A move that is under way is overtaken.
        let term = edit.placement.term.max(edit.moving.placement.term) + 1;
        let placement = Placement { term, server: to };
        edit.set(model::Space::placement, placement);
        if empty {
            edit.set(model::Space::emptied, placement);
        }
    });
    let shown = shown.await?;
    tracing::warn!(space = %space.id(), from = %before.server, %to, empty, force, by = %caller.user,
        "a space is recovered: its old home may still be running it");
    Ok(shown)
}

/// Whether the space can go to the server that a caller named, and whether it begins there with empty
/// volumes.
fn judge(
    app: &App,
    space: &Doc<model::Space>,
    server: &str,
    volumes: Option<NewVolumes>,
) -> Result<(ServerId, bool), Problem> {
    let template: Doc<Template> =
        app.replica.get(space.template).ok_or_else(|| template_deleted(&space.name))?;
    let to = place::chosen(app, server, &template)?;
    let from = space.placement.server;
    let name = World::new(app).space_name(space);
    if to == from && space.moving_to().is_none() {
        return Err(Problem::new(
            Code::InvalidValue,
            format!("{name} is on {} already: name another server", server_name(app, to)),
        ));
    }
    if to == from || engines::are_one(&app.replica, &template.platform, from, to) {
        return Ok((to, false));
    }
    let stays = what_stays(app, space, &template);
    if stays.is_empty() {
        return Ok((to, false));
    }
    match volumes {
        Some(NewVolumes::Empty) => Ok((to, true)),
        None => Err(Problem::new(
            Code::VolumesStay,
            format!(
                "{} on {} cannot follow {name} to {}, whose engine is another: say that it shall begin \
                 there with new, empty ones (what is on {} is set aside there, and kept)",
                stays.join(", "),
                server_name(app, from),
                server_name(app, to),
                server_name(app, from)
            ),
        )),
    }
}

/// What a space keeps on its home's engine, for people.
fn what_stays(app: &App, space: &Doc<model::Space>, template: &Template) -> Vec<String> {
    let mut stays: Vec<_> = template.volumes.keys().map(|name| format!("volume {name}")).collect();
    if template.platform == "local" {
        stays.push("its home folder".to_owned());
    }
    for volume in app.replica.list::<Volume>() {
        let declared =
            volume.is_declared(volume.id()) && template.volumes.contains_key(&volume.name);
        if volume.space == space.id() && !declared {
            stays.push(format!("volume {}", volume.name));
        }
    }
    stays
}
