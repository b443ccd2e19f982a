//! The SSH keys of a user, and what the cluster's SSH gateways are known by.

use axum::{Json, extract::State, http::StatusCode};
use knot_core::{
    model::{self, User},
    replica::{Committed, Doc},
};

use super::{
    app::App,
    body::Body,
    caller::{Caller, Key},
    causality::{Answer, of_read},
    problem::{Code, Problem},
    servers,
    types::{AddKey, Gateway, Gateways, SshKey, SshKeys},
    world::server_names,
};
use crate::ssh;

/// How many keys a user has at most.
const MOST: usize = 64;

/// Lists the caller's SSH keys.
#[utoipa::path(get, path = "/me/keys", tag = "keys", responses((status = 200, body = SshKeys)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Answer<Json<SshKeys>>, Problem> {
    let user = own(&app, &caller)?;
    let keys = user.keys.values().filter_map(|line| shown(line)).collect();
    Ok(caller.answer(Json(SshKeys { keys }), &of_read(&user)))
}

/// Adds an SSH key to sign in with, or an authority whose certificates do. One that is there already
/// takes the new label.
#[utoipa::path(
    post, path = "/me/keys", tag = "keys", request_body = AddKey,
    responses((status = 201, body = SshKey))
)]
pub(super) async fn add(
    State(app): State<App>,
    caller: Caller,
    Body(wanted): Body<AddKey>,
) -> Result<Answer<(StatusCode, Json<SshKey>)>, Problem> {
    let key = ssh::keys::Key::parse(&wanted.key)
        .map_err(|error| Problem::new(Code::InvalidValue, error.to_string()))?;
    let fingerprint = key.fingerprint();
    let _turn = app.names.lock().await;
    let user = own(&app, &caller)?;
    if user.keys.len() >= MOST && !user.keys.contains_key(&fingerprint) {
        let detail = format!("you have {MOST} keys, and no more are kept: remove some");
        return Err(Problem::new(Code::InvalidValue, detail));
    }
    if !key.authority && is_anothers(&app, &caller, &fingerprint) {
        return Err(Problem::new(
            Code::KeyTaken,
            "another user has this key, and a key says who somebody is: use one of your own",
        ));
    }
    let line = key.line();
    let answer = shown(&line).ok_or_else(Problem::internal)?;
    let edit = app.replica.edit(caller.user, caller.author(), move |user| {
        user.put(User::keys, &fingerprint, line);
        Ok(())
    });
    let committed: Committed<User> = edit.await?;
    tracing::info!(user = %caller.user, fingerprint = answer.fingerprint, "SSH key added");
    Ok(caller.answer((StatusCode::CREATED, Json(answer)), &committed.token()))
}

/// Removes an SSH key. Connections that were made with it end.
#[utoipa::path(
    delete, path = "/me/keys/{key}", tag = "keys", responses((status = 204)),
    params(("key" = String, Path, description = "Its fingerprint, `SHA256:…`, or its label."))
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<StatusCode>, Problem> {
    let user = own(&app, &caller)?;
    let labelled = |line: &String| {
        ssh::keys::Key::parse(line).is_ok_and(|known| !key.is_empty() && known.label() == key)
    };
    let mut found: Vec<_> = match user.keys.contains_key(&key) {
        true => vec![key.clone()],
        false => user
            .keys
            .iter()
            .filter(|(_, line)| labelled(line))
            .map(|(fingerprint, _)| fingerprint.clone())
            .collect(),
    };
    let fingerprint = match (found.pop(), found.is_empty()) {
        (Some(fingerprint), true) => fingerprint,
        (Some(_), false) => {
            let detail = format!("several of your keys are labelled {key}: give the fingerprint");
            return Err(Problem::new(Code::AmbiguousName, detail));
        }
        (None, _) => return Err(Problem::not_found("key", &key)),
    };
    let edit = app.replica.edit(caller.user, caller.author(), move |user| {
        user.take(User::keys, &fingerprint);
        Ok(())
    });
    let committed: Committed<User> = edit.await?;
    tracing::info!(user = %caller.user, "SSH key removed");
    Ok(caller.answer(StatusCode::NO_CONTENT, &committed.token()))
}

/// Says where the SSH gateways are, and what all of them are known by.
#[utoipa::path(get, path = "/ssh", tag = "keys", responses((status = 200, body = Gateways)))]
pub(super) async fn ssh(
    State(app): State<App>,
    caller: Caller,
) -> Result<Answer<Json<Gateways>>, Problem> {
    let Some(host_key) = ssh::host_key_line(app.keys.keyring()) else {
        let detail = "the SSH host key has not arrived at this server: try again in a moment";
        return Err(Problem::new(Code::Behind, detail));
    };
    let names = server_names(&app);
    let servers = servers::all(&app);
    let gateways = servers.iter().filter(|server| !server.ssh.is_empty()).map(|server| {
        let name = names.of(server.id().uuid()).unwrap_or_default().to_owned();
        Gateway { server: name, address: server.ssh.clone() }
    });
    let mut gateways: Vec<_> = gateways.collect();
    gateways.sort_by(|a, b| a.server.cmp(&b.server));
    let token = super::causality::recent::<model::Server>(&app.replica, |_| true);
    Ok(caller.answer(Json(Gateways { host_key, gateways }), &token))
}

fn own(app: &App, caller: &Caller) -> Result<Doc<User>, Problem> {
    app.replica.get(caller.user).ok_or_else(|| Problem::not_found("user", &caller.name))
}

fn is_anothers(app: &App, caller: &Caller, fingerprint: &str) -> bool {
    let users = app.replica.list::<User>();
    let mut others = users.iter().filter(|user| user.id() != caller.user);
    others.any(|user| {
        let line = user.keys.get(fingerprint);
        line.and_then(|line| ssh::keys::Key::parse(line).ok()).is_some_and(|key| !key.authority)
    })
}

fn shown(line: &str) -> Option<SshKey> {
    let key = ssh::keys::Key::parse(line).ok()?;
    Some(SshKey {
        fingerprint: key.fingerprint(),
        kind: key.kind(),
        label: key.label(),
        authority: key.authority,
        principals: key.principals,
    })
}
