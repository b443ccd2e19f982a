//! Servers: who is there, inviting, removing, and whether one is ready.

use knot_core::{
    id::{Author, Id},
    model::Server,
};
use reqwest::StatusCode;
use serde_json::json;

use crate::world::{answer, http, level, link, server, until, within, world};

#[tokio::test]
async fn servers_are_shown_as_this_one_hears_them() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let linked = link(&alpha, &beta).await;
    let id = Id::<Server>::from_uuid(beta.replica.me().0);
    let key = knot_core::net::KeyPair::generate().unwrap().public();
    beta.replica
        .edit(id, Author::Server(beta.replica.me()), move |edit| {
            edit.set(Server::key, Some(key));
            edit.set(Server::zone, "north".to_owned());
            Ok(())
        })
        .await
        .unwrap();
    let joined = || {
        let server = alpha.replica.get(id).is_some_and(|server| server.key.is_some());
        server
            && alpha
                .replica
                .observed::<knot_core::model::ServerStatus>(id, beta.replica.me())
                .is_some()
    };
    until(&alpha.replica, joined).await;
    level(&alpha, &beta).await;
    let root = alpha.root().await;
    let servers = root.get("/servers").await.ok()["servers"].clone();
    let brief = |server: &serde_json::Value| {
        json!([
            server["name"],
            server["state"],
            server["this"],
            server["zone"],
            server["platforms"]
        ])
    };
    assert_eq!(brief(&servers[0]), json!(["alpha", "live", true, null, ["local", "docker"]]));
    assert_eq!(brief(&servers[1]), json!(["beta", "live", false, "north", ["docker"]]));
    assert!(servers[1]["clock_ahead"].is_null());
    *alpha.neighbours.skew.lock().unwrap() = Some(-300);
    let servers = root.get("/servers").await.ok()["servers"].clone();
    assert_eq!(servers[1]["clock_ahead"], -300);
    linked.cut().await;
    let servers = root.get("/servers").await.ok()["servers"].clone();
    assert_eq!(servers[1]["state"], "unreachable");

    root.delete("/servers/alpha").await.problem("is_this_server");
    assert_eq!(root.delete("/servers/beta").await.status, StatusCode::NO_CONTENT);
    assert_eq!(root.get("/servers").await.ok()["servers"].as_array().unwrap().len(), 1);
    assert!(alpha.replica.grave(id).is_some());
}

#[tokio::test]
async fn only_admins_invite_and_remove() {
    let server = world().await;
    let (root, anna) = (server.root().await, server.user("anna").await);
    let invited = root.post("/servers/tokens", json!({"name": "beta"})).await.ok();
    assert_eq!(invited["token"], "token-for-beta");
    root.post("/servers/tokens", json!({"name": "alpha"})).await.problem("name_taken");
    anna.post("/servers/tokens", json!({"name": "beta"})).await.problem("forbidden");
    anna.delete("/servers/alpha").await.problem("forbidden");
    anna.get("/servers").await.ok();
}

#[tokio::test]
async fn a_server_that_goes_away_says_so_and_returns() {
    let server = world().await;
    let http = http();
    let status = async |path: &str| answer(http.get(server.url(path))).await.status;
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(status(path).await, StatusCode::OK, "{path}");
    }
    let events = server.root().await.request(reqwest::Method::GET, "/events").send().await.unwrap();
    server.app.drain.cancel();
    assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status("/livez").await, StatusCode::OK);
    within(events.bytes()).await.unwrap();
    server.root().await.get("/events").await.problem("draining");
    server.stop.cancel();
    within(server.served).await.unwrap();
    assert!(http.get(format!("http://{}/livez", server.address)).send().await.is_err());
}
