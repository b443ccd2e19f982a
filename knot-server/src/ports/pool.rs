//! HTTP/1.1 connections to ports of spaces, over streams to their agents. One that is not in use is kept
//! for the next request for a moment: a page asks for a hundred things at once. It is kept for the same
//! visitor: programs there may go by who began a connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::AUTHORIZATION,
};
use hyper_util::rt::TokioIo;
use knot_core::{
    agent::{Open, Target},
    id::Id,
    model::User,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::watched::Counted;
use crate::{
    access,
    api::{App, auth::ports::Door},
};

/// How long a connection that is not in use is kept: less than programs keep theirs, or requests
/// would be sent to one that is just being closed.
const IDLE: Duration = Duration::from_secs(4);
/// How many connections to one port are kept.
const KEPT: usize = 8;
/// How many are kept in all.
const KEPT_IN_ALL: usize = 512;
/// How long TLS and HTTP may take to begin.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The most headers of an answer.
const HEADERS: usize = 256;
/// The most bytes of them.
const HEADER_BYTES: usize = 256 << 10;

/// A connection could not be had, or broke before an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The space could not be reached.
    #[error(transparent)]
    Access(#[from] access::Error),
    /// What listens there speaks otherwise.
    #[error("what listens there does not speak {0}: {1}")]
    Speech(&'static str, String),
    /// The answer did not come, or was none.
    #[error("what listens there gave no answer: {0}")]
    Answer(#[from] hyper::Error),
}

/// For what a connection is kept: a port, what is spoken there, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) door: Door,
    pub(super) tls: bool,
    /// Who is signed in; all others share theirs.
    pub(super) visitor: Option<Id<User>>,
}

/// Connections that are not in use.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    connections: HashMap<Line, Vec<Connection>>,
    count: usize,
    swept: bool,
}

struct Connection {
    sender: SendRequest<Counted>,
    since: Instant,
}

impl Pool {
    /// Sends a request to a port and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        app: &App,
        line: Line,
        mut request: Request<Counted>,
    ) -> Result<Response<Incoming>, Error> {
        let signs_in = signs_connection_in(&request);
        let mut again = repeated(&request);
        let mut takes_kept = !signs_in;
        loop {
            let (mut sender, kept) = match self.take(line).filter(|_| takes_kept) {
                Some(sender) => (sender, true),
                None => (connect(app, line).await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    if !signs_in {
                        // It is taken again once this answer has been read.
                        self.keep(line, sender);
                    }
                    return Ok(response);
                }
                Err(mut failed) => match failed.take_message().filter(|_| kept) {
                    // One that was kept had been closed: nothing of the request has gone.
                    Some(unsent) => request = unsent,
                    // Or its way is lost, as that of all others that were kept.
                    None => match again.take().filter(|_| kept) {
                        Some(repeated) => (request, takes_kept) = (repeated, false),
                        None => return Err(failed.into_error().into()),
                    },
                },
            }
        }
    }

    fn take(&self, line: Line) -> Option<SendRequest<Counted>> {
        self.with(|kept| {
            kept.sweep();
            let all = kept.connections.get_mut(&line)?;
            let at = all.iter().rposition(|one| one.sender.is_ready())?;
            let found = all.swap_remove(at);
            kept.count = kept.count.saturating_sub(1);
            Some(found.sender)
        })
    }

    fn keep(&self, line: Line, sender: SendRequest<Counted>) {
        let begins = self.with(|kept| {
            kept.sweep();
            let all = kept.connections.entry(line).or_default();
            if all.len() >= KEPT || kept.count >= KEPT_IN_ALL {
                return false;
            }
            all.push(Connection { sender, since: Instant::now() });
            kept.count += 1;
            !std::mem::replace(&mut kept.swept, true)
        });
        if begins {
            let pool = self.clone();
            tokio::spawn(async move {
                loop {
                    sleep(IDLE).await;
                    let over = pool.with(|kept| {
                        kept.sweep();
                        kept.swept = kept.count > 0;
                        !kept.swept
                    });
                    if over {
                        return;
                    }
                }
            });
        }
    }

    fn with<T>(&self, access: impl FnOnce(&mut Kept) -> T) -> T {
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    /// Lets go of what is closed, or was last used too long ago. What still brings an answer stays, and
    /// begins to age when that has come.
    fn sweep(&mut self) {
        let now = Instant::now();
        for all in self.connections.values_mut() {
            all.retain_mut(|one| {
                if !one.sender.is_ready() && !one.sender.is_closed() {
                    one.since = now;
                }
                !one.sender.is_closed() && now.duration_since(one.since) < IDLE
            });
        }
        self.connections.retain(|_, all| !all.is_empty());
        self.count = self.connections.values().map(Vec::len).sum();
    }
}

/// A request that may be taken twice, once more: one that only asks, as browsers do too.
fn repeated(request: &Request<Counted>) -> Option<Request<Counted>> {
    let body = request.body().again().filter(|_| request.method().is_safe())?;
    let mut again = Request::new(body);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// Whether a request signs its whole connection in, as these schemes do.
fn signs_connection_in(request: &Request<Counted>) -> bool {
    let credentials = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme = credentials.and_then(|text| text.split_whitespace().next()).unwrap_or_default();
    ["ntlm", "negotiate"].iter().any(|one| scheme.eq_ignore_ascii_case(one))
}

async fn connect(app: &App, Line { door, tls, .. }: Line) -> Result<SendRequest<Counted>, Error> {
    let target = Target::Tcp { host: "localhost".to_owned(), port: door.port };
    let opened = access::ready(&*app.reach, door.space, &Open::Connect(target)).await?;
    let stream = tokio::io::join(opened.0, opened.1);
    if !tls {
        return begin(stream).await;
    }
    let wrong = |why: String| Error::Speech("TLS", why);
    let connector = TlsConnector::from(Arc::new(any_certificate().map_err(wrong)?));
    let name = ServerName::try_from("localhost").map_err(|error| wrong(error.to_string()))?;
    let shaken = timeout(HANDSHAKE, connector.connect(name, stream)).await;
    let shaken = shaken.map_err(|_| wrong("no handshake in time".to_owned()))?;
    begin(shaken.map_err(|error| wrong(error.to_string()))?).await
}

async fn begin(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Counted>, Error> {
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS).max_buf_size(HEADER_BYTES);
    let shaken = timeout(HANDSHAKE, builder.handshake(TokioIo::new(stream))).await;
    let shaken = shaken.map_err(|_| Error::Speech("HTTP", "no handshake in time".to_owned()))?;
    let (sender, connection) = shaken?;
    // It ends with its sender and the last answer.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a port ended early");
        }
    });
    Ok(sender)
}

/// TLS with whatever certificate is shown: the stream to the agent says who is at its other end.
fn any_certificate() -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Anybody(Arc::clone(&provider)));
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous();
    Ok(builder.with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
