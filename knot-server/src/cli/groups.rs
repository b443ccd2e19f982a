//! `knot group`: groups of users, which templates can be kept to.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::client::{Answer, Body, EMPTY};
use super::context::Context;
use super::failure::Failure;
use super::output::{clean, table};
use crate::api::types::{CreateGroup, Group, Groups};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a group
    Create {
        /// The new group's name
        name: String,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// List groups
    #[command(visible_alias = "list")]
    Ls,
    /// Delete a group that no template is kept to
    #[command(visible_alias = "rm")]
    Delete {
        /// The group's name
        name: String,
    },
    /// Put a user into a group
    Add {
        /// The group's name
        name: String,
        /// The user's name
        user: String,
    },
    /// Take a user out of a group
    Remove {
        /// The group's name
        name: String,
        /// The user's name
        user: String,
    },
}

/// Runs one command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        Command::Create { name, description } => {
            let wanted = CreateGroup { name, description };
            let answer: Answer<Group> =
                client.send(Method::POST, &["groups"], Body::Json(&wanted)).await?;
            context.reader.show(&answer.raw, |_| format!("{} is created\n", clean(&wanted.name)))
        }
        Command::Ls => list(context).await,
        Command::Delete { name } => {
            client.delete(&["groups", &name]).await?;
            let result = json!({ "name": name, "state": "gone" });
            context.reader.show(&result, |_| format!("{} is deleted\n", clean(&name)))
        }
        Command::Add { name, user } => {
            let path = ["groups", name.as_str(), "members", user.as_str()];
            let answer: Answer<Group> = client.send(Method::PUT, &path, EMPTY).await?;
            told(context, &answer)
        }
        Command::Remove { name, user } => {
            let path = ["groups", name.as_str(), "members", user.as_str()];
            let answer: Answer<Group> = client.send(Method::DELETE, &path, EMPTY).await?;
            told(context, &answer)
        }
    }
}

fn told(context: &Context, answer: &Answer<Group>) -> Result<(), Failure> {
    context.reader.show(&answer.raw, |_| {
        let members = match answer.value.members.as_slice() {
            [] => "nobody".to_owned(),
            members => members.join(", "),
        };
        clean(&format!("{} has {members}", answer.value.name)) + "\n"
    })
}

async fn list(context: &Context) -> Result<(), Failure> {
    let answer: Answer<Groups> = context.client()?.get(&["groups"]).await?;
    context.reader.show(&answer.raw, |colour| {
        if answer.value.groups.is_empty() {
            return "There are no groups that you may see\n".to_owned();
        }
        let rows = answer.value.groups.into_iter().map(|group| {
            [group.name.into(), group.members.join(", ").into(), group.description.into()]
        });
        table(["NAME", "MEMBERS", "DESCRIPTION"], rows.collect(), colour)
    })
}
