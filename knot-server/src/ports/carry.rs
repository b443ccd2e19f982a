//! A request carried to a space, and its answer back, as it comes: neither is ever held whole.

use std::time::Duration;

use axum::{
    body::Body,
    http::{
        HeaderValue, Method, Request, StatusCode, Uri,
        header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
        request::Parts,
    },
    response::Response,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use knot_core::{agent::Refusal, model, replica::Changed, schema::Entity as _};
use tokio::{
    io::copy_bidirectional_with_sizes,
    sync::OwnedSemaphorePermit,
    time::{interval, timeout},
};

use super::{
    address::PortName,
    headers::{self, From},
    pages::Said,
    pool::{self, Line, Pool},
    resolve::{Rules, access_of, may_open},
    start::{self, sentence, with_page},
    visit::Meant,
    watched::{Counted, Guarded, Meter, Metered},
};
use crate::{
    access,
    api::{App, Caller, Code, ReachError, World, auth::ports::Door},
};

/// For how many minutes nothing of a request may move before its answer begins.
const SILENT_MINUTES: u32 = 5;
/// For how many minutes nothing may move once an answer has begun.
const STILL_MINUTES: u32 = 60;
/// How long both sides of an upgrade may take to give up HTTP.
const SWITCHING: Duration = Duration::from_secs(10);
/// How often it is looked whether a port is still open to whoever has a stream of it: some sessions
/// end by the clock alone.
const LOOK: Duration = Duration::from_secs(15);
/// An answer up to this length, in bytes, is over before anybody could be let out.
const SHORT: u64 = 1 << 20;
/// How much of an upgraded connection is on its way in this server, in bytes each way.
const BUFFER: usize = 64 << 10;

/// Whose request is carried where.
pub(super) struct Carried<'a> {
    pub(super) app: &'a App,
    pub(super) pool: &'a Pool,
    pub(super) meant: &'a Meant,
    pub(super) caller: Option<Caller>,
    /// Whether it may start a space that is stopped.
    pub(super) opens: bool,
    /// Whether the answer is shown as a page of no origin.
    pub(super) sandboxed: bool,
}

/// Carries one request. `room` is held until the answer has gone.
pub(super) async fn carry(
    carried: Carried<'_>,
    from: &From<'_>,
    uri: Uri,
    (mut parts, body): (Parts, Body),
    room: OwnedSemaphorePermit,
) -> Result<Response, Said> {
    let Carried { app, pool, meant, caller, opens, sandboxed } = carried;
    if parts.method == Method::CONNECT {
        let detail = "A port takes no CONNECT: `knot port-forward` opens connections of all kinds.";
        return Err(Said::new(Code::MethodNotAllowed, "Not this way", detail));
    }
    let on_client = parts.extensions.remove::<OnUpgrade>();
    let on_client = headers::to_space(&mut parts.headers, from).and(on_client);
    if on_client.is_none() {
        parts.headers.remove(CONNECTION);
        parts.headers.remove(UPGRADE);
    }
    let meter = Meter::default();
    let mut request = Request::new(Counted::new(body, meter.clone()));
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = parts.headers;
    // Of a body without a length hyper sends nothing with these methods that mostly have none.
    if !request.body().is_end_stream()
        && request.body().size_hint().exact().is_none()
        && !request.headers().contains_key(CONTENT_LENGTH)
    {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let visitor = caller.as_ref().map(|caller| caller.user);
    let line = Line { door: meant.door(), tls: meant.port.tls, visitor };
    let mut over = over(app.clone(), caller.clone(), meant.door());
    let answered = tokio::select! {
        answered = pool.send(app, line, request) => answered,
        () = &mut over => return Err(Said::nothing()),
        () = meter.still(SILENT_MINUTES) => {
            let detail = format!("What listens at port {} took the request and did not answer \
                within {SILENT_MINUTES} minutes.", meant.port.number);
            return Err(Said::new(Code::NoAnswer, "No answer", detail));
        }
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(pool::Error::Access(access::Error::Reach(ReachError::NotRunning))) => {
            return Err(start::not_running(app, meant, caller.as_ref(), opens).await);
        }
        Err(error) => return Err(explain(app, meant, &error)),
    };
    headers::to_client(response.headers_mut(), from.prefix);
    if sandboxed {
        headers::sandbox(response.headers_mut());
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(on_client) = on_client else {
            let detail = "What listens there changed the protocol without being asked to.";
            return Err(Said::new(Code::NoAnswer, "No answer", detail));
        };
        let on_space = hyper::upgrade::on(&mut response);
        tokio::spawn(app.sessions.track_future(async move {
            let _room = room;
            tokio::select! {
                () = exchange(on_client, on_space, &meter) => {}
                () = over => {}
                () = meter.still(STILL_MINUTES) => {}
            }
        }));
        return Ok(response.map(|_| Body::empty()));
    }
    if is_short(response.body()) {
        return Ok(response.map(Body::new));
    }
    let over = async move {
        let _room = room;
        over.await;
    };
    Ok(response.map(|body| {
        let still = meter.clone();
        let over = async move {
            tokio::select! {
                () = over => {}
                () = still.still(STILL_MINUTES) => {}
            }
        };
        Body::new(Guarded { body, over: over.boxed(), meter })
    }))
}

fn is_short(body: &Incoming) -> bool {
    body.size_hint().upper().is_some_and(|length| length <= SHORT)
}

async fn exchange(on_client: OnUpgrade, on_space: OnUpgrade, meter: &Meter) {
    let both = timeout(SWITCHING, async { tokio::try_join!(on_client, on_space) }).await;
    let (client, space) = match both {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return tracing::debug!(%error, "an upgrade failed"),
        Err(_) => return tracing::debug!("an upgrade took too long"),
    };
    let mut client = Metered { stream: TokioIo::new(client), meter: meter.clone() };
    let mut space = TokioIo::new(space);
    let copied = copy_bidirectional_with_sizes(&mut client, &mut space, BUFFER, BUFFER).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "an upgraded connection broke");
    }
}

/// Ends when the port is no longer open to whoever asked, or this server goes away.
fn over(app: App, caller: Option<Caller>, door: Door) -> BoxFuture<'static, ()> {
    async move {
        tokio::select! {
            _ = app.leaves() => {}
            () = shut(&app, caller, door) => {}
        }
    }
    .boxed()
}

async fn shut(app: &App, mut caller: Option<Caller>, door: Door) {
    let kinds = [model::Space::KIND, model::Template::KIND, model::User::KIND, model::Token::KIND];
    let mut changes = app.replica.watch(&kinds);
    let mut ticks = interval(LOOK);
    ticks.tick().await;
    loop {
        let mut template = false;
        let is_template = |changed: &Changed| matches!(changed, Changed::Document(doc) if doc.kind == model::Template::KIND);
        tokio::select! {
            _ = ticks.tick() => {}
            changed = changes.next() => {
                template = is_template(&changed);
                while let Some(changed) = changes.try_next() {
                    template |= is_template(&changed);
                }
            }
        }
        let Some(space) = app.replica.get(door.space) else { return };
        if let Some(one) = &mut caller
            && !one.refresh(app)
        {
            return;
        }
        if !may_open(caller.as_ref(), &space, access_of(&space, door.port)) {
            return;
        }
        if template {
            let rules = Rules::of(&app.replica, &space).await;
            let port = PortName::Number(door.port);
            if rules.ok().and_then(|rules| rules.over_http(&port)).is_none() {
                return;
            }
        }
    }
}

/// Why no answer came, and what to do.
fn explain(app: &App, meant: &Meant, error: &pool::Error) -> Said {
    let (space, port) = (&meant.space, meant.port.number);
    let name = World::new(app).space_name(space);
    match error {
        pool::Error::Access(access::Error::Reach(error)) => {
            let title = format!("{name} cannot be reached yet");
            let said = Said::new(Code::NoAgent, title, sentence(&error.to_string()));
            with_page(app, space, said.tried_again())
        }
        pool::Error::Access(access::Error::Refused { refusal: Refusal::NotListening, .. }) => {
            let title = format!("Nothing listens at port {port}");
            let detail = format!(
                "{name} runs, and no program in it answers there yet: start one, and see that it \
                 listens at 127.0.0.1, ::1 or all addresses."
            );
            Said::new(Code::NotListening, title, detail).tried_again()
        }
        pool::Error::Access(access::Error::Refused { refusal: Refusal::TooMany, why }) => {
            Said::new(Code::Busy, "Too much at once", sentence(why)).tried_again()
        }
        pool::Error::Answer(error) if error.is_user() => {
            let detail = "What it carries broke off, or is not what its head says.";
            Said::new(Code::MalformedRequest, "This request cannot be read", detail)
        }
        error => {
            tracing::debug!(space = %space.id(), port, %error, "a port gave no answer");
            let title = format!("No answer from port {port}");
            Said::new(Code::NoAnswer, title, sentence(&error.to_string()))
        }
    }
}
