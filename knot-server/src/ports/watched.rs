//! Bodies and connections that end with what allowed them: who was let in may be let out again while a
//! stream lasts, and one on which nothing moves for an hour is given up.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::interval,
};

/// How often it is looked whether anything has moved.
const LOOK: Duration = Duration::from_secs(60);

/// Counts what moves.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Meter {
    fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Ends when nothing has moved for about `looks` minutes.
    pub(super) async fn still(&self, looks: u32) {
        let (mut seen, mut same) = (self.0.load(Relaxed), 0);
        let mut ticks = interval(LOOK);
        ticks.tick().await;
        while same < looks {
            ticks.tick().await;
            let now = self.0.load(Relaxed);
            same = if now == seen { same + 1 } else { 0 };
            seen = now;
        }
    }
}

/// A request's body that counts what of it has gone.
pub(super) struct Counted {
    body: Body,
    meter: Meter,
}

impl Counted {
    pub(super) fn new(body: Body, meter: Meter) -> Self {
        Self { body, meter }
    }

    /// The same body once more; `None` of one that cannot be had twice.
    pub(super) fn again(&self) -> Option<Self> {
        let meter = self.meter.clone();
        self.body.is_end_stream().then(|| Self { body: Body::empty(), meter })
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.meter.count();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that breaks off, and does not just end, when `over` does.
pub(super) struct Guarded {
    pub(super) body: Incoming,
    pub(super) over: BoxFuture<'static, ()>,
    pub(super) meter: Meter,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.over.as_mut().poll(context).is_ready() {
            let why = io::Error::other("the port is no longer open to whoever asked");
            return Poll::Ready(Some(Err(why)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.meter.count();
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that counts what moves on it.
pub(super) struct Metered<S> {
    pub(super) stream: S,
    pub(super) meter: Meter,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.meter.count();
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.meter.count();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
