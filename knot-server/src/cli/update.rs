//! `knot template outdated` and `update`: bringing a template's newest revision to its running
//! spaces, some at a time.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::client::{Answer, Client, EMPTY};
use super::context::Context;
use super::failure::Failure;
use super::output::{clean, table};
use super::progress::Progress;
use super::time::{age, format_duration};
use super::wait::{Aim, Goal, outcome};
use crate::api::types::{Space, Spaces, Template};

/// `knot template outdated`.
pub(crate) async fn outdated(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client()?;
    let template: Answer<Template> = client.get(&["templates", name]).await?;
    let answer: Answer<Spaces> = client.get(&["spaces"]).await?;
    let spaces = of(answer.value.spaces, &template.value);
    let raw = json!({ "spaces": spaces });
    context.reader.show(&raw, |colour| {
        if spaces.is_empty() {
            let name = clean(&template.value.name);
            return format!("All running spaces of {name} that you may see are up to date\n");
        }
        let rows = spaces.into_iter().map(|space| {
            let since = space.since.as_deref().map(|since| age(since, answer.now));
            [
                space.name,
                space.owner,
                space.home,
                space.revision.unwrap_or_default(),
                since.unwrap_or_default(),
            ]
            .map(Into::into)
        });
        table(["NAME", "OWNER", "HOME", "REVISION", "SINCE"], rows.collect(), colour)
    })
}

/// `knot template update`: stops at a wave with a failure.
pub(crate) async fn run(
    context: &Context,
    name: &str,
    wave: usize,
    limit: Duration,
) -> Result<(), Failure> {
    let client = context.client()?;
    let template: Answer<Template> = client.get(&["templates", name]).await?;
    let answer: Answer<Spaces> = client.get(&["spaces"]).await?;
    let spaces = of(answer.value.spaces, &template.value);
    let name = clean(&template.value.name);
    let progress = Progress::new(&name, context.shows_progress());
    let mut updated: Vec<String> = Vec::new();
    for wave in spaces.chunks(wave.max(1)) {
        let names: Vec<_> = wave.iter().map(|space| space.name.as_str()).collect();
        let (done, all, names) = (updated.len(), spaces.len(), names.join(", "));
        progress.say(&format!("{done} of {all} updated, restarting {names}"));
        let restarts = wave.iter().map(|space| restart(&client, space, limit));
        let results = join_all(restarts).await;
        let mut failures = Vec::new();
        for (space, result) in wave.iter().zip(results) {
            match result {
                Ok(()) => updated.push(space.name.clone()),
                Err(failure) => failures.push(format!("{}: {failure}", space.name)),
            }
        }
        if !failures.is_empty() {
            drop(progress);
            return Err(Failure::operation(format!(
                "{} of {all} were updated, and the rest is left as it is; what failed: {}",
                updated.len(),
                failures.join("; ")
            )));
        }
    }
    let elapsed = format_duration(progress.elapsed());
    drop(progress);
    context.reader.show(&json!({ "updated": updated }), |_| match updated.len() {
        0 => format!("All running spaces of {name} that you may see are up to date\n"),
        count => format!("{count} of {name} updated (after {elapsed})\n"),
    })
}

fn of(spaces: Vec<Space>, template: &Template) -> Vec<Space> {
    let of = |space: &Space| space.template_id == template.id && space.update_available;
    spaces.into_iter().filter(of).collect()
}

async fn restart(client: &Client, space: &Space, limit: Duration) -> Result<(), Failure> {
    // One line for all of a wave: the single space's goes nowhere.
    let silent = Progress::new(&space.name, false);
    let aim = Aim::new(Goal::Restarted, Some(space));
    let asked: Answer<Space> =
        client.send(Method::POST, &["spaces", &space.id, "restart"], EMPTY).await?;
    outcome(client, &aim, &asked.value, limit, &silent).await.map(|_| ())
}
