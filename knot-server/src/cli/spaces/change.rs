//! `knot space edit`, `share`, `unshare`, `transfer`, `move` and `recover`.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Serialize;

use super::super::client::{Answer, Body, Client};
use super::super::context::Context;
use super::super::failure::Failure;
use super::super::output::clean;
use super::arguments::{EditSpace as Edit, Rehome, Share};
use crate::api::types::{EditSpace, ForUser, MoveSpace, NewVolumes, RecoverSpace, Space};

pub(super) async fn edit(context: &Context, wanted: Edit) -> Result<(), Failure> {
    let client = context.client()?;
    let mut alt_names: BTreeMap<String, Option<u16>> =
        wanted.alt.into_iter().map(|(name, port)| (name, Some(port))).collect();
    alt_names.extend(wanted.no_alt.into_iter().map(|name| (name, None)));
    let depends_on = if wanted.no_dependencies { Some(Vec::new()) } else { None };
    let depends_on = depends_on.or(Some(wanted.depends_on).filter(|names| !names.is_empty()));
    let body = EditSpace {
        name: wanted.new_name,
        description: wanted.description,
        note: wanted.note,
        alt_names: Some(alt_names).filter(|names| !names.is_empty()),
        depends_on,
    };
    let path = ["spaces", wanted.name.as_str()];
    let space: Answer<Space> = client.send(Method::PATCH, &path, Body::Json(&body)).await?;
    context.reader.show(&space.raw, |_| format!("{} is changed\n", clean(&space.value.name)))
}

pub(super) async fn share(
    context: &Context,
    action: &str,
    Share { name, user }: Share,
) -> Result<(), Failure> {
    let client = context.client()?;
    let space = post(&client, &name, action, &ForUser { user }).await?;
    context.reader.show(&space.raw, |_| {
        let with = match space.value.shares.join(", ") {
            none if none.is_empty() => "nobody".to_owned(),
            names => names,
        };
        format!("{} is shared with {}\n", clean(&space.value.name), clean(&with))
    })
}

pub(super) async fn transfer(
    context: &Context,
    Share { name, user }: Share,
) -> Result<(), Failure> {
    let client = context.client()?;
    let path = ["spaces", name.as_str(), "transfer"];
    client.tell(Method::POST, &path, Body::Json(&ForUser { user: user.clone() })).await?;
    let result = serde_json::json!({ "name": name, "owner": user });
    context.reader.show(&result, |_| format!("{} is {}'s now\n", clean(&name), clean(&user)))
}

pub(super) async fn move_to(context: &Context, to: Rehome) -> Result<(), Failure> {
    let client = context.client()?;
    let body = MoveSpace { server: to.to, volumes: volumes(to.with_empty_volumes) };
    let space = post(&client, &to.name, "move", &body).await.map_err(hint)?;
    context.reader.show(&space.raw, |_| {
        let Space { name, home, moving_to, empty_volumes, .. } = &space.value;
        let to = moving_to.as_deref().unwrap_or(home);
        let (name, home, to) = (clean(name), clean(home), clean(to));
        let volumes = match empty_volumes {
            true => "begins there with new, empty volumes",
            false => "takes what it keeps along",
        };
        format!("{name} moves from {home} to {to}, and {volumes}\n")
    })
}

pub(super) async fn recover(context: &Context, to: Rehome, force: bool) -> Result<(), Failure> {
    let client = context.client()?;
    let before: Answer<Space> = client.get(&["spaces", &to.name]).await?;
    let body = RecoverSpace { server: to.to, volumes: volumes(to.with_empty_volumes), force };
    let space = post(&client, &before.value.id, "recover", &body).await.map_err(hint)?;
    context.reader.show(&space.raw, |_| {
        let (name, old) = (clean(&space.value.name), clean(&before.value.home));
        let home = clean(&space.value.home);
        let volumes = match space.value.empty_volumes {
            true => " and sets its volumes aside (see `knot volume ls`)",
            false => ". What it keeps has gone along",
        };
        format!(
            "{name} is on {home} now. {old} may still be running it: once it hears of this, it stops \
             its copy{volumes}\n"
        )
    })
}

fn volumes(empty: bool) -> Option<NewVolumes> {
    empty.then_some(NewVolumes::Empty)
}

fn hint(failure: Failure) -> Failure {
    failure
        .with_hint("volumes_stay", "add --with-empty-volumes")
        .with_hint("home_answers", "add --force")
}

async fn post(
    client: &Client,
    name: &str,
    action: &str,
    body: &impl Serialize,
) -> Result<Answer<Space>, Failure> {
    client.send(Method::POST, &["spaces", name, action], Body::Json(body)).await
}
