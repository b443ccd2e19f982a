//! What is only looked at: volumes, servers, and oneself.

use super::client::Answer;
use super::context::Context;
use super::failure::Failure;
use super::output::{Cell, Colour, clean, table};
use crate::api::types::{ServerState, Servers, User, Volumes};

/// `knot whoami`.
pub(crate) async fn whoami(context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let answer: Answer<User> = client.get(&["me"]).await?;
    context.reader.show(&answer.raw, |_| {
        let role = if answer.value.admin { " (admin)" } else { "" };
        format!("{}{role} at {}\n", clean(&answer.value.name), client.address())
    })
}

/// `knot volume ls`.
pub(crate) async fn volumes(context: &Context) -> Result<(), Failure> {
    let answer: Answer<Volumes> = context.client()?.get(&["volumes"]).await?;
    context.reader.show(&answer.raw, |colour| {
        if answer.value.volumes.is_empty() {
            return "There are no volumes; a space's first start makes those of its template\n"
                .to_owned();
        }
        let rows = answer.value.volumes.into_iter().map(|volume| {
            [
                volume.name,
                volume.space,
                volume.path,
                volume.state,
                volume.platform,
                volume.server,
                volume.engine_id,
            ]
            .map(Cell::from)
        });
        table(
            ["NAME", "SPACE", "PATH", "STATE", "PLATFORM", "SERVER", "ENGINE ID"],
            rows.collect(),
            colour,
        )
    })
}

/// `knot server ls`: the one that answered is marked.
pub(crate) async fn servers(context: &Context) -> Result<(), Failure> {
    let answer: Answer<Servers> = context.client()?.get(&["servers"]).await?;
    context.reader.show(&answer.raw, |colour| {
        let rows = answer.value.servers.into_iter().map(|server| {
            let clock = server.clock_words();
            let clock = if clock.is_empty() { clock } else { format!(", {clock}") };
            let meaning = match server.state {
                ServerState::Live => Colour::Good,
                ServerState::Unreachable => Colour::Bad,
            };
            let mark = if server.this { " *" } else { "" };
            [
                format!("{}{mark}", server.name).into(),
                Cell::coloured(format!("{}{clock}", server.state), Some(meaning)),
                server.zone.unwrap_or_default().into(),
                server.platforms.join(", ").into(),
                server.http.unwrap_or_default().into(),
                server.quic.unwrap_or_default().into(),
            ]
        });
        table(["NAME", "STATE", "ZONE", "PLATFORMS", "HTTP", "QUIC"], rows.collect(), colour)
    })
}
