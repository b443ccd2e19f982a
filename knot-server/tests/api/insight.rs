//! Logs and usage: asked of the home of a space, whichever server is asked.

use knot_core::{agent::Usage, clock::Millis, generation::Generation};
use knot_server::{
    api::ReachError,
    spaces::{
        answers::{Answer, Question, Start},
        logs::Kind,
        usage::Sample,
    },
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::{Server, within, world};

const SECOND: Generation = Generation { term: 1, n: 2 };

async fn space() -> (Server, crate::world::Client) {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    root.create("web", "rust").await;
    (server, root)
}

#[tokio::test]
async fn a_log_is_asked_of_the_home_and_comes_as_text() {
    let (server, root) = space().await;
    server.agents.answer(Answer::Text(SECOND), "pulling\nstarted\n");
    let log = root.get("/spaces/web/logs?kind=provision&generation=1.2&follow=true").await;
    assert_eq!(log.status, StatusCode::OK);
    assert_eq!(log.headers.get("knot-generation").unwrap(), "1.2");
    assert_eq!(log.text, "pulling\nstarted\n");
    let asked = server.agents.asked.lock().unwrap().pop().unwrap();
    let Question::Logs { generation, kind, follow, .. } = asked.1 else { panic!() };
    assert_eq!((generation, kind, follow), (Some(SECOND), Kind::Provision, true));
    assert_eq!(asked.0, server.replica.me());
    root.get("/spaces/web/logs?generation=x").await.problem("malformed_request");
    root.get("/spaces/web/logs?kind=diary").await.problem("malformed_request");
    server.agents.answer(Answer::Missing("it was never started".to_owned()), "");
    root.get("/spaces/web/logs").await.problem("not_found");
}

#[tokio::test]
async fn a_followed_log_ends_with_the_right_to_it() {
    let (server, root) = space().await;
    let anna = server.user("anna").await;
    root.post("/spaces/web/shares", json!({"user": "anna"})).await.ok();
    server.agents.answer(Answer::Text(SECOND), "started\n");
    server.agents.go_on();
    let path = "/spaces/web/logs?follow=true";
    let mut log = within(anna.request(Method::GET, path).send()).await.unwrap();
    assert_eq!(within(log.chunk()).await.unwrap().unwrap(), "started\n");
    root.post("/spaces/web/unshare", json!({"user": "anna"})).await.ok();
    assert_eq!(within(log.chunk()).await.unwrap(), None);
}

#[tokio::test]
async fn usage_is_shown_now_and_over_the_day() {
    let (server, root) = space().await;
    let usage = Usage { millicpus: 250, memory: 1_024, disk: None };
    let day = vec![Sample { at: Millis(60_000), usage }];
    server.agents.answer(Answer::Usage(Some(usage), day), "");
    let shown = root.get("/spaces/web/usage").await.ok();
    assert_eq!(shown["now"]["millicpus"], 250);
    let sample = json!({
        "at": "1970-01-01T00:01:00.000Z", "millicpus": 250, "memory": 1_024, "disk": null,
    });
    assert_eq!(shown["day"], json!([sample]));
}

#[tokio::test]
async fn the_starts_that_there_are_logs_of_are_the_homes_to_say() {
    let (server, root) = space().await;
    let start = |generation, container| Start { generation, provision: true, container };
    let first = Generation { term: 1, n: 1 };
    server.agents.answer(Answer::Starts(vec![start(SECOND, false), start(first, true)]), "");
    let shown = root.get("/spaces/web/starts").await.ok();
    let wanted = json!([
        {"generation": "1.2", "provision": true, "container": false},
        {"generation": "1.1", "provision": true, "container": true},
    ]);
    assert_eq!(shown["starts"], wanted);
    server.user("anna").await.get("/spaces/web/starts").await.problem("not_found");
}

#[tokio::test]
async fn a_home_out_of_reach_and_a_space_of_another_are_said() {
    let (server, root) = space().await;
    let anna = server.user("anna").await;
    anna.get("/spaces/web/logs").await.problem("not_found");
    anna.get("/spaces/web/usage").await.problem("not_found");
    server.agents.refuse(ReachError::NoAgent { why: "its home cannot be reached".to_owned() });
    root.get("/spaces/web/logs").await.problem("no_agent");
    root.get("/spaces/web/usage").await.problem("no_agent");
}
