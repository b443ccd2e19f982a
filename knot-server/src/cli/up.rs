//! Seeing to it that a space runs before a command goes into it: whoever opens a terminal or forwards a port wants it to.
//!
//! That counts once, when the command begins. A connection later on starts nothing: it may be of a page that was left
//! open and asks again and again, and would have the space back as soon as that is stopped.

use std::time::Duration;

use reqwest::Method;

use crate::api::types::{Desired, Observed, Space};
use crate::cli::client::{Answer, Client};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::cli::wait::{Aim, Goal, outcome};

/// How long a space may take to run: its home has a deadline of its own, below this.
const START: Duration = Duration::from_secs(15 * 60);

/// Waits until the space runs, and has it started where it is stopped and its template says so.
pub(crate) async fn up(context: &Context, client: &Client, space: Space) -> Result<(), Failure> {
    let started = match (space.desired, space.observed) {
        // Out of its home's sight it may well run: its agent is reached or not.
        (Desired::Running, Observed::Running | Observed::Unreachable) => return Ok(()),
        (Desired::Running, Observed::Failed) => return Err(failed(&space)),
        (Desired::Running, _) => None,
        (Desired::Stopped, _) => {
            let path = ["spaces", space.id.as_str(), "start"];
            let wanted: Answer<Space> =
                client.query(Method::POST, &path, &[("connecting", "true")]).await?;
            Some(wanted.value)
        }
    };
    let progress = Progress::new(&space.name, context.shows_progress());
    let aim = Aim::new(Goal::Running, Some(&space));
    let now = started.as_ref().unwrap_or(&space);
    outcome(client, &aim, now, START, &progress).await.map(drop)
}

/// Opens what only a running space has, with [`up`] where it is told that the space does not run.
pub(crate) async fn opened<T>(
    context: &Context,
    client: &Client,
    space: &str,
    open: impl AsyncFn() -> Result<T, Failure>,
) -> Result<T, Failure> {
    match open().await {
        Err(failure) if failure.is("not_running") => {
            let space: Answer<Space> = client.get(&["spaces", space]).await?;
            up(context, client, space.value).await?;
            open().await
        }
        done => done,
    }
}

fn failed(space: &Space) -> Failure {
    let cause = space.cause.as_deref().unwrap_or("no cause was given");
    let name = &space.name;
    Failure::operation(format!(
        "{name} failed: {cause}; start it again with `knot space start {name}`"
    ))
}
