//! `knot port`: who may open a space's ports over HTTP, and where.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;

use super::client::{Answer, Body, EMPTY};
use super::context::Context;
use super::failure::Failure;
use super::output::{Cell, Colour, clean, table};
use crate::api::types::Space;
use crate::api::types::ports::{Access, Port, Ports, SetForward, SharePort};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List a space's ports, who may open them, and where
    #[command(visible_alias = "ls")]
    List {
        /// The space's name or id
        space: String,
    },
    /// Open a port to more than the space's users
    Share {
        /// The space's name or id
        space: String,
        /// The port's number, or its name in the template
        port: String,
        /// To whom
        #[arg(long, value_enum)]
        with: With,
    },
    /// Open a port to the space's users only
    Unshare {
        /// The space's name or id
        space: String,
        /// The port's number, or its name in the template
        port: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum With {
    /// Everybody who is signed in to the cluster
    SignedIn,
    /// Everybody
    Public,
}

/// Runs one command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        Command::List { space } => list(context, &space).await,
        Command::Share { space, port, with } => {
            let access = match with {
                With::SignedIn => Access::SignedIn,
                With::Public => Access::Public,
            };
            let path = ["spaces", space.as_str(), "ports", port.as_str()];
            let wanted = SharePort { access };
            let answer: Answer<Space> =
                client.send(Method::PUT, &path, Body::Json(&wanted)).await?;
            context.reader.show(&answer.raw, |_| {
                format!(
                    "Port {} of {} is open to {}\n",
                    clean(&port),
                    clean(&answer.value.name),
                    access.words()
                )
            })
        }
        Command::Unshare { space, port } => {
            let path = ["spaces", space.as_str(), "ports", port.as_str()];
            let answer: Answer<Space> = client.send(Method::DELETE, &path, EMPTY).await?;
            context.reader.show(&answer.raw, |_| {
                format!(
                    "Port {} of {} is open to {}\n",
                    clean(&port),
                    clean(&answer.value.name),
                    Access::Owner.words()
                )
            })
        }
    }
}

async fn list(context: &Context, space: &str) -> Result<(), Failure> {
    let answer: Answer<Ports> = context.client()?.get(&["spaces", space, "ports"]).await?;
    context.reader.show(&answer.raw, |colour| {
        let Ports { ports, any_port, any_url } = answer.value;
        let at = any_url.map(|url| format!(" at {url}")).unwrap_or_default();
        let more = match (any_port, ports.is_empty()) {
            (true, true) => format!("Any port may be opened{at}; the template names none\n"),
            (true, false) => format!("Any other port may be opened too{at}\n"),
            (false, true) => "The space's template opens no port\n".to_owned(),
            (false, false) => String::new(),
        };
        if ports.is_empty() {
            return more;
        }
        let rows = ports.into_iter().map(|port| {
            let open = (port.access == Access::Public).then_some(Colour::Busy);
            [
                port.number.to_string().into(),
                port.name.unwrap_or_default().into(),
                port.protocol.into(),
                Cell::coloured(port.access.words(), open),
                port.url.unwrap_or_default().into(),
            ]
        });
        table(["PORT", "NAME", "PROTOCOL", "OPEN TO", "URL"], rows.collect(), colour) + &more
    })
}

/// A space's ports as a page of it has them: a line for each, and one for all others.
pub(crate) fn lines(ports: Ports) -> Vec<String> {
    let line = |port: Port| {
        let name = port.name.map(|name| format!(" {name}")).unwrap_or_default();
        let url = port.url.map(|url| format!(", to {}: {url}", port.access.words()));
        format!("{}{name} ({}){}", port.number, port.protocol, url.unwrap_or_default())
    };
    let any = ports.any_url.map(|url| format!("any: {url}"));
    ports.ports.into_iter().map(line).chain(any).collect()
}

/// Has a port of a space lead to another space, or to none.
pub(crate) async fn forward(
    context: &Context,
    space: &str,
    port: u16,
    to: Option<(String, u16)>,
) -> Result<(), Failure> {
    let client = context.client()?;
    let number = port.to_string();
    let path = ["spaces", space, "forwards", number.as_str()];
    let answer: Answer<Space> = match &to {
        Some((other, to)) => {
            let wanted = SetForward { space: other.clone(), port: *to };
            client.send(Method::PUT, &path, Body::Json(&wanted)).await?
        }
        None => client.send(Method::DELETE, &path, EMPTY).await?,
    };
    context.reader.show(&answer.raw, |_| {
        let name = clean(&answer.value.name);
        match &to {
            Some((other, to)) => {
                format!("127.0.0.1:{port} in {name} leads to port {to} of {}\n", clean(other))
            }
            None => format!("127.0.0.1:{port} in {name} leads nowhere\n"),
        }
    })
}
