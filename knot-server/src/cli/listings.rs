//! What is only looked at: servers, and oneself.

use reqwest::Method;

use super::client::{Answer, Body};
use super::context::Context;
use super::failure::Failure;
use super::output::{Cell, Colour, clean, table};
use crate::api::types::{EditMe, ServerState, Servers, User};

/// `knot whoami`.
pub(crate) async fn whoami(context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let answer: Answer<User> = client.get(&["me"]).await?;
    context.reader.show(&answer.raw, |_| {
        let role = if answer.value.admin { " (admin)" } else { "" };
        format!("{}{role} at {}\n", clean(&answer.value.name), client.address())
    })
}

/// `knot time-zone`.
pub(crate) async fn time_zone(context: &Context, zone: String) -> Result<(), Failure> {
    let body = EditMe { time_zone: Some(zone) };
    let client = context.client()?;
    let answer: Answer<User> = client.send(Method::PATCH, &["me"], Body::Json(&body)).await?;
    context.reader.show(&answer.raw, |_| {
        format!("schedules of your spaces go by {}\n", clean(&answer.value.time_zone))
    })
}

/// `knot server ls`: the one that answered is marked.
pub(crate) async fn servers(context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let answer: Answer<Servers> = client.get(&["servers"]).await?;
    client.learn_from(&answer.value);
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
                server.ssh.unwrap_or_default().into(),
            ]
        });
        table(["NAME", "STATE", "ZONE", "PLATFORMS", "HTTP", "QUIC", "SSH"], rows.collect(), colour)
    })
}
