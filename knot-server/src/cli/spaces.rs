//! `knot space`: making, changing and looking at spaces.

mod arguments;
mod change;

use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::arguments::Command;
use self::arguments::{Change, Wait};
use super::client::{Answer, Body, Client, EMPTY};
use super::context::Context;
use super::exec;
use super::failure::{Exit, Failure};
use super::insight;
use super::output::{Cell, Colour, clean, details, table};
use super::ports;
use super::progress::Progress;
use super::terminal;
use super::time::{age, format_duration};
use super::wait::{Aim, Goal, outcome};
use crate::api::types::exec::Open;
use crate::api::types::ports::Ports;
use crate::api::types::{Conflict, CreateSpace, Observed, SetParameters, Space, Spaces};

/// Runs one command; its status is not 0 only where a command in a space ended with another.
pub(crate) async fn run(context: &Context, command: Command) -> Result<u8, Failure> {
    let done = match command {
        Command::Create { name, template, start, server, key, parameters, wait } => {
            let parameters = parameters.into_iter().collect();
            create(context, CreateSpace { name, template, start, server, parameters }, key, &wait)
                .await
        }
        Command::Parameters { name, set, unset } => parameters(context, &name, set, unset).await,
        Command::Edit(edit) => change::edit(context, edit).await,
        Command::Share(share) => change::share(context, "shares", share).await,
        Command::Unshare(share) => change::share(context, "unshare", share).await,
        Command::Transfer(share) => change::transfer(context, share).await,
        Command::Move(to) => change::move_to(context, to).await,
        Command::Recover { to, force } => change::recover(context, to, force).await,
        Command::Ls => list(context).await,
        Command::Show { name } => show(context, &name).await,
        Command::Start(change) => change_to(context, "start", Goal::Running, &change).await,
        Command::Stop(change) => change_to(context, "stop", Goal::Stopped, &change).await,
        Command::Restart(change) => change_to(context, "restart", Goal::Restarted, &change).await,
        Command::Delete(change) => delete(context, &change).await,
        Command::Forward { name, port, to, remove: _ } => {
            ports::forward(context, &name, port, to).await
        }
        Command::Exec { name, directory, environment, interactive: _, terminal, command } => {
            let environment = environment.into_iter().collect();
            let open = Open { command, environment, directory, terminal: None };
            let ran = match terminal {
                true => exec::run_on_terminal(context, &name, open).await,
                false => exec::run(context, &name, open).await,
            };
            return ran.map_err(Failure::into_could_not_run);
        }
        Command::Starts { name } => insight::starts(context, &name).await,
        Command::Logs { name, provision, generation, previous, follow } => {
            let generation = match previous {
                true => Some(insight::previous(context, &name, provision).await?),
                false => generation,
            };
            let mut query = vec![("kind", if provision { "provision" } else { "container" })];
            query.extend(generation.as_deref().map(|generation| ("generation", generation)));
            query.extend(follow.then_some(("follow", "true")));
            insight::logs(context, &name, &query).await
        }
        Command::Launch { name } => insight::launch(context, &name).await,
        Command::Usage { name } => insight::usage(context, &name).await,
        Command::Terminal(arguments) => return terminal::run(context, arguments).await,
        Command::Terminals { name } => terminal::list(context, &name).await,
    };
    done.map(|()| 0)
}

async fn create(
    context: &Context,
    wanted: CreateSpace,
    key: Option<String>,
    wait: &Wait,
) -> Result<(), Failure> {
    let client = context.client()?;
    let progress = Progress::new(&wanted.name, context.shows_progress());
    let space: Answer<Space> = match key {
        Some(key) => client.create_once(&["spaces"], &wanted, &key).await?,
        None => post(&client, &["spaces"], Body::Json(&wanted)).await?,
    };
    if !wanted.start {
        drop(progress);
        let name = clean(&wanted.name);
        return context.reader.show(&space.raw, |_| {
            format!("{name} is created; `knot space start {name}` starts it\n")
        });
    }
    settle(context, &client, Aim::new(Goal::Running, None), space, wait, progress).await
}

async fn change_to(
    context: &Context,
    action: &str,
    goal: Goal,
    change: &Change,
) -> Result<(), Failure> {
    let client = context.client()?;
    let progress = Progress::new(&change.name, context.shows_progress());
    let name = change.name.as_str();
    if change.wait.limit().is_none() {
        let space = post(&client, &["spaces", name, action], EMPTY).await?;
        return settle(context, &client, Aim::new(goal, None), space, &change.wait, progress).await;
    }
    // A later look is compared with how it was: an old failure is not this request's.
    let before: Answer<Space> = client.get(&["spaces", name]).await?;
    let space: Answer<Space> = post(&client, &["spaces", &before.value.id, action], EMPTY).await?;
    let aim = Aim::new(goal, Some(&before.value));
    settle(context, &client, aim, space, &change.wait, progress).await
}

/// Waits for the outcome where that is wanted, and tells it.
async fn settle(
    context: &Context,
    client: &Client,
    aim: Aim,
    asked: Answer<Space>,
    wait: &Wait,
    progress: Progress,
) -> Result<(), Failure> {
    let Some(limit) = wait.limit() else {
        drop(progress);
        return context.reader.show(&asked.raw, |_| {
            let space = &asked.value;
            let (name, home) = (clean(&space.name), clean(&space.home));
            format!("{name} is to be {}; it is {} on {home}\n", space.desired, space.observed)
        });
    };
    let end = outcome(client, &aim, &asked.value, limit, &progress).await?;
    let elapsed = format_duration(progress.elapsed());
    drop(progress);
    let end = end.unwrap_or(asked);
    context.reader.show(&end.raw, |_| {
        let space = &end.value;
        let generation = space.generation.as_ref().filter(|_| space.observed == Observed::Running);
        let generation =
            generation.map(|generation| format!(", generation {generation}")).unwrap_or_default();
        clean(&format!(
            "{} is {} on {}{generation} (after {elapsed})",
            space.name, space.observed, space.home
        )) + "\n"
    })
}

async fn delete(context: &Context, change: &Change) -> Result<(), Failure> {
    let client = context.client()?;
    let progress = Progress::new(&change.name, context.shows_progress());
    let before: Answer<Space> = client.get(&["spaces", &change.name]).await?;
    let space = before.value;
    client.delete(&["spaces", &space.id]).await?;
    let result = |state: &str| json!({ "id": space.id, "name": space.name, "state": state });
    let name = clean(&space.name);
    let Some(limit) = change.wait.limit() else {
        drop(progress);
        let home = clean(&space.home);
        return context
            .reader
            .show(&result("deleting"), |_| format!("{name} is to be deleted by {home}\n"));
    };
    outcome(&client, &Aim::new(Goal::Gone, Some(&space)), &space, limit, &progress).await?;
    let elapsed = format_duration(progress.elapsed());
    drop(progress);
    context.reader.show(&result("gone"), |_| format!("{name} is deleted (after {elapsed})\n"))
}

async fn parameters(
    context: &Context,
    name: &str,
    set: Vec<(String, String)>,
    unset: Vec<String>,
) -> Result<(), Failure> {
    let client = context.client()?;
    let changes = !set.is_empty() || !unset.is_empty();
    let set = set.into_iter().map(|(name, value)| (name, Some(value)));
    let wanted = SetParameters {
        parameters: set.chain(unset.into_iter().map(|name| (name, None))).collect(),
    };
    let answer: Answer<Space> = match changes {
        true => {
            client.send(Method::PUT, &["spaces", name, "parameters"], Body::Json(&wanted)).await?
        }
        false => client.get(&["spaces", name]).await?,
    };
    context.reader.show(&answer.raw, |colour| {
        if answer.value.parameters.is_empty() {
            return "No parameter has a value of its own: those of the template hold\n".to_owned();
        }
        let rows =
            answer.value.parameters.into_iter().map(|(name, value)| [name.into(), value.into()]);
        let note = if changes { "The next start takes them\n" } else { "" };
        table(["PARAMETER", "VALUE"], rows.collect(), colour) + note
    })
}

async fn post<B: Serialize>(
    client: &Client,
    path: &[&str],
    body: Body<'_, B>,
) -> Result<Answer<Space>, Failure> {
    client.send(Method::POST, path, body).await
}

async fn list(context: &Context) -> Result<(), Failure> {
    let answer: Answer<Spaces> = context.client()?.get(&["spaces"]).await?;
    context.reader.show(&answer.raw, |colour| {
        if answer.value.spaces.is_empty() {
            return "There are no spaces; `knot space create NAME --template TEMPLATE --start` makes one\n".to_owned();
        }
        let rows = answer.value.spaces.into_iter().map(|space| {
            let since = space.since.as_deref().map(|since| age(since, answer.now)).unwrap_or_default();
            let (state, notes) = (state(&space), notes(&space));
            [space.name.into(), state, since.into(), space.template.into(), space.owner.into(), space.home.into(), notes.into()]
        });
        table(["NAME", "STATE", "SINCE", "TEMPLATE", "OWNER", "HOME", "NOTES"], rows.collect(), colour)
    })
}

async fn show(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client()?;
    let mut answer: Answer<Space> = client.get(&["spaces", name]).await?;
    let opened = match client.get::<Ports>(&["spaces", &answer.value.id, "ports"]).await {
        Ok(opened) => opened.value,
        // One that is being deleted is shown, and has none any more.
        Err(failure) if failure.exit() == Exit::NotFound => Ports::default(),
        Err(failure) => return Err(failure),
    };
    if let Some(fields) = answer.raw.as_object_mut() {
        fields.insert("ports".to_owned(), json!(opened.ports));
        fields.insert("any_url".to_owned(), json!(opened.any_url));
    }
    context.reader.show(&answer.raw, |colour| {
        let space = answer.value;
        let ago = |time: &str| match age(time, answer.now) {
            age if age == time => age,
            age => format!("{age} ago ({time})"),
        };
        let home = if space.home_reachable {
            space.home.clone()
        } else {
            format!("{}, cannot be reached", space.home)
        };
        let update =
            if space.update_available { "yes: `knot space restart` brings it" } else { "" };
        let alt_names = space.alt_names.iter().map(|(name, port)| format!("{name}={port}"));
        let alt_names = alt_names.collect::<Vec<_>>().join(", ");
        let forwards = space.forwards.iter();
        let forwards = forwards.map(|one| format!("{} to {}:{}", one.port, one.space, one.to));
        let forwards = forwards.collect::<Vec<_>>().join(", ");
        let mut pairs: Vec<(&str, Cell)> = vec![
            ("Name", space.name.clone().into()),
            ("State", state(&space)),
            ("Since", space.since.as_deref().map(ago).unwrap_or_default().into()),
            (
                "Cause",
                Cell::coloured(space.cause.clone().unwrap_or_default(), cause_colour(&space)),
            ),
            ("Health", health(&space)),
            ("Wanted", space.desired.to_string().into()),
            ("About", space.description.clone().into()),
            ("Note", space.note.clone().into()),
            ("Shared", space.shares.join(", ").into()),
            ("Names", alt_names.into()),
            ("Forwards", forwards.into()),
            ("Needs", space.depends_on.join(", ").into()),
            ("Moves to", space.moving_to.clone().unwrap_or_default().into()),
            ("Template", space.template.clone().into()),
            ("Update", Cell::coloured(update, Some(Colour::Busy))),
            ("Generation", space.generation.clone().unwrap_or_default().into()),
            ("Revision", space.revision.clone().unwrap_or_default().into()),
            ("Owner", space.owner.clone().into()),
            ("Home", home.into()),
            ("Reached", space.reached.as_ref().map(ToString::to_string).unwrap_or_default().into()),
            ("Driver", space.driver.clone().unwrap_or_default().into()),
            ("Created", ago(&space.created).into()),
            ("Id", space.id.clone().into()),
        ];
        pairs.extend(
            space
                .parameters
                .iter()
                .map(|(name, value)| ("Parameter", format!("{name}={value}").into())),
        );
        pairs.extend(ports::lines(opened).into_iter().map(|line| ("Port", line.into())));
        pairs.extend(conflicts(&space.conflicts));
        details(pairs, colour)
    })
}

/// A line for each field in conflict: the value that holds first.
pub(crate) fn conflicts(conflicts: &[Conflict]) -> impl Iterator<Item = (&'static str, Cell)> {
    conflicts.iter().map(|conflict| {
        let values = conflict.values.iter().map(|value| {
            let text = match &value.value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            format!("{text} by {} at {}", value.author, value.time)
        });
        let values = values.collect::<Vec<_>>().join(", or ");
        ("Conflict", Cell::coloured(format!("{}: {values}", conflict.field), Some(Colour::Busy)))
    })
}

fn state(space: &Space) -> Cell {
    let colour = match space.observed {
        Observed::Running => Some(Colour::Good),
        Observed::Provisioning | Observed::Starting | Observed::Stopping | Observed::Deleting => {
            Some(Colour::Busy)
        }
        Observed::Failed | Observed::Unreachable => Some(Colour::Bad),
        Observed::Created | Observed::Stopped | Observed::Gone => None,
    };
    Cell::coloured(space.observed.to_string(), colour)
}

fn health(space: &Space) -> Cell {
    match &space.health {
        None => "".into(),
        Some(health) => {
            let colour = if health.well { Colour::Good } else { Colour::Bad };
            Cell::coloured(health.text(), Some(colour))
        }
    }
}

fn cause_colour(space: &Space) -> Option<Colour> {
    (space.observed == Observed::Failed).then_some(Colour::Bad)
}

/// What a list has to say about a space besides its state.
fn notes(space: &Space) -> String {
    let mut notes: Vec<String> = space.cause.iter().cloned().collect();
    if let Some(health) = space.health.as_ref().filter(|health| !health.well) {
        notes.push(health.text());
    }
    if let Some(to) = &space.moving_to {
        notes.push(format!("moving to {to}"));
    }
    if space.update_available {
        notes.push("update available".to_owned());
    }
    if !space.conflicts.is_empty() {
        let fields: Vec<&str> =
            space.conflicts.iter().map(|conflict| conflict.field.as_str()).collect();
        notes.push(format!("conflict in {}", fields.join(", ")));
    }
    notes.join("; ")
}
