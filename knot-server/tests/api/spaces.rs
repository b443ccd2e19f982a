//! Spaces: making, naming, starting, restarting, deleting; who sees them, and where they live.

use knot_core::{
    clock::Millis,
    generation::Generation,
    id::Id,
    model::{Desired, Observed, Server, ServerStatus, Space, SpaceStatus},
    net::Way,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::{Client, PASSWORD, answer, level, link, server, until, world};

fn running(revision: &str) -> SpaceStatus {
    SpaceStatus {
        state: Observed::Running,
        since: Millis(1_000),
        generation: Generation { term: 1, n: 4 },
        revision: revision.to_owned(),
        driver: "docker".to_owned(),
        ..SpaceStatus::default()
    }
}

#[tokio::test]
async fn a_space_is_made_on_the_server_that_is_asked() {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    let wanted = json!({"name": "web", "template": "rust", "start": true});
    let created = root.post("/spaces", wanted).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let space = created.ok();
    for (field, value) in [
        ("name", json!("web")),
        ("owner", json!("root")),
        ("template", json!("rust")),
        ("desired", json!("running")),
        ("observed", json!("created")),
        ("home", json!("alpha")),
        ("home_reachable", json!(true)),
        ("generation", json!(null)),
        ("update_available", json!(false)),
        ("conflicts", json!([])),
    ] {
        assert_eq!(space[field], value, "{field}");
    }
    let stored = server.space(space["id"].as_str().unwrap());
    assert_eq!((stored.placement.term, stored.placement.server), (1, server.replica.me()));
    assert_eq!(stored.template_heads.len(), 1, "the home waits for the template as it was");
    assert_eq!(root.get("/spaces/web").await.ok(), space);
    assert_eq!(root.get("/spaces").await.ok()["spaces"], json!([space]));
}

#[tokio::test]
async fn a_bad_request_says_what_is_wrong() {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    root.create("web", "rust").await;
    for (wanted, code) in [
        (json!({"name": "Web", "template": "rust"}), "invalid_name"),
        (json!({"name": "web-", "template": "rust"}), "invalid_name"),
        (json!({"name": "web", "template": "rust"}), "name_taken"),
        (json!({"name": "api", "template": "go"}), "not_found"),
        (json!({"name": "api"}), "malformed_request"),
        (json!({"name": 7, "template": "rust"}), "malformed_request"),
    ] {
        root.post("/spaces", wanted.clone()).await.problem(code);
    }
    let request = root.request(Method::POST, "/spaces").body("{}");
    answer(request).await.problem("unsupported_type");
    let request = root.request(Method::POST, "/spaces").header("content-type", "application/json");
    answer(request.body("x".repeat(2 << 20))).await.problem("too_large");
    root.get("/nowhere").await.problem("not_found");
    root.delete("/spaces").await.problem("method_not_allowed");
}

#[tokio::test]
async fn of_two_that_create_one_name_at_once_one_does() {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    let wanted = json!({"name": "web", "template": "rust"});
    let answers =
        futures_util::future::join_all((0..8).map(|_| root.post("/spaces", wanted.clone()))).await;
    let created = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    assert_eq!(created, 1);
    // Another owner has names of its own.
    server.user("anna").await.create("web", "rust").await;
}

#[tokio::test]
async fn a_space_goes_where_its_engine_is() {
    let (alpha, beta, gamma) =
        (world().await, server("beta", &["docker"]).await, server("gamma", &["docker"]).await);
    let root = alpha.root().await;
    let id = Id::<Server>::from_uuid(alpha.replica.me().0);
    alpha.replica.observe(id, &ServerStatus::default()).await.unwrap();
    root.template("rust").await;
    let wanted = json!({"name": "web", "template": "rust"});
    let refused = root.post("/spaces", wanted.clone()).await.problem("no_engine");
    assert!(refused["detail"].as_str().unwrap().contains("docker"));

    let _linked = link(&alpha, &beta).await;
    let _linked = link(&alpha, &gamma).await;
    let platforms = || {
        let servers = [&beta, &gamma].map(|server| {
            let id = Id::<Server>::from_uuid(server.replica.me().0);
            alpha.replica.get(id).is_some()
                && alpha.replica.observed::<ServerStatus>(id, server.replica.me()).is_some()
        });
        servers == [true, true]
    };
    until(&alpha.replica, platforms).await;
    let first = root.post("/spaces", wanted).await.ok();
    assert_eq!(first["home"], "beta", "both have none: the lower id");
    let second = root.post("/spaces", json!({"name": "api", "template": "rust"})).await.ok();
    assert_eq!(second["home"], "gamma", "the one with fewer");
}

#[tokio::test]
async fn what_is_wanted_is_written_and_told_once() {
    let server = world().await;
    let root = server.root().await;
    let template = root.template("rust").await;
    let id = root.create("web", "rust").await;
    assert_eq!(root.post("/spaces/web/start", json!(null)).await.ok()["desired"], "running");
    server.observe(&id, running(&server.template(&template).revision())).await;

    let shown = root.post("/spaces/web/restart", json!(null)).await.ok();
    assert_eq!((&shown["observed"], &shown["generation"]), (&json!("running"), &json!("1.4")));
    assert_eq!(server.space(&id).restart, Generation { term: 1, n: 4 });
    let heads = server.replica.get::<Space>(id.parse().unwrap()).unwrap().heads().to_vec();
    root.post("/spaces/web/restart", json!(null)).await.ok();
    let again = server.replica.get::<Space>(id.parse().unwrap()).unwrap().heads().to_vec();
    assert_eq!(heads, again, "told the same thing twice, nothing changes");

    assert_eq!(root.post("/spaces/web/stop", json!(null)).await.ok()["desired"], "stopped");
    assert_eq!(server.space(&id).desired, Desired::Stopped);

    // A start of what failed ends the generation that failed.
    let failed = SpaceStatus {
        state: Observed::Failed,
        generation: Generation { term: 1, n: 5 },
        cause: Some("no such image".to_owned()),
        ..running("")
    };
    server.observe(&id, failed).await;
    let shown = root.post("/spaces/web/start", json!(null)).await.ok();
    assert_eq!((&shown["observed"], &shown["cause"]), (&json!("failed"), &json!("no such image")));
    assert_eq!(server.space(&id).restart, Generation { term: 1, n: 5 });
}

#[tokio::test]
async fn a_changed_template_marks_what_runs() {
    let server = world().await;
    let root = server.root().await;
    let template = root.template("rust").await;
    let id = root.create("web", "rust").await;
    server.observe(&id, running(&server.template(&template).revision())).await;
    assert_eq!(root.get("/spaces/web").await.ok()["update_available"], false);
    root.apply("name: rust\nplatform: docker\nimage: busybox\ndescription: new\n").await.ok();
    assert_eq!(root.get("/spaces/web").await.ok()["update_available"], false);
    root.apply("name: rust\nplatform: docker\nimage: alpine\n").await.ok();
    assert_eq!(root.get("/spaces/web").await.ok()["update_available"], true);
    server.observe(&id, SpaceStatus { state: Observed::Stopped, ..running("old") }).await;
    assert_eq!(root.get("/spaces/web").await.ok()["update_available"], false);
}

#[tokio::test]
async fn others_spaces_are_not_there() {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    let (anna, bert) = (server.user("anna").await, server.user("bert").await);
    let id = anna.create("web", "rust").await;
    for key in ["web", &id] {
        let path = format!("/spaces/{key}");
        bert.get(&path).await.problem("not_found");
        bert.delete(&path).await.problem("not_found");
        for action in ["start", "stop", "restart"] {
            bert.post(&format!("{path}/{action}"), json!(null)).await.problem("not_found");
        }
    }
    assert_eq!(bert.get("/spaces").await.ok()["spaces"], json!([]));
    assert_eq!(root.get("/spaces/web").await.ok()["owner"], "anna", "an admin finds anybody's");
    root.create("web", "rust").await;
    assert_eq!(root.get("/spaces/web").await.ok()["owner"], "root", "and its own first");
    bert.create("api", "rust").await;
    anna.create("api", "rust").await;
    root.get("/spaces/api").await.problem("ambiguous_name");
}

#[tokio::test]
async fn deleting_is_final() {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    let id = root.create("web", "rust").await;
    let deleted = root.delete("/spaces/web").await;
    assert_eq!((deleted.status, deleted.text.as_str()), (StatusCode::NO_CONTENT, ""));
    root.get(&format!("/spaces/{id}")).await.problem("not_found");
    root.delete("/spaces/web").await.problem("not_found");
    assert_ne!(root.create("web", "rust").await, id);
}

#[tokio::test]
async fn a_deleted_space_is_shown_until_its_home_has_taken_it_down() {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    let id = root.create("web", "rust").await;
    server.observe(&id, running("x")).await;
    root.delete("/spaces/web").await.ok();
    let path = format!("/spaces/{id}");
    assert_eq!(root.get(&path).await.ok()["observed"], "deleting");
    root.get("/spaces/web").await.problem("not_found");
    server.user("anna").await.get(&path).await.problem("not_found");
    root.post(&format!("{path}/start"), json!(null)).await.problem("not_found");
    server.observe(&id, SpaceStatus { state: Observed::Gone, ..running("x") }).await;
    root.get(&path).await.problem("not_found");
}

#[tokio::test]
async fn one_name_given_in_two_partitions_stays_usable() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let root = alpha.root().await;
    root.template("rust").await;
    let linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    linked.cut().await;
    let at_beta = beta.root().await;
    let older = root.create("web", "rust").await;
    let younger = at_beta.create("web", "rust").await;
    let _linked = link(&alpha, &beta).await;
    until(&alpha.replica, || alpha.replica.list::<Space>().len() == 2).await;

    let derived = format!("web-{}", &younger[younger.len() - 4..]);
    let listed = root.get("/spaces").await.ok();
    let names: Vec<_> =
        listed["spaces"].as_array().unwrap().iter().map(|space| &space["name"]).collect();
    assert_eq!(names, [&json!("web"), &json!(derived)]);
    assert_eq!(root.get("/spaces/web").await.ok()["id"], older);
    assert_eq!(root.get(&format!("/spaces/{derived}")).await.ok()["id"], younger);

    let refused = root.post("/spaces/web/start", json!(null)).await.problem("ambiguous_name");
    for id in [&older, &younger] {
        assert!(refused["detail"].as_str().unwrap().contains(id), "{refused}");
    }
    root.post(&format!("/spaces/{older}/start"), json!(null)).await.ok();
    // The older goes, and the request is tried again: it must not hit the younger.
    root.delete(&format!("/spaces/{older}")).await.ok();
    assert_eq!(root.get("/spaces/web").await.ok()["id"], younger, "it has the name to itself");
    let refused = root.delete("/spaces/web").await.problem("ambiguous_name");
    for id in [&older, &younger] {
        assert!(refused["detail"].as_str().unwrap().contains(id), "{refused}");
    }
    root.post(&format!("/spaces/{derived}/stop"), json!(null)).await.ok();
    root.delete(&format!("/spaces/{younger}")).await.ok();
}

#[tokio::test]
async fn the_way_to_a_space_is_shown() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let root = alpha.root().await;
    root.template("rust").await;
    let _linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    level(&beta, &alpha).await;
    let id = Id::from_uuid(root.create("web", "rust").await.parse().unwrap());
    let beta = beta.replica.me();
    for (way, shown) in [
        (Way::None, json!(null)),
        (Way::Direct, json!({"directly": true, "through": []})),
        (Way::Relayed(vec![beta]), json!({"directly": false, "through": ["beta"]})),
    ] {
        alpha.agents.ways.lock().unwrap().insert(id, way);
        assert_eq!(root.get("/spaces/web").await.ok()["reached"], shown);
    }
}

#[tokio::test]
async fn a_home_out_of_reach_is_said_and_the_request_kept() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let root = alpha.root().await;
    root.template("rust").await;
    let linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    let id = beta.root().await.create("web", "rust").await;
    level(&beta, &alpha).await;
    assert_eq!(root.get("/spaces/web").await.ok()["home_reachable"], true);
    linked.cut().await;
    let shown = root.post("/spaces/web/start", json!(null)).await.ok();
    for (field, value) in [
        ("observed", json!("unreachable")),
        ("desired", json!("running")),
        ("home", json!("beta")),
        ("home_reachable", json!(false)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(alpha.space(&id).desired, Desired::Running);
}

#[tokio::test]
async fn a_write_here_is_seen_there_by_who_made_it() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let root = alpha.root().await;
    let _linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    root.template("rust").await;
    // The same client, through the other server, with what it has seen: no wait of its own.
    let elsewhere = Client { base: beta.url(""), ..root.clone() };
    for round in 0..20 {
        let wanted = json!({"name": format!("web{round}"), "template": "rust"});
        let created = root.post("/spaces", wanted).await;
        let seen = created.causality();
        let id = created.ok()["id"].as_str().unwrap().to_owned();
        let path = format!("/spaces/{id}");
        let there = answer(elsewhere.request(Method::GET, &path).header("knot-token", &seen)).await;
        assert_eq!(there.ok()["id"], id);
        let deleted = root.delete(&path).await.causality();
        let there =
            answer(elsewhere.request(Method::GET, &path).header("knot-token", &deleted)).await;
        there.problem("not_found");
    }
    // A list covers what has just changed.
    root.create("listed", "rust").await;
    let listed = root.get("/spaces").await.causality();
    let there =
        answer(elsewhere.request(Method::GET, "/spaces/listed").header("knot-token", listed)).await;
    there.ok();
}

#[tokio::test]
async fn a_server_that_is_behind_says_so() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    knot_server::users::ensure_admin(&beta.replica, "root", PASSWORD).await.unwrap();
    let root = alpha.root().await;
    root.template("rust").await;
    let id = root.create("web", "rust").await;
    let seen = root.get(&format!("/spaces/{id}")).await.causality();
    let there = beta.root().await;
    let behind = answer(there.request(Method::GET, "/spaces").header("knot-token", seen)).await;
    assert_eq!(behind.status, StatusCode::SERVICE_UNAVAILABLE);
    behind.problem("behind");
    let junk = answer(there.request(Method::GET, "/spaces").header("knot-token", "!")).await;
    junk.problem("malformed_request");
}
