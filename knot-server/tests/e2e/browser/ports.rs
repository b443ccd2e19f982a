//! A space's page in a real browser: how it is opened, and what it cannot reach.

use axum::{Router, response::Html, routing::get};
use serde_json::Value;
use tokio::net::TcpListener;

use super::Browser;
use crate::world::World;

/// A page that tries what a page of a space must not be able to.
const PAGE: &str = "<!doctype html><title>space</title><h1>A program</h1>";

pub(super) async fn program() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cookies = async |headers: axum::http::HeaderMap| {
        headers.get("cookie").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let socket = async |upgrade: axum::extract::WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket: axum::extract::ws::WebSocket| {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    };
    let routes = Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/cookies", get(cookies))
        .route("/socket", get(socket));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    port
}

/// What a page gets that asks for a URL with all its cookies: its text, or that it was refused.
async fn fetched(browser: &mut Browser, url: &str) -> Value {
    let fetch = "credentials: 'include'";
    let script =
        format!("fetch({url:?}, {{{fetch}}}).then(answer => answer.text(), () => 'refused')");
    browser.value(&script).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spaces_page_opens_after_signing_in_and_cannot_read_the_api() {
    let Some(mut browser) = Browser::start().await else { return };
    let world = tokio::task::spawn_blocking(|| {
        let world = World::start(1);
        for name in ["dev", "other"] {
            world.json(1, &["space", "create", name, "--template", "shell", "--start"]);
        }
        world
    });
    let world = world.await.unwrap();
    let (port, main) = (program().await, world.url(1).to_owned());
    let at = main.rsplit_once(':').unwrap().1;
    let url = |space: &str| format!("http://{port}--{space}--admin.localhost:{at}/");

    // To the sign-in page, and back.
    browser.open(&url("dev")).await;
    browser.loaded("input[type=password]").await;
    assert!(browser.value("location.href").await.as_str().unwrap().starts_with(&main));
    browser.fill("input[name=user]", "admin").await;
    let password = world.up["admin"]["password"].as_str().unwrap().to_owned();
    browser.fill("input[name=password]", &password).await;
    browser.click("form button[type=submit]").await;
    browser.until("document.querySelector('h1')?.innerText === 'A program'").await;
    assert_eq!(browser.value("location.href").await, url("dev"));

    // Nothing of knot's is in the page's reach.
    assert_eq!(browser.value("document.cookie").await, "");
    browser.value("document.cookie = 'own=1'").await;
    assert_eq!(fetched(&mut browser, "/cookies").await, "own=1");
    for path in ["/api/v1/me", "/", "/api/v1/spaces"] {
        assert_eq!(fetched(&mut browser, &format!("{main}{path}")).await, "refused", "{path}");
    }
    let posted = format!(
        "fetch('{main}/api/v1/spaces', {{method: 'POST', mode: 'no-cors', credentials: 'include', \
         body: '{{\"name\":\"evil\",\"template\":\"shell\"}}'}}).then(() => 0, () => 0)"
    );
    browser.value(&posted).await;
    let names = world.knot(1, &["space", "ls"]);
    assert!(!names.contains("evil"), "{names}");
    // Another space's port is of another origin, even of the same owner.
    browser.open(&url("other")).await;
    browser.until("document.querySelector('h1')?.innerText === 'A program'").await;
    assert_eq!(fetched(&mut browser, &format!("{}cookies", url("dev"))).await, "refused");

    // Its own WebSocket goes through.
    let echoed = "new Promise((done, failed) => { const socket = new WebSocket('/socket'); \
                  socket.onopen = () => socket.send('hello'); socket.onerror = failed; \
                  socket.onmessage = (message) => done(message.data); })";
    assert_eq!(browser.value(echoed).await, "hello");

    // Signed out at knot's pages is signed out here.
    browser.open(&main).await;
    browser.loaded("#sign-out").await;
    browser.click("#sign-out button").await;
    browser.until("document.querySelector('input[type=password]')").await;
    browser.open(&url("dev")).await;
    browser.until("document.querySelector('input[type=password]')").await;
}
