//! `knot space exec`: a command in a space that reads, writes and ends like one here.

use std::io::{self, Write as _};

use super::client::Client;
use super::context::{Context, is_interactive, variable};
use super::failure::Failure;
use super::prompt::RawMode;
use super::socket::{End, Signals, Socket, size};
use super::terminal::RESET;
use super::up::opened;
use crate::api::types::exec::{Ended, Open};

/// Runs a command; gives its status.
pub(crate) async fn run(context: &Context, space: &str, open: Open) -> Result<u8, Failure> {
    let client = context.client()?;
    let socket = connect(context, &client, space, &open).await?;
    let signals = Signals::to_pass_on()
        .map_err(|error| Failure::local(format!("signals cannot be passed on: {error}")))?;
    let end = socket.converse(tokio::io::stdin(), signals, |_| ()).await?;
    tell(&client, space, end)
}

/// Runs a command on this terminal; gives its status. Unlike one that a space keeps, it ends with the
/// connection.
pub(crate) async fn run_on_terminal(
    context: &Context,
    space: &str,
    mut open: Open,
) -> Result<u8, Failure> {
    if !is_interactive() {
        return Err(Failure::usage(
            "standard input and output are no terminal: leave out -t to run the command without one",
        ));
    }
    let client = context.client()?;
    open.terminal = Some(size());
    for name in ["TERM", "COLORTERM"] {
        if let Some(value) = variable(name) {
            open.environment.entry(name.to_owned()).or_insert(value);
        }
    }
    let socket = connect(context, &client, space, &open).await?;
    let failed =
        |error: io::Error| Failure::local(format!("this terminal cannot be used: {error}"));
    let signals = Signals::of_terminal().map_err(failed)?;
    let raw = RawMode::enter().map_err(failed)?;
    let end = socket.converse(tokio::io::stdin(), signals, |_| ()).await;
    if !matches!(end, Ok(End::Command(_))) {
        // Nobody is there to see it where this fails.
        let mut out = io::stdout();
        let _ = write!(out, "{RESET}\r\n").and_then(|()| out.flush());
    }
    drop(raw);
    tell(&client, space, end?)
}

/// Has the command begun; a stopped space is started first where its template says so.
async fn connect(
    context: &Context,
    client: &Client,
    space: &str,
    open: &Open,
) -> Result<Socket, Failure> {
    opened(context, client, space, async || Socket::open(client, space, open).await).await
}

fn tell(client: &Client, space: &str, end: End) -> Result<u8, Failure> {
    match end {
        End::Command(ended) => Ok(status(ended)),
        End::Told(number) => Ok(status(Ended::Signal(number))),
        End::Failed(why) => Err(Failure::could_not_run(why)),
        End::Lost(why) => Err(Failure::could_not_run(format!(
            "the connection to {} was lost: {why}; the command may still be running in {space}",
            client.address()
        ))),
    }
}

/// The status that a shell gives to a command that ended like this.
pub(crate) fn status(ended: Ended) -> u8 {
    let status = match ended {
        Ended::Code(code) => code,
        Ended::Signal(number) => 128 + (number & 0x7f),
    };
    status.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_what_a_shell_would_say() {
        assert_eq!(status(Ended::Code(0)), 0);
        assert_eq!(status(Ended::Code(42)), 42);
        assert_eq!(status(Ended::Code(-1)), 255);
        assert_eq!(status(Ended::Signal(15)), 143);
    }
}
