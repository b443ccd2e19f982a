//! One link: an agent's connection to one server, from the dial to its end.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use knot_core::{
    agent::{ALPN, DEFAULT_LINKS, Hello, Report, ServerAddress, Watching, Welcome},
    net::{
        KeyPair, PublicKey, keys,
        tls::{self, Accept, Verdict, client_config},
        udp,
    },
    wire::{self, MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::{Endpoint, TokioRuntime, VarInt};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{forwards::Uplinks, sessions::Sessions};

/// How long a server may take from the dial to its welcome.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// The name in the TLS handshake, which nobody looks at: keys are judged, not names.
pub(crate) const SERVER_NAME: &str = "knot";

/// A link ended, or never began.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The agent's certificate could not be made.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The address cannot be dialled from here.
    #[error("the server cannot be dialled: {0}")]
    Dial(#[from] quinn::ConnectError),
    /// The connection was refused or lost.
    #[error("the connection ended: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// The first stream failed.
    #[error("the first stream failed: {0}")]
    Stream(#[from] wire::Error),
    /// The server has ended the first stream.
    #[error("the server has let go of this agent")]
    LetGo,
    /// No welcome came.
    #[error("the server did not answer within {} s", WELCOME_TIMEOUT.as_secs())]
    Silent,
}

/// What a link tells the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server with this id and key has welcomed the agent.
    Linked(Uuid, PublicKey),
    /// So many links are wanted.
    Wanted(usize),
    /// The server with this id is about to go.
    Leaving(Uuid),
    /// The server with this id has sent a list of servers.
    Listed(Uuid, Vec<ServerAddress>),
}

/// What all links of an agent have in common.
#[derive(Debug)]
pub struct Dialler {
    /// The agent's key.
    pub key: KeyPair,
    /// What it says first.
    pub hello: Hello,
    /// The socket that it dials from.
    pub endpoint: Endpoint,
    /// Where streams become sessions.
    pub sessions: Sessions,
    /// Where events go.
    pub events: mpsc::Sender<Event>,
    /// What is reported to servers.
    pub reports: watch::Receiver<Report>,
    /// Where connections that lead out of the space find a server.
    pub uplinks: Uplinks,
    /// Where goes what servers want looked at.
    pub watching: watch::Sender<Watching>,
}

/// A connection that is closed when it is let go of. Its sessions' streams would otherwise keep it.
pub(crate) struct Connected(pub(crate) quinn::Connection);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(0), b"");
    }
}

/// A socket to dial from: for both families, or IPv4 alone where the space has no IPv6.
pub fn endpoint() -> io::Result<Endpoint> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let one = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let socket = udp(both).or_else(|_| udp(one))?;
    Endpoint::new(tls::endpoint(), None, socket, Arc::new(TokioRuntime))
}

impl Dialler {
    /// Dials `server` and serves it until the link ends, or `close` is cancelled.
    pub async fn link(
        &self,
        server: &ServerAddress,
        close: &CancellationToken,
    ) -> Result<(), Error> {
        tokio::select! {
            ended = self.dial_and_serve(server) => ended,
            () = close.cancelled() => Ok(()),
        }
    }

    async fn dial_and_serve(&self, server: &ServerAddress) -> Result<(), Error> {
        let greeting = timeout(WELCOME_TIMEOUT, self.greet(server));
        let (connection, mut send, mut receive, key, leaving) =
            greeting.await.map_err(|_| Error::Silent)??;
        tracing::info!(server = %server.id, address = %server.address, zone = server.zone, "linked");
        self.tell(Event::Linked(server.id, key)).await;
        if leaving {
            self.tell(Event::Leaving(server.id)).await;
        }
        let _up = self.uplinks.add(server.id, connection.0.clone());
        let welcomes = async {
            while let Some(welcome) =
                read_frame::<_, Welcome>(&mut receive, MAX_AGENT_FRAME).await?
            {
                self.watch(welcome.watch).await;
                self.tell(Event::Listed(server.id, welcome.servers)).await;
                if welcome.leaving {
                    self.tell(Event::Leaving(server.id)).await;
                }
            }
            Err(Error::LetGo)
        };
        let mut reports = self.reports.clone();
        reports.mark_changed();
        let reports = async {
            while reports.changed().await.is_ok() {
                let report = reports.borrow_and_update().clone();
                write_frame(&mut send, &report, MAX_AGENT_FRAME).await?;
            }
            Err(Error::LetGo)
        };
        let streams = async {
            loop {
                let (send, receive) = connection.0.accept_bi().await?;
                self.sessions.start(send, receive);
            }
        };
        let ended = tokio::select! {
            ended = welcomes => ended,
            ended = streams => ended,
            ended = reports => ended,
        };
        // To let go of the first stream earlier would be to finish it.
        drop(send);
        match connection.0.close_reason() {
            Some(reason) => Err(reason.into()),
            None => ended,
        }
    }

    /// Connects and is welcomed: before that the server may not have judged this agent at all.
    async fn greet(
        &self,
        server: &ServerAddress,
    ) -> Result<(Connected, quinn::SendStream, quinn::RecvStream, PublicKey, bool), Error> {
        let chain = vec![self.key.self_signed(SERVER_NAME)?];
        let accepted = Arc::new(OnceLock::new());
        let (known, seen) = (server.keys.clone(), Arc::clone(&accepted));
        let judge = Arc::new(move |key: &PublicKey| {
            let listed = known.contains(key);
            let is_known = listed && (seen.set(*key).is_ok() || seen.get() == Some(key));
            if is_known { Verdict::Known } else { Verdict::Unknown }
        });
        let config = client_config(&self.key, chain, Accept::Known(judge), ALPN)?;
        let connecting = self.endpoint.connect_with(config, server.address, SERVER_NAME)?;
        let connection = Connected(connecting.await?);
        let (mut send, mut receive) = connection.0.open_bi().await?;
        write_frame(&mut send, &self.hello, MAX_AGENT_FRAME).await?;
        let welcome = read_frame::<_, Welcome>(&mut receive, MAX_AGENT_FRAME).await;
        // The connection's end says more about a refusal than the stream's.
        let welcome = match (welcome, connection.0.close_reason()) {
            (Ok(Some(welcome)), _) => welcome,
            (_, Some(reason)) => return Err(reason.into()),
            (Ok(None), None) => return Err(Error::LetGo),
            (Err(error), None) => return Err(error.into()),
        };
        let key = accepted.get().copied().ok_or(Error::LetGo)?;
        self.watch(welcome.watch).await;
        self.tell(Event::Listed(server.id, welcome.servers)).await;
        Ok((connection, send, receive, key, welcome.leaving))
    }

    async fn watch(&self, wanted: Watching) {
        let links = wanted.links.and_then(|count| usize::try_from(count).ok());
        self.tell(Event::Wanted(links.unwrap_or(DEFAULT_LINKS))).await;
        self.watching.send_if_modified(|watching| {
            let changed = *watching != wanted;
            *watching = wanted;
            changed
        });
    }

    async fn tell(&self, event: Event) {
        // Nobody takes events any more when the agent is ending.
        let _ = self.events.send(event).await;
    }
}
