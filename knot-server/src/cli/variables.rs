//! `knot variable`: values that templates name.

use std::io::Read;

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::client::{Answer, Body};
use super::context::Context;
use super::failure::Failure;
use super::output::{clean, table};
use crate::api::types::{LONGEST_VARIABLE, SetVariable, Variable, Variables};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set a variable; the next start of a space takes it
    Set {
        /// The variable's name: letters, digits and _
        name: String,
        /// The value; read from standard input if left out
        value: Option<String>,
        /// A zone that it is for (repeatable); for all if left out
        #[arg(long = "zone", value_name = "ZONE")]
        zones: Vec<String>,
        /// Seal it: it is never shown again
        #[arg(long)]
        secret: bool,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List variables
    #[command(visible_alias = "list")]
    Ls,
    /// Delete a variable
    #[command(visible_alias = "rm")]
    Delete {
        /// The variable's name, or its id where several have that name
        name: String,
    },
}

/// Runs one command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Set { name, value, zones, secret, description } => {
            let value = match value {
                Some(value) => value,
                None => read()?,
            };
            let wanted = SetVariable { value, secret, zones, description };
            let path = ["variables", name.as_str()];
            let answer: Answer<Variable> =
                context.client()?.send(Method::PUT, &path, Body::Json(&wanted)).await?;
            context.reader.show(&answer.raw, |_| {
                let place = match answer.value.zones.as_slice() {
                    [] => String::new(),
                    zones => format!(" for {}", zones.join(", ")),
                };
                clean(&format!(
                    "{}{place} is set; the next start of a space takes it",
                    answer.value.name
                )) + "\n"
            })
        }
        Command::Ls => list(context).await,
        Command::Delete { name } => {
            context.client()?.delete(&["variables", &name]).await?;
            let result = json!({ "variable": name, "state": "gone" });
            context.reader.show(&result, |_| format!("{} is deleted\n", clean(&name)))
        }
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let answer: Answer<Variables> = context.client()?.get(&["variables"]).await?;
    context.reader.show(&answer.raw, |colour| {
        if answer.value.variables.is_empty() {
            return "There are no variables; `knot variable set NAME VALUE` makes one\n".to_owned();
        }
        let rows = answer.value.variables.into_iter().map(|variable| {
            let value = variable.value.unwrap_or_else(|| "sealed".to_owned());
            [
                variable.name.into(),
                variable.zones.join(", ").into(),
                value.into(),
                variable.description.into(),
                variable.id.into(),
            ]
        });
        table(["NAME", "ZONES", "VALUE", "DESCRIPTION", "ID"], rows.collect(), colour)
    })
}

/// The value from standard input, without the line end that a shell puts behind it.
fn read() -> Result<String, Failure> {
    let mut text = String::new();
    let input = std::io::stdin().lock().take(LONGEST_VARIABLE as u64 + 1).read_to_string(&mut text);
    input.map_err(|error| {
        Failure::local(format!("the value cannot be read: {}", super::client::cause(&error)))
    })?;
    if text.len() > LONGEST_VARIABLE {
        return Err(Failure::local(format!("a variable has at most {LONGEST_VARIABLE} bytes")));
    }
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
