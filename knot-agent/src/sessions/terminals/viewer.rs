//! One viewer's stream: what it types goes in, what the terminal shows comes out.

use std::{convert::Infallible, sync::Arc, time::Instant};

use knot_core::{
    agent::{Answer, Attach, FromTerminal, MAX_VIEWERS, Refusal, ToTerminal},
    wire::{MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::{RecvStream, SendStream};
use uuid::Uuid;

use super::{
    super::{Gone, Refused, Shared, answer, finish, refuse},
    kept::Kept,
    state::{Next, TooMany},
};
use crate::activity::Activity;

/// A viewer with its stream: it is gone when this is.
struct Attachment {
    terminal: Arc<Kept>,
    viewer: Uuid,
    stream: u64,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.terminal.change(|state| state.detach(self.viewer, self.stream));
    }
}

impl Shared {
    /// Shows a terminal to a viewer until the viewer is gone, or the terminal.
    pub(in super::super) async fn attach(
        &self,
        attach: &Attach,
        mut send: SendStream,
        mut receive: RecvStream,
    ) -> Result<(), Gone> {
        let terminal = match self.find_or_make(attach) {
            Ok(terminal) => terminal,
            Err(refused) => return refuse(send, refused).await,
        };
        let attached = terminal.change(|state| state.attach(attach, Instant::now()));
        let (stream, attached) = match attached {
            Ok(attached) => attached,
            Err(TooMany) => {
                let why = format!("{MAX_VIEWERS} look at this terminal: close some");
                return refuse(send, Refused { refusal: Refusal::TooMany, why }).await;
            }
        };
        let attachment = Attachment { terminal, viewer: attach.viewer, stream };
        answer(&mut send, &Answer::Ready).await?;
        write_frame(&mut send, &attached, MAX_AGENT_FRAME).await?;
        let stopped = send.stopped();
        let last = tokio::select! {
            last = attachment.show(&mut send) => last?,
            never = attachment.hear(&mut receive, &self.activity) => match never? {},
            _ = stopped => return Err(Gone),
        };
        finish(send, &last).await
    }
}

impl Attachment {
    /// Sends what there is to see, to the end.
    async fn show(&self, send: &mut SendStream) -> Result<FromTerminal, Gone> {
        let mut changes = self.terminal.changes();
        loop {
            changes.mark_unchanged();
            let next = {
                let mut state = self.terminal.state();
                state.next(self.viewer, self.stream, Instant::now())
            };
            match next {
                Next::Send(frame) => {
                    write_frame(send, &frame, MAX_AGENT_FRAME).await?;
                    if matches!(frame, FromTerminal::Output(_)) {
                        // The terminal may have waited for this viewer.
                        self.terminal.change(|_| ());
                    }
                }
                Next::Finish(last) => return Ok(last),
                Next::Wait => changes.changed().await.map_err(|_| Gone)?,
            }
        }
    }

    /// Takes what the viewer sends, until it is gone.
    async fn hear(
        &self,
        receive: &mut RecvStream,
        activity: &Activity,
    ) -> Result<Infallible, Gone> {
        while let Some(frame) = read_frame(receive, MAX_AGENT_FRAME).await? {
            activity.touch();
            match frame {
                ToTerminal::Resize(size) => {
                    self.terminal.change(|state| state.resize(self.viewer, self.stream, size));
                }
                ToTerminal::Input { offset, bytes } => {
                    // What is taken has a place by then: it is neither lost nor taken twice.
                    let Ok(place) = self.terminal.typing().reserve().await else { continue };
                    let new = self
                        .terminal
                        .change(|state| state.input(self.viewer, self.stream, offset, bytes));
                    match new {
                        Ok(new) if !new.is_empty() => place.send(new),
                        Ok(_) => {}
                        Err(nonsense) => {
                            tracing::debug!(?nonsense, "a viewer's stream ended");
                            return Err(Gone);
                        }
                    }
                }
            }
        }
        Err(Gone)
    }
}
