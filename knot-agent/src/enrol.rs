//! The agent's key: made here, and named to the space's home with a secret that is good once.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use knot_core::{
    agent::{ENROL_ALPN, Enrol, Enrolled, ServerAddress},
    generation::Generation,
    net::{
        KeyPair, PublicKey,
        tls::{Accept, Verdict, client_config},
    },
    wire::{MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::Endpoint;
use rand::RngExt as _;
use tokio::time::{sleep, timeout};

use crate::{
    link::{self, SERVER_NAME},
    links::{FIRST_BACKOFF, MAX_BACKOFF},
};

/// How long one server may take to answer: it may have to ask another.
const PATIENCE: Duration = Duration::from_secs(8);

/// The agent has no key, and will have none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody has used the secret.
    #[error(
        "the secret that this agent was started with has been used before: restart the space, and see who \
         can read the environment of its container"
    )]
    Spent,
    /// No key could be made.
    #[error("no key could be made: {0}")]
    Key(#[source] knot_core::net::keys::Error),
}

/// Makes a key and names it, at whichever server answers, until one has said yes.
pub async fn enrol(
    secret: &KeyPair,
    generation: Generation,
    servers: &[ServerAddress],
    endpoint: &Endpoint,
) -> Result<KeyPair, Error> {
    let key = KeyPair::generate().map_err(Error::Key)?;
    let wanted = Enrol { generation, key: key.public() };
    let (begun, mut wait) = (Instant::now(), FIRST_BACKOFF);
    loop {
        for server in servers {
            let asked = timeout(PATIENCE, ask(secret, wanted, server, endpoint));
            match asked.await.unwrap_or(Err(link::Error::Silent)) {
                Ok(Enrolled::Yes) => {
                    tracing::info!(server = %server.id, took = ?begun.elapsed(), "key named");
                    return Ok(key);
                }
                Ok(Enrolled::Spent) => return Err(Error::Spent),
                Ok(answer) => tracing::info!(server = %server.id, ?answer, "key not taken yet"),
                Err(error) => {
                    let address: SocketAddr = server.address;
                    tracing::warn!(server = %server.id, %address, %error, "key not named");
                }
            }
        }
        let part = rand::rng().random_range(0.5..=1.0);
        sleep(wait.mul_f64(part)).await;
        wait = wait.saturating_mul(2).min(MAX_BACKOFF);
    }
}

async fn ask(
    secret: &KeyPair,
    wanted: Enrol,
    server: &ServerAddress,
    endpoint: &Endpoint,
) -> Result<Enrolled, link::Error> {
    let chain = vec![secret.self_signed(SERVER_NAME)?];
    let known = server.keys.clone();
    let judge = Arc::new(
        move |key: &PublicKey| {
            if known.contains(key) { Verdict::Known } else { Verdict::Unknown }
        },
    );
    let config = client_config(secret, chain, Accept::Known(judge), ENROL_ALPN)?;
    let connection =
        link::Connected(endpoint.connect_with(config, server.address, SERVER_NAME)?.await?);
    let (mut send, mut receive) = connection.0.open_bi().await?;
    write_frame(&mut send, &wanted, MAX_AGENT_FRAME).await?;
    let answer = read_frame(&mut receive, MAX_AGENT_FRAME).await;
    match (answer, connection.0.close_reason()) {
        (Ok(Some(answer)), _) => Ok(answer),
        // The connection's end says more about a refusal than the stream's.
        (_, Some(reason)) => Err(reason.into()),
        (Ok(None), None) => Err(link::Error::LetGo),
        (Err(error), None) => Err(error.into()),
    }
}
