//! The terminals that a space keeps: listed, found by name, named and ended.

use reqwest::Method;
use uuid::Uuid;

use crate::api::types::terminals::{EditTerminal, Terminal, TerminalList};
use crate::cli::client::{Answer, Body, Client};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{clean, table};
use crate::cli::time::age;

/// `knot space terminals`.
pub(crate) async fn list(context: &Context, space: &str) -> Result<(), Failure> {
    let client = context.client()?;
    let answer: Answer<TerminalList> = client.get(&["spaces", space, "terminals"]).await?;
    context.reader.show(&answer.raw, |colour| {
        let rows = answer.value.terminals.into_iter().map(|terminal| {
            [
                terminal.name.into(),
                terminal.command.into(),
                format!("{}x{}", terminal.size.columns, terminal.size.rows).into(),
                terminal.viewers.to_string().into(),
                age(&terminal.since, answer.now).into(),
                terminal.id.to_string().into(),
            ]
        });
        table(["NAME", "RUNS", "SIZE", "VIEWERS", "AGE", "ID"], rows.collect(), colour)
    })
}

/// The terminal of this name or id.
pub(super) async fn find(client: &Client, space: &str, key: &str) -> Result<Terminal, Failure> {
    let answer: Answer<TerminalList> = client.get(&["spaces", space, "terminals"]).await?;
    let id = Uuid::parse_str(key).ok();
    let mut all = answer.value.terminals.into_iter();
    all.find(|terminal| Some(terminal.id) == id || terminal.name == key).ok_or_else(|| {
        Failure::usage(format!(
            "{space} has no terminal `{key}`: look at the list with `knot space terminals {space}`"
        ))
    })
}

/// Gives a terminal another name.
pub(super) async fn rename(
    client: &Client,
    space: &str,
    id: Uuid,
    name: &str,
) -> Result<(), Failure> {
    let edit = EditTerminal { name: name.to_owned() };
    let path = ["spaces", space, "terminals", &id.to_string()];
    client.tell(Method::PATCH, &path, Body::Json(&edit)).await
}

/// Ends a terminal.
pub(super) async fn end(
    context: &Context,
    client: &Client,
    space: &str,
    key: &str,
) -> Result<(), Failure> {
    let found = find(client, space, key).await?;
    client.delete(&["spaces", space, "terminals", &found.id.to_string()]).await?;
    let shown = serde_json::json!({ "ended": found.id });
    context.reader.show(&shown, |_| format!("{} is ended\n", clean(&found.name)))
}
