//! `knot key`: the SSH keys that sign a user in.

use std::{io::Read, path::PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::client::{Answer, Body};
use super::context::Context;
use super::failure::Failure;
use super::output::{clean, table};
use crate::api::types::{AddKey, SshKey, SshKeys};

/// The longest key file, in bytes.
const LONGEST: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a public key
    Add {
        /// Its file, such as ~/.ssh/id_ed25519.pub; - for standard input
        file: PathBuf,
    },
    /// List your keys
    #[command(visible_alias = "list")]
    Ls,
    /// Remove a key; connections that it made end
    #[command(visible_aliases = ["delete", "rm"])]
    Remove {
        /// Its fingerprint or its label
        key: String,
    },
}

/// Runs one command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Add { file } => {
            let wanted = AddKey { key: read(&file)? };
            let client = context.client()?;
            let answer: Answer<SshKey> =
                client.send(Method::POST, &["me", "keys"], Body::Json(&wanted)).await?;
            context.reader.show(&answer.raw, |_| {
                let key = &answer.value;
                format!("{} {} is added\n", clean(&key.label), clean(&key.fingerprint))
            })
        }
        Command::Ls => list(context).await,
        Command::Remove { key } => {
            context.client()?.delete(&["me", "keys", &key]).await?;
            let result = json!({ "key": key, "state": "gone" });
            context.reader.show(&result, |_| format!("{} is removed\n", clean(&key)))
        }
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let answer: Answer<SshKeys> = context.client()?.get(&["me", "keys"]).await?;
    context.reader.show(&answer.raw, |colour| {
        if answer.value.keys.is_empty() {
            return "You have no SSH keys; `knot key add ~/.ssh/id_ed25519.pub` adds one\n"
                .to_owned();
        }
        let rows = answer.value.keys.into_iter().map(|key| {
            let use_ = match (key.authority, key.principals.as_slice()) {
                (false, _) => "signs in".to_owned(),
                (true, []) => "signs certificates".to_owned(),
                (true, names) => format!("signs certificates for {}", names.join(", ")),
            };
            [key.label.into(), key.kind.into(), use_.into(), key.fingerprint.into()]
        });
        table(["LABEL", "KIND", "USE", "FINGERPRINT"], rows.collect(), colour)
    })
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    let mut text = String::new();
    let done = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
    };
    done.map_err(|error| {
        let why = super::client::cause(&error);
        Failure::local(format!("{} cannot be read: {why}", file.display()))
    })?;
    // What must stay on this machine does not leave it to be refused elsewhere.
    if text.contains("PRIVATE KEY") {
        return Err(Failure::local(format!(
            "{} is a private key, which belongs on your own machine only: give the file beside it that \
             ends in .pub",
            file.display()
        )));
    }
    Ok(text)
}
