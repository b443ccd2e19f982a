//! Serving a router on a listener, with bounds on what connections may cost and how long they end.

use std::{convert::Infallible, net::SocketAddr, pin::pin, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::Service as _};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The most connections at once. Further ones wait to be taken.
const CONNECTIONS: usize = 4_096;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the headers of a request may take.
const HEADERS: Duration = Duration::from_secs(15);
/// The most bytes of headers, and of those of HTTP/2 once unpacked.
const MAX_HEADERS: usize = 64 << 10;
const MAX_HEADER_LIST: u32 = 64 << 10;
/// How often a quiet HTTP/2 connection is asked whether it lives, and how long the answer may take.
const ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// The most requests at once of one HTTP/2 connection.
const STREAMS: u32 = 128;
/// How much of all bodies of one HTTP/2 connection may wait to be taken, in bytes: as much as four of them
/// may, so that one that nobody takes stops no other.
const WAITING: u32 = 4 << 20;
/// How much of one may.
const WAITING_OF_ONE: u32 = 1 << 20;
/// How long requests may go on once the server is to stop.
const STOPPING: Duration = Duration::from_secs(10);
/// How long to wait after the listener failed, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves plain HTTP until `stop`; returns when the connections have ended, within ten seconds.
///
/// Streams end by the `drain` of their [`App`](super::App), which is to be cancelled first, or
/// together: a balancer needs some time between to see it.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_with(listener, None, router, stop).await;
}

/// As [`serve`], with TLS where there is something to take it with.
pub(crate) async fn serve_with(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &free) => accepted,
        };
        let Some((stream, peer, place)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (router, stop, tls) = (router.clone(), stop.clone(), tls.clone());
        connections.spawn(async move {
            let _place = place;
            let Some(tls) = tls else { return connection(stream, peer, router, stop).await };
            match timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => connection(stream, peer, router, stop).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(free).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Keys pressed in a terminal are small and not to wait for each other.
            stream.set_nodelay(true).ok();
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be taken");
            None
        }
    }
}

async fn connection<S>(stream: S, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let inner = TowerToHyperService::new(router);
    let asked = CancellationToken::new();
    let asks = asked.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        asks.cancel();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = inner.call(request);
        async move { answer.await.map_err(|never: Infallible| never) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ALIVE.0)
        .keep_alive_timeout(ALIVE.1)
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(WAITING)
        .initial_stream_window_size(WAITING_OF_ONE)
        .max_header_list_size(MAX_HEADER_LIST);
    let mut served = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = silence(&asked) => return tracing::debug!(%peer, "a connection asked for nothing"),
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            match timeout(STOPPING, served).await {
                Ok(ended) => ended,
                Err(_) => return tracing::warn!(%peer, "a connection was cut off: its request did not end in time"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error, "a connection ended early");
    }
}

/// Ends where a connection's first request does not come in time: hyper's own bound begins with its
/// first bytes.
async fn silence(asked: &CancellationToken) {
    if timeout(HEADERS, asked.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
