//! Signing in and out.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use knot_core::{
    clock::Millis,
    id::{Author, Id},
    model,
    replica::{Doc, Token},
};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    app::App,
    auth::{self, PasswordError},
    body::Body,
    caller::{
        Asked, Caller, ClientAddress, Wanted, cookie, host, same_origin, session_cookie,
        session_name,
    },
    causality::{Answer, forget_seen, of_read},
    pages,
    problem::{Code, Problem},
    types::{EditMe, SignIn, SignedIn, User},
};

/// The longest name of a token, in characters.
const TOKEN_NAME: usize = 100;

/// Signs a user in: a session cookie, or an API token where one is asked for.
#[utoipa::path(
    post, path = "/sign-in", tag = "sessions", request_body = SignIn,
    responses((status = 200, body = SignedIn)), security(())
)]
pub(super) async fn sign_in(
    State(app): State<App>,
    ClientAddress(address): ClientAddress,
    _: FromOwnPages,
    Body(request): Body<SignIn>,
) -> Result<Response, Problem> {
    let SignIn { user: name, password, token_name } = request;
    if let Some(token_name) = &token_name {
        check_token_name(token_name)?;
    }
    app.limiter.check(&name, address, Instant::now()).map_err(|wait| {
        let seconds = wait.as_secs() + 1;
        Problem {
            retry_after: Some(seconds),
            ..Problem::new(
                Code::TooManyAttempts,
                format!("too many sign-ins failed for this name or from this address: try again in {seconds} s"),
            )
        }
    })?;
    // Counted before it is known: many at once get no more tries than many in turn.
    app.limiter.failed(&name, address, Instant::now());
    let user = crate::users::find(&app.replica, &name);
    let hash = user.as_ref().map(|user| user.password.as_str());
    let right = app.passwords.verify(&password, hash).await.map_err(|error| match error {
        PasswordError::Busy => {
            Problem { retry_after: Some(5), ..Problem::new(Code::Busy, error.to_string()) }
        }
        error => {
            tracing::error!(%error, "a password could not be checked");
            Problem::internal()
        }
    })?;
    let Some(user) = user.filter(|_| right) else {
        tracing::info!(name, ?address, "a sign-in failed");
        return Err(Problem::new(
            Code::WrongCredentials,
            "the name or the password is wrong: an admin can set a new password",
        ));
    };
    app.limiter.succeeded(&name, address);
    tracing::info!(user = %user.id(), ?address, "signed in");
    let shown = of_read(&user);
    match token_name {
        Some(token_name) => with_token(&app, &user, token_name, shown).await,
        None => with_session(&app, &user, &shown),
    }
}

fn check_token_name(name: &str) -> Result<(), Problem> {
    let count = name.chars().count();
    if (1..=TOKEN_NAME).contains(&count) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::new(
        Code::InvalidName,
        format!("the name of a token has 1 to {TOKEN_NAME} printable characters"),
    ))
}

async fn with_token(
    app: &App,
    user: &Doc<model::User>,
    name: String,
    mut shown: Token,
) -> Result<Response, Problem> {
    let (id, token) = (user.id(), Id::from_uuid(Uuid::now_v7()));
    let (text, hash) = auth::api_token(&app.keys, token, id).map_err(no_key)?;
    let committed = app
        .replica
        .put::<model::Token, _>(token, Author::User(id.uuid()), move |edit| {
            edit.set(model::Token::name, name);
            edit.set(model::Token::user, id);
            edit.set(model::Token::hash, hash);
            edit.set(model::Token::created, Millis::now());
            Ok(())
        })
        .await?;
    shown.extend(&committed.token());
    let body = SignedIn { user: shown_user(user), token: Some(text) };
    Ok(Answer::new(Json(body), &Token::new(), &shown, None).into_response())
}

fn no_key(error: auth::NoKey) -> Problem {
    Problem { retry_after: Some(5), ..Problem::new(Code::Busy, error.to_string()) }
}

fn with_session(app: &App, user: &Doc<model::User>, shown: &Token) -> Result<Response, Problem> {
    let session = auth::session(&app.keys, user.id(), user.epoch, Millis::now()).map_err(no_key)?;
    let body = SignedIn { user: shown_user(user), token: None };
    let answer = Answer::new(Json(body), &Token::new(), shown, Some(app.https));
    let mut response = answer.into_response();
    if let Some(cookie) = session_cookie(Some(&session), app.https) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn shown_user(user: &Doc<model::User>) -> User {
    let time_zone = match user.time_zone.as_str() {
        "" => "UTC".to_owned(),
        zone => zone.to_owned(),
    };
    User { id: user.id().to_string(), name: user.name.clone(), admin: user.admin, time_zone }
}

/// Ends the browser's session, and with it what it had opened of spaces.
#[utoipa::path(post, path = "/sign-out", tag = "sessions", responses((status = 204)), security(()))]
pub(super) async fn sign_out(
    State(app): State<App>,
    headers: HeaderMap,
    _: FromOwnPages,
) -> Response {
    let cookie = cookie(&headers, session_name(app.https));
    if let Some(session) = cookie.and_then(|text| auth::read_session(&app.keys, text))
        && let Err(error) = auth::end_session(&app.replica, session, Millis::now()).await
    {
        // The browser forgets it all the same.
        tracing::warn!(user = %session.user(), %error, "a session's end could not be written");
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    // A page without scripts sends a form, and wants a page.
    let form = accept.is_some_and(|accept| accept.contains("text/html"));
    let mut response = if form {
        Redirect::to("/sign-in").into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    };
    for cookie in
        [session_cookie(None, app.https), Some(forget_seen(app.https))].into_iter().flatten()
    {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Says who the caller is.
#[utoipa::path(get, path = "/me", tag = "sessions", responses((status = 200, body = User)))]
pub(super) async fn me(
    State(app): State<App>,
    caller: Caller,
) -> Result<Answer<Json<User>>, Problem> {
    let user = own(&app, &caller)?;
    Ok(caller.answer(Json(shown_user(&user)), &of_read(&user)))
}

/// Changes what the caller's account says of them.
#[utoipa::path(
    patch, path = "/me", tag = "sessions", request_body = EditMe, responses((status = 200, body = User))
)]
pub(super) async fn edit_me(
    State(app): State<App>,
    caller: Caller,
    Body(wanted): Body<EditMe>,
) -> Result<Answer<Json<User>>, Problem> {
    if let Some(zone) = wanted.time_zone {
        if !zone.is_empty() && jiff::tz::TimeZone::get(&zone).is_err() {
            return Err(Problem::new(
                Code::InvalidValue,
                format!("`{zone}` is no time zone: Europe/Athens and UTC are"),
            ));
        }
        let edit = app.replica.edit(caller.user, caller.author(), move |edit| {
            edit.set(model::User::time_zone, zone);
            Ok(())
        });
        edit.await?;
    }
    let user = own(&app, &caller)?;
    Ok(caller.answer(Json(shown_user(&user)), &of_read(&user)))
}

fn own(app: &App, caller: &Caller) -> Result<Doc<model::User>, Problem> {
    let gone = || Problem::new(Code::NotSignedIn, "this account was deleted: ask an admin");
    app.replica.get(caller.user).ok_or_else(gone)
}

#[derive(Deserialize)]
pub(super) struct LinkCode {
    #[serde(default)]
    code: String,
}

/// `GET /sign-in/link`: begins a session for whoever holds the link.
pub(super) async fn link(State(app): State<App>, Asked(link): Asked<LinkCode>) -> Response {
    let user =
        auth::read_link(&app.keys, &app.replica, &link.code).and_then(|user| app.replica.get(user));
    let Some(user) = user else {
        return pages::bad_link(
            &app,
            "It is over, or of another cluster. `knot-server admin NAME`, on a server's own machine, makes a new one.",
        );
    };
    tracing::info!(user = %user.id(), "signed in by a link");
    let session = match auth::session(&app.keys, user.id(), user.epoch, Millis::now()) {
        Ok(session) => session,
        Err(error) => return no_key(error).into_response(),
    };
    let mut response = Redirect::to("/").into_response();
    let headers = response.headers_mut();
    if let Some(cookie) = session_cookie(Some(&session), app.https) {
        headers.append(header::SET_COOKIE, cookie);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Refuses what a page of another site makes a browser send, whether it has a session or not: it
/// could sign its visitor in as somebody else.
pub(super) struct FromOwnPages;

impl axum::extract::FromRequestParts<App> for FromOwnPages {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        same_origin(&parts.headers, host(parts), app.https, Wanted::NoContradiction).map(|()| Self)
    }
}
