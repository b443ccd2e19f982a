//! Signing in and out, tokens, links, and who may send a cookie.

use std::time::Duration;

use knot_core::{
    clock::Millis,
    id::{Author, Id},
    model,
    secrets::remove_server,
};
use knot_server::{api::auth, users};
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::world::{Client, PASSWORD, Server, answer, http, level, link, until, world};

/// A browser that is signed in: the values of its cookies, and a request with them.
async fn browser(server: &Server) -> (String, Client) {
    let client = server.stranger();
    let request = json!({"user": "root", "password": PASSWORD});
    let signed_in = client.post("/sign-in", request).await;
    assert_eq!(signed_in.status, StatusCode::OK);
    assert!(signed_in.json().get("token").is_none());
    (cookies(&signed_in.headers), client)
}

fn cookies(headers: &header::HeaderMap) -> String {
    let values = headers.get_all(header::SET_COOKIE).iter();
    let pairs: Vec<_> =
        values.map(|value| value.to_str().unwrap().split(';').next().unwrap()).collect();
    pairs.join("; ")
}

#[tokio::test]
async fn a_password_gives_a_session_or_a_token() {
    let server = world().await;
    let (cookies, client) = browser(&server).await;
    assert!(cookies.contains("knot_session="), "{cookies}");
    let me = answer(client.request(Method::GET, "/me").header(header::COOKIE, &cookies)).await.ok();
    assert_eq!((&me["name"], &me["admin"]), (&json!("root"), &json!(true)));

    let root = server.root().await;
    assert!(root.token.as_ref().unwrap().starts_with("knot_"));
    assert_eq!(root.get("/me").await.ok(), me);
    assert_eq!(me["time_zone"], "UTC");
    let zone = |zone| root.request(Method::PATCH, "/me").json(&json!({"time_zone": zone}));
    assert_eq!(answer(zone("Europe/Athens")).await.ok()["time_zone"], "Europe/Athens");
    answer(zone("Europe/Nowhere")).await.problem("invalid_value");
    assert_eq!(root.get("/me").await.ok()["time_zone"], "Europe/Athens");
}

#[tokio::test]
async fn a_session_cookie_is_kept_from_scripts_and_other_sites() {
    let server = world().await;
    let client = server.stranger();
    let signed_in = client.post("/sign-in", json!({"user": "root", "password": PASSWORD})).await;
    let session = signed_in.headers.get_all(header::SET_COOKIE).iter();
    let session = session
        .map(|value| value.to_str().unwrap())
        .find(|value| value.starts_with("knot_session"));
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(session.unwrap().contains(attribute), "{session:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let server = world().await;
    let client = server.stranger();
    for (user, password) in [("root", "wrong"), ("nobody", PASSWORD), ("", ""), ("root", "")] {
        let request = json!({"user": user, "password": password});
        client.post("/sign-in", request).await.problem("wrong_credentials");
    }
    client.get("/me").await.problem("not_signed_in");
    for token in ["x", "knot_", "knot_AAAA", &server.root().await.token.unwrap()[..60]] {
        let client = Client { token: Some(token.to_owned()), ..client.clone() };
        let refused = client.get("/spaces").await;
        assert_eq!(refused.headers[header::WWW_AUTHENTICATE], "Bearer");
        refused.problem("not_signed_in");
    }
}

#[tokio::test]
async fn many_failures_make_a_name_wait() {
    let server = world().await;
    let client = server.stranger();
    let wrong = json!({"user": "root", "password": "wrong"});
    for _ in 0..10 {
        client.post("/sign-in", wrong.clone()).await.problem("wrong_credentials");
    }
    let refused = client.post("/sign-in", wrong).await;
    let wait: u64 = refused.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    refused.problem("too_many_attempts");
    let right = json!({"user": "root", "password": PASSWORD});
    client.post("/sign-in", right).await.problem("too_many_attempts");
    server.user("anna").await.get("/me").await.ok();
}

#[tokio::test]
async fn a_token_is_over_once_its_document_is_dead_or_its_user() {
    let server = world().await;
    let author = Author::Server(server.replica.me());
    let root = server.root().await;
    root.get("/me").await.ok();
    let token = server.replica.list::<model::Token>().pop().unwrap();
    assert_eq!(token.name, "test");
    server.replica.delete(token.id(), author).await.unwrap();
    root.get("/me").await.problem("not_signed_in");

    let anna = server.user("anna").await;
    let id: Id<model::User> = anna.get("/me").await.ok()["id"].as_str().unwrap().parse().unwrap();
    server.replica.delete(id, author).await.unwrap();
    anna.get("/me").await.problem("not_signed_in");
}

#[tokio::test]
async fn a_new_password_ends_sessions_and_not_tokens() {
    let server = world().await;
    let (cookies, client) = browser(&server).await;
    let root = server.root().await;
    let user = users::find(&server.replica, "root").unwrap();
    let author = Author::Server(server.replica.me());
    users::set_password(&server.replica, user.id(), "another horse", author).await.unwrap();
    let me = answer(client.request(Method::GET, "/me").header(header::COOKIE, &cookies)).await;
    me.problem("not_signed_in");
    root.get("/me").await.ok();
    let old = json!({"user": "root", "password": PASSWORD});
    client.post("/sign-in", old).await.problem("wrong_credentials");
    client.post("/sign-in", json!({"user": "root", "password": "another horse"})).await.ok();
}

#[tokio::test]
async fn only_own_pages_may_change_something_with_the_cookie() {
    let server = world().await;
    let (cookies, client) = browser(&server).await;
    let send = |name: &'static str, value: String| {
        let body = json!({"name": "web", "template": "none"});
        let request = client.request(Method::POST, "/spaces").header(header::COOKIE, &cookies);
        let request = if name.is_empty() { request } else { request.header(name, value) };
        answer(request.json(&body))
    };
    for (name, value) in [
        ("", ""),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        send(name, value.to_owned()).await.problem("cross_origin");
    }
    // These come through, to where there is no such template.
    send("origin", server.url("")).await.problem("not_found");
    send("sec-fetch-site", "same-origin".to_owned()).await.problem("not_found");
    // A page elsewhere could sign its visitor in as somebody else.
    let sign_in = client.request(Method::POST, "/sign-in").header("origin", "https://evil.example");
    answer(sign_in.json(&json!({"user": "root", "password": PASSWORD})))
        .await
        .problem("cross_origin");
}

#[tokio::test]
async fn signing_out_takes_the_cookies_away() {
    let server = world().await;
    let (cookies, client) = browser(&server).await;
    let request = client.request(Method::POST, "/sign-out").header(header::COOKIE, cookies);
    let out = answer(request.header("sec-fetch-site", "same-origin")).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    let gone = out.headers.get_all(header::SET_COOKIE).iter();
    assert!(gone.filter(|value| value.to_str().unwrap().contains("Max-Age=0")).count() == 2);
}

#[tokio::test]
async fn a_sign_in_link_begins_a_session_until_it_is_over() {
    let server = world().await;
    let user = users::find(&server.replica, "root").unwrap();
    let keys = server.app.keys.clone();
    let http = http();
    let link = auth::sign_in_link(&keys, user.id(), user.epoch, Duration::from_secs(60)).unwrap();
    let answered = answer(http.get(server.url(&link))).await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER);
    assert_eq!(answered.headers[header::LOCATION], "/");
    let me = server.stranger().request(Method::GET, "/me");
    let me = answer(me.header(header::COOKIE, cookies(&answered.headers))).await.ok();
    assert_eq!(me["name"], "root");

    for link in [
        auth::sign_in_link(&world().await.app.keys, user.id(), user.epoch, Duration::from_secs(60))
            .unwrap(),
        "/sign-in/link?code=x".to_owned(),
    ] {
        let refused = answer(http.get(server.url(&link))).await;
        assert!(refused.headers.get(header::SET_COOKIE).is_none());
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn the_first_admin_is_made_once() {
    let server = world().await;
    let first = users::find(&server.replica, "root").unwrap().id();
    let again = users::ensure_admin(&server.replica, "root", "another horse").await.unwrap();
    assert_eq!(first, again);
    server.root().await.get("/me").await.ok();
    assert!(users::ensure_admin(&server.replica, "a b", PASSWORD).await.is_err());
    assert!(users::ensure_admin(&server.replica, "short", "short").await.is_err());
}

/// `session-skew`: alpha's clock is 5 minutes fast; "sign out everywhere" at beta.
#[tokio::test]
async fn session_skew() {
    let (alpha, beta) = (world().await, crate::world::server("beta", &[]).await);
    let _linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    let user = users::find(&alpha.replica, "root").unwrap();
    let (now, fast) = (Millis::now(), Millis::now().plus(Duration::from_secs(300)));
    let begun = |server: &Server, now| {
        let text = auth::session(&server.app.keys, user.id(), user.epoch, now).unwrap();
        auth::read_session(&server.app.keys, &text).unwrap()
    };
    let (at_alpha, at_beta) = (begun(&alpha, fast), begun(&beta, now));
    // Fresh sessions are good at both, and one is good for its time at the server that is fast.
    for session in [&at_alpha, &at_beta] {
        assert!(session.holds(&alpha.replica, fast) && session.holds(&beta.replica, now));
    }
    assert!(at_beta.holds(&alpha.replica, fast.plus(auth::SESSION)));
    assert!(!at_beta.holds(&alpha.replica, fast.plus(auth::SESSION).plus(Duration::from_secs(60))));

    let author = Author::Server(beta.replica.me());
    users::sign_out_everywhere(&beta.replica, user.id(), author).await.unwrap();
    until(&alpha.replica, || alpha.replica.get(user.id()).is_some_and(|user| user.epoch == 1))
        .await;
    for session in [&at_alpha, &at_beta] {
        assert!(!session.holds(&alpha.replica, fast) && !session.holds(&beta.replica, now));
    }
    let user = users::find(&alpha.replica, "root").unwrap();
    let again = auth::session(&alpha.app.keys, user.id(), user.epoch, fast).unwrap();
    let again = auth::read_session(&alpha.app.keys, &again).unwrap();
    assert!(again.holds(&beta.replica, now));
}

/// `stolen-session`, as far as a request goes: the removed server had the session key.
#[tokio::test]
async fn what_a_stolen_server_signs_is_refused_once_that_has_been_heard() {
    let (alpha, beta) = (world().await, crate::world::server("beta", &[]).await);
    let _linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    let user = users::find(&alpha.replica, "root").unwrap();
    let forged = auth::session(&beta.app.keys, user.id(), user.epoch, Millis::now()).unwrap();
    let token = alpha.root().await;
    let with = async |session: &str| {
        let request = alpha.stranger().request(Method::GET, "/me");
        answer(request.header(header::COOKIE, format!("knot_session={session}"))).await
    };
    with(&forged).await.ok();
    let stolen = Id::from_uuid(beta.replica.me().0);
    let author = Author::Server(alpha.replica.me());
    let removal = remove_server(alpha.app.keys.sessions(), stolen, true, author).await.unwrap();
    assert!(removal.sessions_retired > 0, "{removal:?}");
    with(&forged).await.problem("not_signed_in");
    // An API token whose document is there goes on; and everybody can sign in again.
    token.get("/me").await.ok();
    let (cookies, client) = browser(&alpha).await;
    answer(client.request(Method::GET, "/me").header(header::COOKIE, cookies)).await.ok();
}
