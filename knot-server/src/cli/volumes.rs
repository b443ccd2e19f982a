//! `knot volume`.

use clap::Subcommand;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use super::client::{Answer, Body, Client, EMPTY};
use super::context::Context;
use super::failure::Failure;
use super::output::{Cell, Colour, clean, table};
use crate::api::types::{
    AdoptVolume, AttachVolume, CreateVolume, DiscardVolume, EditVolume, Orphan, Volume, Volumes,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List volumes
    #[command(visible_alias = "list")]
    Ls {
        /// List what is on engines and of no space or user, and what is missing on them
        #[arg(long)]
        orphans: bool,
    },
    /// Make a volume that is no space's
    Create {
        /// The new volume's name
        name: String,
        /// The server whose engine is to hold it
        #[arg(long, value_name = "SERVER")]
        server: String,
        /// The kind of engine, such as docker
        #[arg(long, value_name = "PLATFORM")]
        platform: String,
        /// Its size in bytes, where the engine bounds sizes
        #[arg(long, value_name = "BYTES")]
        size: Option<u64>,
    },
    /// Keep a volume when its space is deleted
    Keep {
        /// The volume's name, SPACE:NAME or id
        name: String,
        /// Do not keep it
        #[arg(long)]
        no: bool,
    },
    /// Change a volume's size, where its engine can
    Resize {
        /// The volume's name, SPACE:NAME or id
        name: String,
        /// The size in bytes
        size: u64,
    },
    /// Attach a volume to a space, from the space's next start on
    Attach {
        /// The volume's name or id
        name: String,
        /// The space's name or id
        space: String,
        /// Where it is seen in the space
        path: String,
    },
    /// Detach a volume from its space
    Detach {
        /// The volume's name or id
        name: String,
    },
    /// Give a stopped space back what was set aside when it got another volume in its place
    Adopt {
        /// SPACE:NAME, or the engine id of what was set aside
        name: String,
        /// Which, where several were set aside
        #[arg(long)]
        engine_id: Option<String>,
    },
    /// Delete a volume with all that is in it
    #[command(visible_alias = "rm")]
    Delete {
        /// The volume's name or id
        name: String,
        /// Remove only what was set aside for it under this engine id
        #[arg(long, value_name = "ENGINE_ID")]
        set_aside: Option<String>,
    },
}

/// Runs one command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.client()?;
    let (answer, done): (Answer<Volume>, _) = match command {
        Command::Ls { orphans } => return list(context, &client, orphans).await,
        Command::Create { name, server, platform, size } => {
            let wanted = CreateVolume { name, server, platform, size };
            (
                client.send(Method::POST, &["volumes"], Body::Json(&wanted)).await?,
                "is to be made on",
            )
        }
        Command::Keep { name, no } => {
            let wanted = EditVolume { keep: Some(!no), ..EditVolume::default() };
            let done = if no { "goes with its space, on" } else { "is kept, on" };
            (client.send(Method::PATCH, &["volumes", &name], Body::Json(&wanted)).await?, done)
        }
        Command::Resize { name, size } => {
            let wanted = EditVolume { size: Some(size), ..EditVolume::default() };
            let path = ["volumes", name.as_str()];
            (client.send(Method::PATCH, &path, Body::Json(&wanted)).await?, "is to be resized on")
        }
        Command::Attach { name, space, path } => {
            let wanted = AttachVolume { space, path };
            (post(&client, &name, "attach", Body::Json(&wanted)).await?, "is attached, on")
        }
        Command::Detach { name } => {
            (post(&client, &name, "detach", EMPTY).await?, "is detached, on")
        }
        Command::Adopt { name, engine_id } => {
            let wanted = AdoptVolume { engine_id };
            (
                post(&client, &name, "adopt", Body::Json(&wanted)).await?,
                "is again what was set aside, on",
            )
        }
        Command::Delete { name, set_aside: Some(engine_id) } => {
            let wanted = DiscardVolume { engine_id };
            let answer = post(&client, &name, "discard", Body::Json(&wanted)).await?;
            (answer, "loses what was set aside, on")
        }
        Command::Delete { name, set_aside: None } => {
            client.delete(&["volumes", &name]).await?;
            let result = json!({ "name": name, "state": "deleting" });
            return context.reader.show(&result, |_| format!("{} is deleted\n", clean(&name)));
        }
    };
    context.reader.show(&answer.raw, |_| {
        format!("{} {done} {}\n", clean(&answer.value.name), clean(&answer.value.server))
    })
}

async fn post<B: Serialize>(
    client: &Client,
    name: &str,
    action: &str,
    body: Body<'_, B>,
) -> Result<Answer<Volume>, Failure> {
    client.send(Method::POST, &["volumes", name, action], body).await
}

async fn list(context: &Context, client: &Client, orphans: bool) -> Result<(), Failure> {
    let answer: Answer<Volumes> = client.get(&["volumes"]).await?;
    context.reader.show(&answer.raw, |colour| {
        let Volumes { mut volumes, orphans: strays } = answer.value;
        if orphans {
            volumes.retain(|volume| volume.state == "missing");
        }
        let strays = if orphans { strays } else { Vec::new() };
        if volumes.is_empty() && strays.is_empty() {
            let none = if orphans {
                "There are no orphans\n"
            } else {
                "There are no volumes; a space's first start makes those of its template\n"
            };
            return none.to_owned();
        }
        let rows = volumes.into_iter().map(row).chain(strays.into_iter().map(stray));
        table(
            [
                "NAME",
                "SPACE",
                "PATH",
                "STATE",
                "KEEP",
                "SIZE",
                "PLATFORM",
                "SERVER",
                "ENGINE ID",
                "CAUSE",
            ],
            rows.collect(),
            colour,
        )
    })
}

fn row(volume: Volume) -> [Cell; 10] {
    let meaning = match volume.state.as_str() {
        "missing" => Some(Colour::Bad),
        "aside" => Some(Colour::Busy),
        _ => None,
    };
    let state = if volume.state == "aside" { "set aside" } else { &volume.state };
    [
        volume.name.into(),
        volume.space.into(),
        volume.path.into(),
        Cell::coloured(state, meaning),
        if volume.keep { "yes" } else { "" }.into(),
        volume.size.map(|size| size.to_string()).unwrap_or_default().into(),
        volume.platform.into(),
        volume.server.into(),
        volume.engine_id.into(),
        volume.cause.unwrap_or_default().into(),
    ]
}

fn stray(orphan: Orphan) -> [Cell; 10] {
    let state = Cell::coloured("orphan", Some(Colour::Bad));
    let none = || Cell::from("");
    [
        none(),
        none(),
        none(),
        state,
        none(),
        none(),
        orphan.platform.into(),
        orphan.server.into(),
        orphan.engine_id.into(),
        none(),
    ]
}
