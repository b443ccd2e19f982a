//! Terminals that a space keeps: which there are, their names, their ends; and the WebSocket to one.

pub(super) mod bridge;
mod input;

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use knot_core::{
    agent::{Open, Refusal, TerminalInfo},
    model,
    names::For,
    replica::Doc,
    wire::{self, MAX_AGENT_FRAME},
};
use tokio::time::timeout;
use uuid::Uuid;

use self::bridge::Bridge;
use super::{
    app::{AgentReader, App, ReachError},
    body::Body,
    caller::{Caller, Key},
    exec::Upgrade,
    problem::{Code, Problem},
    types::terminals::{EditTerminal, Terminal, TerminalList, TerminalSize},
    world::World,
};
use crate::access::{self, Feature};

/// How long an agent may take to send its list.
const ANSWER: Duration = Duration::from_secs(10);
/// The largest message that is taken from a client, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// Lists the terminals that a space keeps.
#[utoipa::path(
    get, path = "/spaces/{space}/terminals", tag = "spaces",
    responses((status = 200, body = TerminalList)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Json<TerminalList>, Problem> {
    let space = find(&app, &caller, &key).await?;
    let mut reader = ask(&app, &space, &Open::Terminals).await?;
    let read = timeout(ANSWER, wire::read_frame(&mut reader, MAX_AGENT_FRAME)).await;
    let Ok(Ok(Some(list))) = read else {
        let detail = "the space's agent did not answer: try again";
        return Err(Problem::new(Code::NoAgent, detail));
    };
    let list: Vec<TerminalInfo> = list;
    Ok(Json(TerminalList { terminals: list.into_iter().map(shown).collect() }))
}

/// Gives a terminal another name.
#[utoipa::path(
    patch, path = "/spaces/{space}/terminals/{terminal}", tag = "spaces",
    request_body = EditTerminal, responses((status = 204)),
    params(
        ("space" = String, Path, description = "Its name or id."),
        ("terminal" = Uuid, Path, description = "The terminal's id.")
    )
)]
pub(super) async fn edit(
    State(app): State<App>,
    caller: Caller,
    Key((key, terminal)): Key<(String, Uuid)>,
    Body(edit): Body<EditTerminal>,
) -> Result<StatusCode, Problem> {
    let space = find(&app, &caller, &key).await?;
    ask(&app, &space, &Open::Rename { terminal, name: edit.name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a terminal: hangs up what runs in it.
#[utoipa::path(
    delete, path = "/spaces/{space}/terminals/{terminal}", tag = "spaces",
    responses((status = 204)),
    params(
        ("space" = String, Path, description = "Its name or id."),
        ("terminal" = Uuid, Path, description = "The terminal's id.")
    )
)]
pub(super) async fn end(
    State(app): State<App>,
    caller: Caller,
    Key((key, terminal)): Key<(String, Uuid)>,
) -> Result<StatusCode, Problem> {
    let space = find(&app, &caller, &key).await?;
    ask(&app, &space, &Open::End(terminal)).await?;
    tracing::info!(space = %space.id(), %terminal, user = %caller.user, "terminal ended");
    Ok(StatusCode::NO_CONTENT)
}

/// Shows a terminal, and makes it first where that is asked: a WebSocket.
///
/// The client's first message is text, a `TerminalView`. After it, binary messages are input and text messages are
/// `TerminalClientMessage`s. The server's binary messages are output or a snapshot, its text messages are
/// `TerminalServerMessage`s, and the last of these says why it ends. The terminal lives on.
#[utoipa::path(
    get, path = "/spaces/{space}/terminals/{terminal}", tag = "spaces", responses((status = 101)),
    params(
        ("space" = String, Path, description = "Its name or id."),
        ("terminal" = Uuid, Path, description = "The terminal's id, which whoever makes it chooses at random.")
    )
)]
pub(super) async fn view(
    State(app): State<App>,
    caller: Caller,
    Key((key, terminal)): Key<(String, Uuid)>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let space = World::new(&app).find(&caller, &key, For::Using)?;
    // Of a server that was removed the page is to hear over the connection: it cannot read why one is refused.
    if app.drain.is_cancelled() {
        app.stays()?;
    }
    let sessions = app.sessions.clone();
    let upgrade = upgrade.limited(MAX_MESSAGE);
    Ok(upgrade
        .on_upgrade(move |socket| {
            sessions.track_future(async move {
                tracing::info!(space = %space.id(), %terminal, user = %caller.user, "terminal opened");
                Bridge::new(app, caller, space, terminal).run(socket).await;
                tracing::info!(%terminal, "terminal let go");
            })
        })
        .into_response())
}

async fn find(app: &App, caller: &Caller, key: &str) -> Result<Doc<model::Space>, Problem> {
    let space = World::new(app).find(caller, key, For::Using)?;
    let allowed = access::allows(&app.replica, &space, Feature::Terminal).await;
    allowed.map_err(|off| Problem::new(Code::Forbidden, off.to_string()))?;
    Ok(space)
}

/// What an agent says after it has said that it will.
async fn ask(app: &App, space: &Doc<model::Space>, open: &Open) -> Result<AgentReader, Problem> {
    let ready = access::ready(&*app.reach, space.id(), open).await;
    let (reader, ..) = ready.map_err(|error| {
        let code = match &error {
            access::Error::Reach(ReachError::NotRunning) => Code::NotRunning,
            access::Error::Reach(_) => Code::NoAgent,
            access::Error::Refused { refusal: Refusal::NotFound, .. } => Code::NotFound,
            access::Error::Refused { .. } => Code::InvalidValue,
        };
        Problem::new(code, error.to_string())
    })?;
    Ok(reader)
}

fn shown(info: TerminalInfo) -> Terminal {
    let TerminalInfo { id, name, command, size, viewers, since } = info;
    let size = TerminalSize { columns: size.columns, rows: size.rows };
    Terminal { id, name, command, size, viewers, since: since.to_string() }
}
