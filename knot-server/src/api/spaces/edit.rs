//! Changing what people say of a space, who uses it, and whose it is.

use std::collections::BTreeSet;

use axum::{extract::State, http::StatusCode};
use knot_core::{
    id::Id,
    model::{self, Volume},
    names::For,
    replica::Doc,
    schema::Edit,
};

use super::{
    super::{
        app::App,
        body::Body,
        caller::{Caller, Key},
        names,
        permit::Use,
        problem::{Code, Problem},
        types::{EditSpace, ForUser, Space},
        world::{World, find_user},
    },
    Shown, change, to_change,
};

/// The longest description, note or parameter, in bytes.
const TEXT: usize = 8 << 10;
/// How many other names and dependencies a space has at most.
const ENTRIES: usize = 64;

/// Changes what is said of a space; what is left out stays. Running generations keep what they have.
#[utoipa::path(
    patch, path = "/spaces/{space}", tag = "spaces", request_body = EditSpace,
    responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(in crate::api) async fn edit(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(wanted): Body<EditSpace>,
) -> Shown {
    let _turn = app.names.lock().await;
    let space = to_change(&app, &caller, &key, Use::Edit)?;
    check(&app, &space, &wanted)?;
    let depends_on = wanted.depends_on.as_ref();
    let depends_on =
        depends_on.map(|keys| dependencies(&app, &caller, &space, keys)).transpose()?;
    change(&app, &caller, &space, move |edit| {
        if let Some(name) = wanted.name {
            edit.set(model::Space::name, name);
        }
        if let Some(description) = wanted.description {
            edit.set(model::Space::description, description);
        }
        if let Some(note) = wanted.note {
            edit.set(model::Space::note, note);
        }
        for (name, port) in wanted.alt_names.unwrap_or_default() {
            match port {
                Some(port) => edit.put(model::Space::alt_names, &name, u64::from(port)),
                None => edit.take(model::Space::alt_names, &name),
            }
        }
        if let Some(depends_on) = depends_on {
            let before = edit.depends_on.clone();
            for id in before.difference(&depends_on) {
                edit.remove(model::Space::depends_on, id);
            }
            for id in depends_on.difference(&before) {
                edit.insert(model::Space::depends_on, id);
            }
        }
    })
    .await
}

fn check(app: &App, space: &Doc<model::Space>, wanted: &EditSpace) -> Result<(), Problem> {
    let world = World::new(app);
    let alternatives = wanted.alt_names.iter().flatten();
    let given = alternatives.filter(|(_, port)| port.is_some()).map(|(name, _)| name);
    for name in wanted.name.iter().chain(given) {
        let field = match wanted.name.as_ref() == Some(name) {
            true => "name",
            false => "alt_names",
        };
        names::check(name).map_err(|problem| problem.of_field(field))?;
        if world.is_taken(space.owner, name, Some(space.id())) {
            return Err(Problem::new(
                Code::NameTaken,
                format!("another space of the owner's answers to {name}: choose another name"),
            )
            .of_field(field));
        }
    }
    if wanted.alt_names.iter().flatten().any(|(_, port)| *port == Some(0)) {
        return Err(invalid("a port is a number from 1 to 65535").of_field("alt_names"));
    }
    let mut texts = wanted.description.iter().chain(&wanted.note);
    if texts.any(|text| text.len() > TEXT) {
        return Err(invalid(&format!("a text has at most {TEXT} bytes: say less")));
    }
    // What has more already, by edits in two parts of the cluster, may still lose some.
    let depends_on = wanted.depends_on.as_ref().map_or(0, Vec::len);
    if names_then(space, wanted) > space.alt_names.len().max(ENTRIES)
        || depends_on > space.depends_on.len().max(ENTRIES)
    {
        return Err(invalid(&format!("at most {ENTRIES} are kept: leave some out")));
    }
    Ok(())
}

/// How many other names a space has once it is as wanted.
fn names_then(space: &model::Space, wanted: &EditSpace) -> usize {
    let mut names: BTreeSet<_> = space.alt_names.keys().collect();
    for (name, port) in wanted.alt_names.iter().flatten() {
        match port {
            Some(_) => names.insert(name),
            None => names.remove(name),
        };
    }
    names.len()
}

fn invalid(why: &str) -> Problem {
    Problem::new(Code::InvalidValue, why)
}

/// The spaces that a space is to depend on, if nothing depends on itself by that.
fn dependencies(
    app: &App,
    caller: &Caller,
    space: &Doc<model::Space>,
    keys: &[String],
) -> Result<BTreeSet<Id<model::Space>>, Problem> {
    let world = World::new(app);
    let mut wanted = BTreeSet::new();
    for key in keys {
        wanted.insert(world.find(caller, key, For::Using)?.id());
    }
    let (mut seen, mut next) = (BTreeSet::new(), wanted.iter().copied().collect::<Vec<_>>());
    while let Some(id) = next.pop() {
        if id == space.id() {
            return Err(invalid(&format!(
                "{} would depend on itself, by way of those it is to depend on: leave one out",
                world.space_name(space)
            ))
            .of_field("depends_on"));
        }
        if seen.insert(id) {
            next.extend(app.replica.get(id).into_iter().flat_map(|one| one.depends_on.clone()));
        }
    }
    Ok(wanted)
}

/// Refuses to start a space before those that it depends on are started; its home then waits until they
/// run. One that is deleted is no hindrance, nor one that, by edits in two parts of the cluster,
/// depends on this one in turn.
pub(super) fn dependencies_run(app: &App, space: &Doc<model::Space>) -> Result<(), Problem> {
    let world = World::new(app);
    for id in &space.depends_on {
        let Some(other) = app.replica.get(*id) else { continue };
        let stopped = other.desired == model::Desired::Stopped;
        if stopped && !other.depends_on.contains(&space.id()) {
            // Whoever may start a space may know the names of those that it needs.
            tracing::debug!(space = %space.id(), dependency = %id, "a dependency is stopped");
            return Err(Problem::new(
                Code::DependencyStopped,
                format!(
                    "{} depends on {}, which is stopped: start that one first",
                    world.space_name(space),
                    world.space_name(&other)
                ),
            ));
        }
    }
    Ok(())
}

/// Lets another user see a space, open terminals in it, start and stop it.
#[utoipa::path(
    post, path = "/spaces/{space}/shares", tag = "spaces", request_body = ForUser,
    responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(in crate::api) async fn share(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(ForUser { user }): Body<ForUser>,
) -> Shown {
    let space = to_change(&app, &caller, &key, Use::Share)?;
    let user = find_user(&app, &user)?;
    if user.id() == space.owner {
        return Err(invalid(&format!("{} owns it: share it with somebody else", user.name)));
    }
    let id = user.id();
    let insert = move |edit: &mut Edit<'_, model::Space>| edit.insert(model::Space::shares, &id);
    let shown = change(&app, &caller, &space, insert).await?;
    tracing::info!(space = %space.id(), with = %id, by = %caller.user, "space shared");
    Ok(shown)
}

/// Shares a space with a user no longer. This beats a share of the same user made elsewhere meanwhile.
#[utoipa::path(
    post, path = "/spaces/{space}/unshare", tag = "spaces", request_body = ForUser,
    responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(in crate::api) async fn unshare(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(ForUser { user }): Body<ForUser>,
) -> Shown {
    let space = to_change(&app, &caller, &key, Use::Share)?;
    // One that has been deleted is named by its id.
    let id = match user.parse() {
        Ok(id) => id,
        Err(_) => find_user(&app, &user)?.id(),
    };
    let remove = move |edit: &mut Edit<'_, model::Space>| edit.remove(model::Space::shares, &id);
    let shown = change(&app, &caller, &space, remove).await?;
    tracing::info!(space = %space.id(), with = %id, by = %caller.user, "space no longer shared");
    Ok(shown)
}

/// Gives a space, and its volumes, to another user. Who had it before has it no more.
#[utoipa::path(
    post, path = "/spaces/{space}/transfer", tag = "spaces", request_body = ForUser,
    responses((status = 204)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(in crate::api) async fn transfer(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(ForUser { user }): Body<ForUser>,
) -> Result<super::Answer<StatusCode>, Problem> {
    let _turn = app.names.lock().await;
    let space = to_change(&app, &caller, &key, Use::Transfer)?;
    let user = find_user(&app, &user)?;
    let world = World::new(&app);
    let mut names = std::iter::once(&space.name).chain(space.alt_names.keys());
    if let Some(name) = names.find(|name| world.is_taken(user.id(), name, Some(space.id()))) {
        return Err(Problem::new(
            Code::NameTaken,
            format!("{} has a space named {name} already: rename one first", user.name),
        ));
    }
    let to = user.id();
    let committed = app
        .replica
        .edit(space.id(), caller.author(), move |edit| {
            edit.set(model::Space::owner, to);
            edit.remove(model::Space::shares, &to);
            Ok(())
        })
        .await?;
    let mut token = committed.token();
    for volume in app.replica.list::<Volume>() {
        if volume.space == space.id() {
            let edit = app.replica.edit(volume.id(), caller.author(), move |edit| {
                edit.set(Volume::owner, to);
                Ok(())
            });
            token.extend(&edit.await?.token());
        }
    }
    tracing::info!(space = %space.id(), %to, by = %caller.user, "space transferred");
    Ok(caller.answer(StatusCode::NO_CONTENT, &token))
}
