//! Groups of users, which templates can be kept to.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use knot_core::{
    id::Id,
    model::{self, Template, User},
    replica::{Doc, Token},
};

use super::{
    app::App,
    body::Body,
    caller::{Caller, Key},
    causality::{Answer, of_dead, of_read, recent},
    names,
    permit::{self, Action},
    problem::{Code, Problem},
    types::{CreateGroup, Group, Groups},
    world::find_user,
};

/// Lists the groups that the caller may see.
#[utoipa::path(get, path = "/groups", tag = "groups", responses((status = 200, body = Groups)))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Groups>> {
    let groups = all(&app, &caller);
    let mut token = recent::<model::Group>(&app.replica, |_| true);
    token.extend(&recent::<User>(&app.replica, |_| true));
    caller.answer(Json(Groups { groups }), &token)
}

/// The groups that a caller may see, by name.
pub(super) fn all(app: &App, caller: &Caller) -> Vec<Group> {
    let users = app.replica.list::<User>();
    let mut groups = app.replica.list::<model::Group>();
    groups.retain(|group| caller.admin || caller.groups.contains(&group.name));
    groups.sort_by(|a, b| (&a.name, a.id()).cmp(&(&b.name, b.id())));
    groups.dedup_by(|a, b| a.name == b.name);
    groups.iter().map(|group| show(group, &users)).collect()
}

/// Makes a group: an admin may.
#[utoipa::path(
    post, path = "/groups", tag = "groups", request_body = CreateGroup,
    responses((status = 201, body = Group))
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(wanted): Body<CreateGroup>,
) -> Result<Answer<(StatusCode, Json<Group>)>, Problem> {
    permit::check(&caller, Action::Groups)?;
    names::check(&wanted.name).map_err(|problem| problem.of_field("name"))?;
    let _turn = app.names.lock().await;
    if find(&app, &wanted.name).is_ok() {
        return Err(Problem::new(
            Code::NameTaken,
            format!("there is a group {} already: choose another name", wanted.name),
        )
        .of_field("name"));
    }
    let id = names::life(&app.replica, |life| model::Group::id_of(&wanted.name, life));
    let committed = app
        .replica
        .put::<model::Group, _>(id, caller.author(), move |edit| {
            edit.set(model::Group::name, wanted.name);
            edit.set(model::Group::description, wanted.description);
            Ok(())
        })
        .await?;
    tracing::info!(group = %committed.id, user = %caller.user, "group created");
    let group = app.replica.get(committed.id).ok_or_else(Problem::internal)?;
    let shown = show(&group, &app.replica.list::<User>());
    Ok(caller.answer((StatusCode::CREATED, Json(shown)), &of_read(&group)))
}

/// Deletes a group that no template is kept to: an admin may.
#[utoipa::path(
    delete, path = "/groups/{group}", tag = "groups", responses((status = 204)),
    params(("group" = String, Path, description = "Its name."))
)]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Key(name): Key,
) -> Result<Answer<StatusCode>, Problem> {
    permit::check(&caller, Action::Groups)?;
    let _turn = app.names.lock().await;
    let group = find(&app, &name)?;
    let templates = app.replica.list::<Template>();
    if let Some(template) = templates.iter().find(|one| one.groups.contains(&group.name)) {
        return Err(Problem::new(
            Code::GroupInUse,
            format!("the template {} is kept to it: change that first", template.name),
        ));
    }
    app.replica.delete(group.id(), caller.author()).await?;
    // Whoever was in it is not in a later one of the same name.
    for user in app.replica.list::<User>() {
        if user.groups.contains(&group.name) {
            write_member(&app, &caller, user.id(), &group.name, false).await?;
        }
    }
    tracing::info!(group = %group.id(), user = %caller.user, "group deleted");
    Ok(caller.answer(StatusCode::NO_CONTENT, &of_dead(group.id().into())))
}

/// Puts a user into a group: an admin may.
#[utoipa::path(
    put, path = "/groups/{group}/members/{user}", tag = "groups",
    responses((status = 200, body = Group)),
    params(
        ("group" = String, Path, description = "Its name."),
        ("user" = String, Path, description = "The user's name."),
    )
)]
pub(super) async fn add(
    State(app): State<App>,
    caller: Caller,
    Key((group, user)): Key<(String, String)>,
) -> Result<Answer<Json<Group>>, Problem> {
    member(&app, &caller, &group, &user, true).await
}

/// Takes a user out of a group: an admin may.
#[utoipa::path(
    delete, path = "/groups/{group}/members/{user}", tag = "groups",
    responses((status = 200, body = Group)),
    params(
        ("group" = String, Path, description = "Its name."),
        ("user" = String, Path, description = "The user's name."),
    )
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Key((group, user)): Key<(String, String)>,
) -> Result<Answer<Json<Group>>, Problem> {
    member(&app, &caller, &group, &user, false).await
}

async fn member(
    app: &App,
    caller: &Caller,
    group: &str,
    user: &str,
    wanted: bool,
) -> Result<Answer<Json<Group>>, Problem> {
    permit::check(caller, Action::Groups)?;
    let group = find(app, group)?;
    let user = find_user(app, user)?;
    let mut token = write_member(app, caller, user.id(), &group.name, wanted).await?;
    token.extend(&of_read(&group));
    let shown = show(&group, &app.replica.list::<User>());
    Ok(caller.answer(Json(shown), &token))
}

async fn write_member(
    app: &App,
    caller: &Caller,
    user: Id<User>,
    group: &str,
    wanted: bool,
) -> Result<Token, Problem> {
    let group = group.to_owned();
    let edit = app.replica.edit(user, caller.author(), move |edit| {
        match wanted {
            true => edit.insert(User::groups, &group),
            false => edit.remove(User::groups, &group),
        }
        Ok(())
    });
    Ok(edit.await?.token())
}

fn find(app: &App, name: &str) -> Result<Doc<model::Group>, Problem> {
    let mut groups = app.replica.list::<model::Group>();
    groups.retain(|group| group.name == name);
    groups.sort_by_key(Doc::id);
    groups.into_iter().next().ok_or_else(|| Problem::not_found("group", name))
}

fn show(group: &Doc<model::Group>, users: &[Doc<User>]) -> Group {
    let members = users.iter().filter(|user| user.groups.contains(&group.name));
    let members: BTreeSet<_> = members.map(|user| user.name.clone()).collect();
    Group {
        name: group.name.clone(),
        description: group.description.clone(),
        members: members.into_iter().collect(),
    }
}
