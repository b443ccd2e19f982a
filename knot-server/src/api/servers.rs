//! The servers of the cluster: who belongs, whom this one hears, inviting and removing.

use axum::{Json, extract::State, http::StatusCode};
use knot_core::{
    id::ServerId,
    model::{self, ServerStatus},
    names::Names,
    replica::Doc,
    secrets,
};

use super::{
    app::{App, Reachability},
    body::Body,
    caller::{Caller, Key},
    causality::{Answer, of_dead, recent},
    names,
    permit::{self, Action},
    problem::{Code, Problem},
    types::{Invitation, Invite, Server, ServerState, Servers},
    world::{find_server, server_names},
};

/// Lists the servers of the cluster, as this one hears them.
#[utoipa::path(get, path = "/servers", tag = "servers", responses((status = 200, body = Servers)))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Servers>> {
    let names = server_names(&app);
    let mut servers: Vec<_> = all(&app).iter().map(|server| show(&app, server, &names)).collect();
    servers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let token = recent::<model::Server>(&app.replica, |_| true);
    caller.answer(Json(Servers { servers }), &token)
}

/// Invites a server: an admin may.
#[utoipa::path(
    post, path = "/servers/tokens", tag = "servers", request_body = Invite,
    responses((status = 201, body = Invitation))
)]
pub(super) async fn invite(
    State(app): State<App>,
    caller: Caller,
    Body(wanted): Body<Invite>,
) -> Result<Answer<(StatusCode, Json<Invitation>)>, Problem> {
    permit::check(&caller, Action::InviteServer)?;
    names::check(&wanted.name)?;
    let _turn = app.names.lock().await;
    if server_names(&app).is_taken(&(), &wanted.name) {
        return Err(Problem::new(
            Code::NameTaken,
            format!(
                "there is a server or an invitation named {} already: choose another name",
                wanted.name
            ),
        ));
    }
    let token = app.cluster.join_token(wanted.name, caller.author()).await.map_err(|error| {
        tracing::error!(%error, "no join token could be made");
        Problem::internal()
    })?;
    let shown = recent::<model::Server>(&app.replica, |_| true);
    Ok(caller.answer((StatusCode::CREATED, Json(Invitation { token })), &shown))
}

/// Removes a server from the cluster, or takes an invitation back: an admin may. Drain it first.
#[utoipa::path(
    delete, path = "/servers/{server}", tag = "servers", responses((status = 204)),
    params(("server" = String, Path, description = "Its name or id."))
)]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<StatusCode>, Problem> {
    permit::check(&caller, Action::DeleteServer)?;
    let server = find_server(&app, &key)?;
    if ServerId(server.id().uuid()) == app.replica.me() {
        return Err(Problem::new(
            Code::IsThisServer,
            "a server does not remove itself: ask another server of the cluster to remove this one",
        ));
    }
    // It could open what was sealed so far; from now on there is a data key that it does not have.
    secrets::remove_server(app.keys.sessions(), server.id(), false, caller.author()).await?;
    tracing::warn!(server = %server.id(), name = server.name, user = %caller.user, "server removed");
    Ok(caller.answer(StatusCode::NO_CONTENT, &of_dead(server.id().into())))
}

/// The servers that have joined.
pub(super) fn all(app: &App) -> Vec<Doc<model::Server>> {
    let me = app.replica.me();
    let mut servers = app.replica.list::<model::Server>();
    servers.retain(|server| server.key.is_some() || ServerId(server.id().uuid()) == me);
    servers
}

/// A server as the API shows it.
pub(super) fn show(app: &App, server: &Doc<model::Server>, names: &Names<()>) -> Server {
    let id = ServerId(server.id().uuid());
    let status: Option<ServerStatus> = app.replica.observed(server.id(), id);
    let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Server {
        id: id.to_string(),
        name: names.of(server.id().uuid()).unwrap_or_default().to_owned(),
        zone: filled(&server.zone),
        quic: filled(&server.quic),
        http: filled(&server.http),
        ssh: filled(&server.ssh),
        state: match app.reachability(id) {
            Reachability::Linked => ServerState::Live,
            Reachability::Lost { .. } => ServerState::Unreachable,
        },
        clock_ahead: Some(id)
            .filter(|id| *id != app.replica.me())
            .and_then(|id| app.cluster.skew(id)),
        this: id == app.replica.me(),
        platforms: status.map(|status| status.platforms).unwrap_or_default(),
    }
}
