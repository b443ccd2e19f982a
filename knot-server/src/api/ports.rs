//! Ports of spaces: who may open them, connections to them, and what leads from one space to another.

#![allow(unused_qualifications, reason = "of what utoipa makes of a handler with a query")]

pub(super) mod bridge;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use knot_core::{
    agent::{Open, Refusal, Target},
    model::{self, PortAccess, Protocol},
    names::For,
    replica::Doc,
};
use serde::Deserialize;
use utoipa::IntoParams;

use self::bridge::{Bridge, Kind};
use super::{
    app::{App, ReachError},
    body::Body,
    caller::{Asked, Caller, Key},
    causality::{Answer, of_read},
    exec::Upgrade,
    permit::{self, Use},
    problem::{Code, Problem},
    spaces::change,
    types::{
        Space,
        ports::{Access, Port, Ports, SetForward, SharePort},
    },
    world::{World, user_name},
};
use crate::{
    access::{self, TurnedOff},
    ports::{
        address::PortName,
        resolve::{Rules, access_of, reaches},
    },
};

/// How many ports of a space are shared or lead to others at most.
const ENTRIES: usize = 200;

type Shown = Result<Answer<(StatusCode, Json<Space>)>, Problem>;

/// Lists a space's ports, who may open them over HTTP, and where.
#[utoipa::path(
    get, path = "/spaces/{space}/ports", tag = "ports", responses((status = 200, body = Ports)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<Json<Ports>>, Problem> {
    let space = World::new(&app).find(&caller, &key, For::Reading)?;
    Ok(caller.answer(Json(of_space(&app, &space).await), &of_read(&space)))
}

/// The ports of a space, for whoever may see it.
pub(super) async fn of_space(app: &App, space: &Doc<model::Space>) -> Ports {
    let rules = Rules::of(&app.replica, space).await;
    let (rules, open) = match rules {
        Ok(rules) => (rules, true),
        Err(TurnedOff(_)) => (Rules::default(), false),
    };
    let name = World::new(app).space_name(space);
    let owner = user_name(app, space.owner);
    let url = |number: u16| app.ports()?.url_of(number, space.id(), &name, &owner);
    let shown = |number: u16, name: Option<&String>, protocol: Protocol| Port {
        number,
        name: name.cloned(),
        protocol: protocol.to_string(),
        access: shown_access(access_of(space, number)),
        url: url(number).filter(|_| {
            open && protocol != Protocol::Udp
                && rules.over_http(&PortName::Number(number)).is_some()
        }),
    };
    let declared = rules.declared();
    let mut ports: Vec<_> =
        declared.iter().map(|(name, port)| shown(port.number, Some(name), port.protocol)).collect();
    let others = space.port_access.keys().filter_map(|number| number.parse().ok());
    let is_declared = |number: u16| {
        declared.values().any(|port| port.number == number && port.protocol != Protocol::Udp)
    };
    ports.extend(
        others
            .filter(|number| !is_declared(*number))
            .map(|number| shown(number, None, Protocol::Http)),
    );
    ports.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    let any = app.ports().filter(|_| open && rules.any());
    let any_url = any.and_then(|settings| settings.url_of_any(space.id(), &name, &owner));
    Ports { ports, any_port: rules.any(), any_url }
}

fn shown_access(access: PortAccess) -> Access {
    match access {
        PortAccess::Owner => Access::Owner,
        PortAccess::SignedIn => Access::SignedIn,
        PortAccess::Public => Access::Public,
    }
}

/// Says who may open a port of a space over HTTP.
#[utoipa::path(
    put, path = "/spaces/{space}/ports/{port}", tag = "ports", request_body = SharePort,
    responses((status = 200, body = Space)),
    params(
        ("space" = String, Path, description = "Its name or id."),
        ("port" = u16, Path, description = "The port's number, or its name in the template.")
    )
)]
pub(super) async fn share(
    State(app): State<App>,
    caller: Caller,
    Key((key, port)): Key<(String, String)>,
    Body(SharePort { access }): Body<SharePort>,
) -> Shown {
    let space = World::new(&app).find_to(&caller, &key, Use::Share)?;
    let rules = Rules::of(&app.replica, &space).await.map_err(off)?;
    let opened = PortName::parse(&port).and_then(|port| rules.over_http(&port));
    let number = opened.ok_or_else(|| closed(&port))?.number.to_string();
    if !space.port_access.contains_key(&number) && space.port_access.len() >= ENTRIES {
        return Err(too_many());
    }
    let access = match access {
        Access::Owner => PortAccess::Owner,
        Access::SignedIn => PortAccess::SignedIn,
        Access::Public => PortAccess::Public,
    };
    set_access(&app, &caller, &space, number, access).await
}

/// Has a port opened over HTTP by the space's users only, whatever was said elsewhere meanwhile.
#[utoipa::path(
    delete, path = "/spaces/{space}/ports/{port}", tag = "ports",
    responses((status = 200, body = Space)),
    params(
        ("space" = String, Path, description = "Its name or id."),
        ("port" = u16, Path, description = "The port's number, or its name in the template.")
    )
)]
pub(super) async fn unshare(
    State(app): State<App>,
    caller: Caller,
    Key((key, port)): Key<(String, String)>,
) -> Shown {
    let space = World::new(&app).find_to(&caller, &key, Use::Share)?;
    // What the template opens no more is closed by its number.
    let number = match PortName::parse(&port) {
        Some(PortName::Number(number)) => Some(number),
        Some(name) => Rules::of(&app.replica, &space)
            .await
            .map_err(off)?
            .over_http(&name)
            .map(|one| one.number),
        None => None,
    };
    let number = number.ok_or_else(|| closed(&port))?.to_string();
    set_access(&app, &caller, &space, number, PortAccess::Owner).await
}

async fn set_access(
    app: &App,
    caller: &Caller,
    space: &Doc<model::Space>,
    number: String,
    access: PortAccess,
) -> Shown {
    let said = number.clone();
    let shown = change(app, caller, space, move |edit| match access {
        // To take it away beats what anybody else says at the same time.
        PortAccess::Owner => edit.take(model::Space::port_access, &number),
        access => edit.put(model::Space::port_access, &number, access),
    })
    .await?;
    tracing::info!(space = %space.id(), port = said, %access, by = %caller.user, "port shared");
    Ok(shown)
}

/// Has a port of a space lead to a port of another one of the same owner's, or one shared with them.
#[utoipa::path(
    put, path = "/spaces/{space}/forwards/{port}", tag = "ports", request_body = SetForward,
    responses((status = 200, body = Space)),
    params(
        ("space" = String, Path, description = "Its name or id."),
        ("port" = u16, Path, description = "Where it is to listen in the space, on loopback.")
    )
)]
pub(super) async fn forward(
    State(app): State<App>,
    caller: Caller,
    Key((key, port)): Key<(String, String)>,
    Body(wanted): Body<SetForward>,
) -> Shown {
    let number = read_number(&port)?;
    let world = World::new(&app);
    let space = world.find_to(&caller, &key, Use::Edit)?;
    let other = world.find(&caller, &wanted.space, For::Using)?;
    if wanted.port == 0 {
        return Err(Problem::new(Code::InvalidValue, "a port is a number from 1 to 65535"));
    }
    if !reaches(&space, &other) {
        let (name, other) = (world.space_name(&space), world.space_name(&other));
        return Err(Problem::new(
            Code::Forbidden,
            format!("the owner of {name} may not use {other}: its owner shares it with them first"),
        ));
    }
    if !space.forwards.contains_key(&number.to_string()) && space.forwards.len() >= ENTRIES {
        return Err(too_many());
    }
    let to = model::Forward { space: other.id(), port: wanted.port };
    change(&app, &caller, &space, move |edit| {
        edit.put(model::Space::forwards, &number.to_string(), to);
    })
    .await
}

/// Has a port of a space lead to no other any more.
#[utoipa::path(
    delete, path = "/spaces/{space}/forwards/{port}", tag = "ports",
    responses((status = 200, body = Space)),
    params(
        ("space" = String, Path, description = "Its name or id."),
        ("port" = u16, Path, description = "Where it listens in the space.")
    )
)]
pub(super) async fn unforward(
    State(app): State<App>,
    caller: Caller,
    Key((key, port)): Key<(String, String)>,
) -> Shown {
    let number = read_number(&port)?;
    let space = World::new(&app).find_to(&caller, &key, Use::Edit)?;
    change(&app, &caller, &space, move |edit| {
        edit.take(model::Space::forwards, &number.to_string());
    })
    .await
}

/// Which port.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Its number.
    port: u16,
}

/// Opens a connection to a port of a space: a WebSocket.
///
/// Binary messages are bytes, each way. The text message `end` says that no more come from its sender.
#[utoipa::path(
    get, path = "/spaces/{space}/connect", tag = "ports", responses((status = 101)),
    params(Which, ("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn connect(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Asked(Which { port }): Asked<Which>,
    Upgrade(upgrade): Upgrade,
) -> Result<Response, Problem> {
    let space = forwardable(&app, &caller, &key, port, false).await?;
    let target = Target::Tcp { host: "localhost".to_owned(), port };
    let opened = access::ready(&*app.reach, space.id(), &Open::Connect(target)).await;
    let (reader, writer, _) = opened.map_err(refused)?;
    let bridge = Bridge { app, caller, space: space.id(), kind: Kind::Bytes };
    Ok(bridge.answer(upgrade, reader, writer))
}

/// Exchanges datagrams with a UDP port of a space: a WebSocket, each binary message one datagram.
#[utoipa::path(
    get, path = "/spaces/{space}/datagrams", tag = "ports", responses((status = 101)),
    params(Which, ("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn datagrams(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Asked(Which { port }): Asked<Which>,
    Upgrade(upgrade): Upgrade,
) -> Result<Response, Problem> {
    let space = forwardable(&app, &caller, &key, port, true).await?;
    let opened = access::ready(&*app.reach, space.id(), &Open::Datagrams(port)).await;
    let (reader, writer, _) = opened.map_err(refused)?;
    let bridge = Bridge { app, caller, space: space.id(), kind: Kind::Datagrams };
    Ok(bridge.answer(upgrade, reader, writer))
}

/// The space, if the caller may have this port of it forwarded.
async fn forwardable(
    app: &App,
    caller: &Caller,
    key: &str,
    port: u16,
    udp: bool,
) -> Result<Doc<model::Space>, Problem> {
    let space = World::new(app).find(caller, key, For::Using)?;
    debug_assert!(permit::space(caller, &space), "only what a caller may use is found");
    app.stays()?;
    let rules = Rules::of(&app.replica, &space).await.map_err(off)?;
    match port > 0 && rules.forwarded(port, udp) {
        true => Ok(space),
        false => Err(closed(&port.to_string())),
    }
}

pub(super) fn refused(error: access::Error) -> Problem {
    let code = match &error {
        access::Error::Reach(ReachError::NotRunning) => Code::NotRunning,
        access::Error::Reach(_) => Code::NoAgent,
        access::Error::Refused { refusal: Refusal::NotListening, .. } => Code::NotListening,
        access::Error::Refused { refusal: Refusal::TooMany, .. } => Code::Busy,
        access::Error::Refused { .. } => Code::NoAnswer,
    };
    Problem::new(code, error.to_string())
}

fn off(off: TurnedOff) -> Problem {
    Problem::new(Code::PortClosed, off.to_string())
}

fn closed(port: &str) -> Problem {
    let port: String = port.chars().take(80).collect();
    Problem::new(
        Code::PortClosed,
        format!(
            "the space's template does not open port {port}: an admin adds it to `ports`, or says \
             `any_port: true`"
        ),
    )
}

fn too_many() -> Problem {
    Problem::new(Code::InvalidValue, format!("at most {ENTRIES} are kept: take some away"))
}

fn read_number(text: &str) -> Result<u16, Problem> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Problem::new(Code::InvalidValue, "a port is a number from 1 to 65535"))
}
