//! `knot space exec`: a command in a space that reads, writes and ends like one here.

use super::context::Context;
use super::failure::Failure;
use super::socket::{End, Signals, Socket};
use crate::api::types::exec::{Ended, Open};

/// Runs a command; gives its status.
pub(crate) async fn run(context: &Context, space: &str, open: Open) -> Result<u8, Failure> {
    let client = context.client()?;
    let socket = Socket::open(&client, space, &open).await?;
    let signals = Signals::to_pass_on()
        .map_err(|error| Failure::local(format!("signals cannot be passed on: {error}")))?;
    match socket.converse(tokio::io::stdin(), signals, |_| ()).await? {
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
