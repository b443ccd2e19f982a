//! How a server becomes one of the cluster.
//!
//! An invitation is a `Server` document with the key of the invitation in it; the token holds the
//! secret that this key is made from, and the fingerprint of the cluster's authority. So the joining
//! server proves itself in the TLS handshake, and checks the other end there as well.

use std::{
    fmt,
    net::{SocketAddr, UdpSocket},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use quinn::Connection;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    identity::{Identity, Secret},
    keys::{self, Authority, KeyPair, PublicKey},
    peer::CLOSE_REFUSED,
    service::{self, Shared, server_addresses},
    socket::Socket,
    tls::{self, Accept},
};
use crate::{
    agent::ServerAddress,
    id::{Author, Id, ServerId},
    model::{DataKey, Server},
    replica::{Committed, DurableError, EditError, Replica, Token},
    secrets::{SealingKey, SealingKeyPair},
    wire::{self, MAX_PEER_FRAME, MAX_STRANGER_FRAME},
};

/// The ALPN protocol name of an invitee's connection.
pub const ALPN: &[u8] = b"knot-join/1";

/// What a token begins with.
const PREFIX: &str = "knot1.";
/// How long each step of a join may take.
const STEP: Duration = Duration::from_secs(10);
/// How long another server may take to hold a newcomer's document, before it is left to the newcomer.
const ELSEWHERE: Duration = Duration::from_secs(3);

/// What a server needs to join a cluster. A secret: whoever holds it may join once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    authority: [u8; 32],
    server: Uuid,
    secret: Secret,
}

impl JoinToken {
    /// The document that its holder may fill in.
    pub(super) fn server(&self) -> Id<Server> {
        Id::from_uuid(self.server)
    }
}

/// The text is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no join token: `knot-server token`, run on a server of the cluster, prints one")]
pub struct ParseError;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = wire::encode(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.server)
    }
}

impl FromStr for JoinToken {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(ParseError)?;
        if encoded.len() > MAX_STRANGER_FRAME {
            return Err(ParseError);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| ParseError)?;
        wire::decode(&bytes).map_err(|_| ParseError)
    }
}

/// How the joining server introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newcomer {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Where its peers will reach it.
    pub quic: String,
    /// Where people will reach it.
    pub http: String,
}

#[derive(Serialize, Deserialize)]
struct Request {
    key: PublicKey,
    sealing: SealingKey,
    newcomer: Newcomer,
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Admitted(Box<Admission>),
    Refused(String),
}

#[derive(Serialize, Deserialize)]
struct Admission {
    cluster: Uuid,
    authority_key: String,
    authority_certificate: Vec<u8>,
    /// The server that admitted: the first peer.
    host: ServerAddress,
    /// The newcomer's document, and the data keys that were wrapped for it.
    token: Token,
}

/// What a newcomer has been given.
#[derive(Debug)]
pub struct Joined {
    /// Who it is from now on.
    pub identity: Identity,
    /// Its first peer.
    pub host: ServerAddress,
    /// To wait for: the newcomer's own document, and the data keys for it. Once it holds them, two
    /// servers do.
    pub token: Token,
}

/// A join did not happen. The cluster may have an invitation less, and nothing else has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server answers at the address.
    #[error("no knot server answers at {0}: check the address (UDP) and that the server runs")]
    NoAnswer(SocketAddr),
    /// The server does not accept the token, or is not of the token's cluster.
    #[error(
        "{address} refused the token: it was used, taken back, or is of another cluster ({reason})"
    )]
    NotAccepted {
        /// The address that was dialled.
        address: SocketAddr,
        /// What the connection ended with.
        reason: String,
    },
    /// The server refused the newcomer, and says why.
    #[error("the cluster refused this server: {0}")]
    Refused(String),
    /// The server's answer makes no sense.
    #[error("{0} gave an answer that this version does not understand")]
    Answer(SocketAddr),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// The network could not be set up.
    #[error(transparent)]
    Net(#[from] service::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Makes an invitation: a `Server` document that one server may fill in. The name is for people,
/// until the server that joins gives its own.
///
/// # Errors
/// The document could not be written.
pub async fn invite(
    replica: &Replica,
    identity: &Identity,
    name: String,
    author: Author,
) -> Result<JoinToken, EditError> {
    let secret = Secret(rand::random());
    let invitation = KeyPair::from_seed(&secret.0)
        .map_err(|error| EditError::Refused(error.to_string()))?
        .public();
    let created = replica
        .create::<Server, _>(author, move |server| {
            server.set(Server::name, name);
            server.set(Server::invitation, Some(invitation));
            Ok(())
        })
        .await?;
    let authority = tls::fingerprint(identity.authority.certificate());
    Ok(JoinToken { authority, server: created.id.uuid(), secret })
}

/// Joins the cluster of a token through the server at `address`.
///
/// # Errors
/// See [`Error`].
pub async fn join(
    address: SocketAddr,
    token: &JoinToken,
    newcomer: Newcomer,
) -> Result<Joined, Error> {
    let key = Arc::new(KeyPair::generate()?);
    let sealing = Arc::new(SealingKeyPair::generate());
    let invitation = KeyPair::from_seed(&token.secret.0)?;
    let chain = vec![invitation.self_signed("invitee")?];
    let accept = Accept::SignedBy(token.authority);
    let config = tls::client_config(&invitation, chain, accept, ALPN)?;
    let any: SocketAddr = if address.is_ipv4() {
        SocketAddr::from(([0, 0, 0, 0], 0))
    } else {
        SocketAddr::from(([0_u16; 8], 0))
    };
    let socket =
        UdpSocket::bind(any).map_err(|source| service::Error::Listen { address: any, source })?;
    let endpoint = Socket::from(socket).endpoint(None)?;
    let connecting =
        endpoint.connect_with(config, address, "knot").map_err(|_| Error::NoAnswer(address))?;
    let connection = match timeout(STEP, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(not_accepted(address, error)),
        Err(_) => return Err(Error::NoAnswer(address)),
    };
    let request = Request { key: key.public(), sealing: sealing.public(), newcomer };
    let admission = match timeout(STEP, ask(&connection, &request)).await {
        Ok(Some(Reply::Admitted(admission))) => *admission,
        Ok(Some(Reply::Refused(why))) => return Err(Error::Refused(why)),
        Ok(None) => {
            return Err(match connection.close_reason() {
                Some(error) => not_accepted(address, error),
                None => Error::Answer(address),
            });
        }
        Err(_) => return Err(Error::NoAnswer(address)),
    };
    endpoint.close(0_u32.into(), b"done");
    timeout(Duration::from_secs(1), endpoint.wait_idle()).await.ok();
    let authority_key = KeyPair::from_base64(&admission.authority_key)?;
    let certificate = CertificateDer::from(admission.authority_certificate);
    Ok(Joined {
        identity: Identity {
            cluster: admission.cluster,
            server: ServerId(token.server),
            key,
            next: None,
            sealing,
            authority: Authority::from_parts(authority_key, certificate),
        },
        host: admission.host,
        token: admission.token,
    })
}

fn not_accepted(address: SocketAddr, error: quinn::ConnectionError) -> Error {
    match error {
        quinn::ConnectionError::TimedOut => Error::NoAnswer(address),
        error => Error::NotAccepted { address, reason: error.to_string() },
    }
}

async fn ask(connection: &Connection, request: &Request) -> Option<Reply> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    wire::write_frame(&mut send, request, MAX_STRANGER_FRAME).await.ok()?;
    wire::read_frame(&mut receive, MAX_PEER_FRAME).await.ok()?
}

/// Serves an invitee: one request, one answer.
pub(super) async fn admit(shared: &Shared, connection: &Connection, id: ServerId) {
    let served = async {
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let request: Request = wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await.ok()??;
        let reply = match fill_in(shared, id, request).await {
            Ok(admission) => Reply::Admitted(Box::new(admission)),
            Err(why) => Reply::Refused(why),
        };
        wire::write_frame(&mut send, &reply, MAX_PEER_FRAME).await.ok()?;
        send.finish().ok()?;
        connection.closed().await;
        Some(())
    };
    if timeout(STEP, served).await.is_err() {
        connection.close(CLOSE_REFUSED, b"too slow");
    }
}

async fn fill_in(shared: &Shared, id: ServerId, request: Request) -> Result<Admission, String> {
    let Request { key, sealing, newcomer } = request;
    let replica = &shared.replica;
    let taken = replica
        .list::<Server>()
        .into_iter()
        .any(|server| server.key.is_some() && server.name == newcomer.name);
    if taken {
        return Err(format!(
            "a server called {} belongs already: choose another name",
            newcomer.name
        ));
    }
    let author = Author::Server(shared.identity.server);
    let id = Id::<Server>::from_uuid(id.0);
    let name = newcomer.name.clone();
    let committed = replica
        .edit(id, author, move |server| {
            if server.key.is_some_and(|other| other != key) {
                return Err(EditError::Refused("another server has used this token".to_owned()));
            }
            server.set(Server::key, Some(key));
            server.put(Server::sealing, &key, sealing);
            server.set(Server::name, newcomer.name);
            server.set(Server::zone, newcomer.zone);
            server.set(Server::quic, newcomer.quic);
            server.set(Server::http, newcomer.http);
            Ok(())
        })
        .await
        .map_err(|error| error.to_string())?;
    tracing::info!(server = name, id = %id, "a server joins");
    let shared_keys = shared.keyring.share(author).await;
    let mut token = shared_keys.map_err(|error| error.to_string())?;
    held_by_another(replica, &committed, &token).await;
    token.extend(&committed.token());
    let me = shared.identity.server.0;
    let host = server_addresses(replica).await.into_iter().find(|server| server.id == me);
    let identity: &Arc<Identity> = &shared.identity;
    Ok(Admission {
        cluster: identity.cluster,
        authority_key: identity.authority.key().to_base64(),
        authority_certificate: identity.authority.certificate().to_vec(),
        host: host.ok_or("the server that was asked has no address that resolves")?,
        token,
    })
}

/// Waits until one more server holds a newcomer's document and the data keys for it, where one is
/// linked: so that it belongs though this server's disk dies at once. Where none is, the newcomer
/// itself is the second: it waits for them before it takes the join as done.
async fn held_by_another(replica: &Replica, newcomer: &Committed<Server>, keys: &Token) {
    let held = async {
        replica.durable_on(newcomer, 2, ELSEWHERE).await?;
        for (doc, heads) in keys.entries() {
            let key = Committed { id: Id::<DataKey>::from_uuid(doc.uuid), heads: heads.to_vec() };
            replica.durable_on(&key, 2, ELSEWHERE).await?;
        }
        Ok::<_, DurableError>(())
    };
    match timeout(ELSEWHERE, held).await {
        Ok(Ok(()) | Err(DurableError::TooFew { .. })) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a server that joins is not known elsewhere yet"),
        Err(_) => tracing::warn!("the keys of a server that joins are not known elsewhere yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_written_down() {
        let token = JoinToken { authority: [1; 32], server: Uuid::max(), secret: Secret([2; 32]) };
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token));
        for text in ["", "knot1.", "knot1.!!!", &text[1..], &text[..text.len() - 4]] {
            assert_eq!(text.parse::<JoinToken>(), Err(ParseError), "{text}");
        }
    }
}
