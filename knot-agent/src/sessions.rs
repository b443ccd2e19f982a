//! Sessions: what one stream that a server has opened is for, each served until it has ended.
//!
//! What is held for a session is bounded: a few chunks each way, and what QUIC's flow control lets the
//! server send ahead. Whoever is not read waits, and nobody else with it.

pub(crate) mod connect;
mod datagrams;
mod listen;
mod run;
mod sftp;

use std::{sync::Arc, time::Duration};

use knot_core::{
    agent::{Answer, FromAgent, Open, Refusal},
    wire::{self, MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::{RecvStream, SendStream};
use serde::Serialize;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{connect::connect, datagrams::exchange, listen::Listeners};
use crate::{activity::Activity, children::Children, program::Surroundings};

/// The most sessions at a time.
pub const MAX_SESSIONS: usize = 1_000;
/// How long a server may take to say what it opened a stream for.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a last frame may take to reach the server.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// All sessions of this agent.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    surroundings: Surroundings,
    children: Children,
    activity: Activity,
    listeners: Listeners,
    room: Semaphore,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// The server has gone, or has broken the protocol: nobody is there to be told anything.
struct Gone;

impl From<wire::Error> for Gone {
    fn from(error: wire::Error) -> Self {
        tracing::debug!(%error, "session's stream failed");
        Self
    }
}

impl From<std::io::Error> for Gone {
    fn from(error: std::io::Error) -> Self {
        tracing::debug!(%error, "session's stream failed");
        Self
    }
}

/// What a session cannot be.
#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    why: String,
}

impl Sessions {
    /// No sessions yet.
    pub fn new(surroundings: Surroundings, children: Children, activity: Activity) -> Self {
        Self(Arc::new(Shared {
            surroundings,
            children,
            activity,
            listeners: Listeners::default(),
            room: Semaphore::new(MAX_SESSIONS),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        }))
    }

    /// Serves one stream until its session has ended. Returns at once.
    pub fn start(&self, send: SendStream, receive: RecvStream) {
        let shared = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            // Nobody hears it when this fails: the stream is gone.
            let _: Result<(), Gone> = shared.serve(send, receive).await;
        });
    }

    /// Hangs up all sessions and waits for their end, at most `bound`.
    pub async fn end(&self, bound: Duration) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        if timeout(bound, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(sessions = self.0.tasks.len(), "sessions did not end in time");
        }
    }
}

impl Shared {
    async fn serve(&self, send: SendStream, mut receive: RecvStream) -> Result<(), Gone> {
        let room = self.room.try_acquire();
        let opened = timeout(OPEN_TIMEOUT, read_frame::<_, Open>(&mut receive, MAX_AGENT_FRAME));
        let open = match opened.await {
            Ok(Ok(Some(open))) => open,
            Ok(Err(wire::Error::Stream(_)) | Ok(None)) => return Err(Gone),
            // What was asked for is not known, and so not how to refuse it: most ask for commands.
            Ok(Err(error)) => return finish(send, &FromAgent::Failed(error.to_string())).await,
            Err(_) => {
                let reason = "the server did not say in time what to run".to_owned();
                return finish(send, &FromAgent::Failed(reason)).await;
            }
        };
        let Ok(_room) = room else {
            tracing::warn!(limit = MAX_SESSIONS, "session refused");
            let why = format!("{MAX_SESSIONS} sessions are open in this space: close some");
            return match open {
                Open::Run(_) => finish(send, &FromAgent::Failed(why)).await,
                _ => refuse(send, Refused { refusal: Refusal::TooMany, why }).await,
            };
        };
        self.activity.touch();
        match open {
            Open::Run(run) => self.run(&run, send, receive).await,
            Open::Connect(target) => match connect(&target).await {
                Ok(connection) => self.carry(connection, send, receive).await,
                Err(refused) => refuse(send, refused).await,
            },
            Open::Listen { listener, at } => self.listen(listener, at, send, receive).await,
            Open::Take { listener, connection } => {
                match self.listeners.take(listener, connection) {
                    Some(connection) => self.carry(connection, send, receive).await,
                    None => {
                        let why = "the connection is not there any more".to_owned();
                        refuse(send, Refused { refusal: Refusal::NotFound, why }).await
                    }
                }
            }
            Open::Sftp => self.sftp(send, receive).await,
            Open::Datagrams(port) => exchange(port, &self.activity, send, receive).await,
        }
    }
}

/// Tells the server why it gets nothing.
async fn refuse(send: SendStream, refused: Refused) -> Result<(), Gone> {
    let Refused { refusal, why } = refused;
    finish(send, &Answer::Refused { refusal, why }).await
}

/// Sends the first frame of a session that is no command.
async fn answer(send: &mut SendStream, answer: &Answer) -> Result<(), Gone> {
    Ok(write_frame(send, answer, MAX_AGENT_FRAME).await?)
}

/// Sends the last frame and sees it off.
async fn finish(mut send: SendStream, last: &impl Serialize) -> Result<(), Gone> {
    let sent = timeout(LAST_WORDS, write_frame(&mut send, last, MAX_AGENT_FRAME));
    sent.await.map_err(|_| Gone)??;
    send.finish().map_err(|_| Gone)?;
    // An agent that ends at once would otherwise take the frame with it.
    let _ = timeout(LAST_WORDS, send.stopped()).await;
    Ok(())
}
