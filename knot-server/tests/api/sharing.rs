//! Spaces that are changed, shared and given away: who may, and what is refused.

use knot_core::{
    generation::Generation,
    id::{Author, Id},
    model::{Space, User, Volume},
    replica::Token,
};
use knot_server::spaces::answers;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::world::{Answer, Client, Server, answer, level, link, server, until, world};

async fn patch(client: &Client, path: &str, body: Value) -> Answer {
    answer(client.request(Method::PATCH, path).json(&body)).await
}

/// A server, and clients of anna, who has a space, of bert, and of root.
async fn three() -> (Server, Client, Client, Client, String) {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    let (anna, bert) = (server.user("anna").await, server.user("bert").await);
    let id = anna.create("web", "rust").await;
    (server, root, anna, bert, id)
}

#[tokio::test]
async fn who_shares_a_space_sees_and_runs_it_and_no_more() {
    let (server, root, anna, bert, id) = three().await;
    let path = format!("/spaces/{id}");
    bert.get(&path).await.problem("not_found");
    let shown = anna.post(&format!("{path}/shares"), json!({"user": "bert"})).await.ok();
    assert_eq!(shown["shares"], json!(["bert"]));
    assert_eq!(bert.get("/spaces").await.ok()["spaces"][0]["id"], id.as_str());
    assert_eq!(bert.get("/spaces/web").await.ok()["owner"], "anna", "by its name, too");
    let volume = json!({"name": "cache", "server": "alpha", "platform": "docker"});
    let volume = anna.post("/volumes", volume).await.ok()["id"].as_str().unwrap().to_owned();
    let volume = format!("/volumes/{volume}");
    let attach = json!({"space": id, "path": "/cache"});
    anna.post(&format!("{volume}/attach"), attach).await.ok();
    for action in ["start", "stop", "restart"] {
        bert.post(&format!("{path}/{action}"), json!(null)).await.ok();
    }
    let refusals = [
        bert.delete(&path).await,
        patch(&bert, &path, json!({"note": "mine"})).await,
        bert.post(&format!("{path}/shares"), json!({"user": "root"})).await,
        bert.post(&format!("{path}/unshare"), json!({"user": "bert"})).await,
        bert.post(&format!("{path}/transfer"), json!({"user": "bert"})).await,
        bert.post(&format!("{path}/move"), json!({"server": "alpha"})).await,
        bert.post(&format!("{path}/recover"), json!({"server": "alpha"})).await,
        bert.put(&format!("{path}/parameters"), json!({"parameters": {}})).await,
        bert.post(&format!("{volume}/detach"), json!(null)).await,
        // The agent's key is in it.
        bert.get(&format!("{path}/launch")).await,
    ];
    for refused in refusals {
        refused.problem("forbidden");
    }
    let generation = Generation { term: 1, n: 1 };
    server.agents.answer(answers::Answer::Text(generation), "knot-agent --key x");
    let launch = anna.get(&format!("{path}/launch")).await;
    assert_eq!((launch.status, &*launch.text), (StatusCode::OK, "knot-agent --key x"));
    assert_eq!(launch.headers[header::CACHE_CONTROL], "no-store");
    // His own of the same name comes first.
    let own = bert.create("web", "rust").await;
    assert_eq!(bert.get("/spaces/web").await.ok()["id"], own.as_str());
    // Deleting him touches what is his and nothing that was shared with him.
    let bert_id: Id<User> = server.space(&id).shares.iter().next().copied().unwrap_or_default();
    server.replica.delete(bert_id, Author::Server(server.replica.me())).await.unwrap();
    assert_eq!(anna.get(&path).await.ok()["id"], id.as_str());
    let shown = anna.post(&format!("{path}/unshare"), json!({"user": bert_id.to_string()})).await;
    assert_eq!(shown.ok()["shares"], json!([]));
    root.get(&path).await.ok();
}

#[tokio::test]
async fn a_share_taken_back_beats_one_given_elsewhere() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let root = alpha.root().await;
    root.template("rust").await;
    let bert = alpha.user("bert").await;
    let id = root.create("web", "rust").await;
    let path = format!("/spaces/{id}");
    root.post(&format!("{path}/shares"), json!({"user": "bert"})).await.ok();
    let linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    until(&beta.replica, || beta.replica.get::<Space>(id.parse().unwrap()).is_some()).await;
    linked.cut().await;
    let there = beta.root().await;
    root.post(&format!("{path}/unshare"), json!({"user": "bert"})).await.ok();
    there.post(&format!("{path}/unshare"), json!({"user": "bert"})).await.ok();
    there.post(&format!("{path}/shares"), json!({"user": "bert"})).await.ok();
    let _linked = link(&alpha, &beta).await;
    until(&beta.replica, || beta.space(&id).shares.is_empty()).await;
    until(&alpha.replica, || alpha.space(&id).shares.is_empty()).await;
    bert.get(&path).await.problem("not_found");
}

#[tokio::test]
async fn a_space_is_given_away_by_its_owner_or_an_admin_only() {
    let (server, root, anna, bert, id) = three().await;
    let path = format!("/spaces/{id}");
    bert.post(&format!("{path}/transfer"), json!({"user": "bert"})).await.problem("not_found");
    bert.create("web", "rust").await;
    anna.post(&format!("{path}/transfer"), json!({"user": "bert"})).await.problem("name_taken");
    patch(&anna, &path, json!({"name": "site", "alt_names": {"web": 80}})).await.ok();
    // Another name is a name for its new owner, too.
    anna.post(&format!("{path}/transfer"), json!({"user": "bert"})).await.problem("name_taken");
    patch(&anna, &path, json!({"alt_names": {"web": null}})).await.ok();
    anna.post(&format!("{path}/transfer"), json!({"user": "nobody"})).await.problem("not_found");
    let volume = json!({"name": "cache", "server": "alpha", "platform": "docker"});
    anna.post("/volumes", volume).await.ok();
    let attach = json!({"space": "site", "path": "/cache"});
    let volume = anna.post("/volumes/cache/attach", attach).await.ok();
    let done = anna.post(&format!("{path}/transfer"), json!({"user": "bert"})).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT);
    let volume: Id<Volume> = volume["id"].as_str().unwrap().parse().unwrap();
    let kept = server.replica.get(volume).unwrap();
    let bert_id = server.space(&id).owner;
    assert_eq!(kept.owner, bert_id, "what is in it goes along");
    let token = Token::from_text(&done.causality()).unwrap();
    let covers = token.entries().any(|(doc, heads)| doc == volume.into() && heads == kept.heads());
    assert!(covers, "who has seen the answer sees the volume's new owner, too");
    assert_eq!(bert.get("/spaces/site").await.ok()["owner"], "bert");
    anna.get(&path).await.problem("not_found");
    root.post(&format!("{path}/transfer"), json!({"user": "anna"})).await.ok();
    assert_eq!(anna.get("/spaces/site").await.ok()["id"], id.as_str());
    assert_eq!(server.space(&id).name, "site");
}

#[tokio::test]
async fn of_two_users_of_one_name_none_is_guessed() {
    let (server, root, anna, _bert, id) = three().await;
    // As two servers that were cut off from each other each make one.
    server.user("bert").await;
    root.post("/groups", json!({"name": "science"})).await.ok();
    let path = format!("/spaces/{id}");
    let bert = json!({"user": "bert"});
    for action in ["shares", "unshare", "transfer"] {
        anna.post(&format!("{path}/{action}"), bert.clone()).await.problem("ambiguous_name");
    }
    let member = root.put("/groups/science/members/bert", json!(null)).await;
    member.problem("ambiguous_name");
    let mut berts = server.replica.list::<User>();
    berts.retain(|user| user.name == "bert");
    let younger = berts.iter().map(|user| user.id()).max().unwrap().to_string();
    anna.post(&format!("{path}/shares"), json!({"user": younger})).await.ok();
    assert_eq!(server.space(&id).shares.iter().next().unwrap().to_string(), younger);
    root.put(&format!("/groups/science/members/{younger}"), json!(null)).await.ok();
    let derived = format!("bert-{}", &younger.replace('-', "")[28..]);
    let shown = anna.post(&format!("{path}/unshare"), json!({"user": derived})).await.ok();
    assert_eq!(shown["shares"], json!([]), "its name and the last digits of its id will do");
}

#[tokio::test]
async fn what_is_said_of_a_space_is_changed_field_by_field() {
    let (_server, _root, anna, _bert, id) = three().await;
    let path = format!("/spaces/{id}");
    let edit = json!({
        "description": "the site", "note": "mind the cron job",
        "alt_names": {"api": 8080, "docs": 8000}
    });
    let shown = patch(&anna, &path, edit).await.ok();
    assert_eq!(shown["alt_names"], json!({"api": 8080, "docs": 8000}));
    let shown =
        patch(&anna, &path, json!({"alt_names": {"docs": null}, "name": "site"})).await.ok();
    assert_eq!(
        (&shown["name"], &shown["alt_names"], &shown["note"]),
        (&json!("site"), &json!({"api": 8080}), &json!("mind the cron job"))
    );
    // Another name is a name: no other space of the owner's gets it.
    let taken = json!({"name": "api", "template": "rust"});
    anna.post("/spaces", taken).await.problem("name_taken");
    let other = anna.create("other", "rust").await;
    let of_other = format!("/spaces/{other}");
    patch(&anna, &of_other, json!({"alt_names": {"site": 80}})).await.problem("name_taken");
    patch(&anna, &of_other, json!({"alt_names": {"zero": 0}})).await.problem("invalid_value");
    patch(&anna, &of_other, json!({"name": "No Name"})).await.problem("invalid_name");
    patch(&anna, &of_other, json!({"note": "x".repeat(9_000)})).await.problem("invalid_value");
}

#[tokio::test]
async fn a_space_has_so_many_other_names_and_may_always_lose_some() {
    let (server, _root, anna, _bert, id) = three().await;
    let path = format!("/spaces/{id}");
    let names = |numbers: std::ops::Range<u64>, port: Value| {
        let names = numbers.map(|number| (format!("n{number}"), port.clone()));
        json!({"alt_names": names.collect::<serde_json::Map<_, _>>()})
    };
    patch(&anna, &path, names(0..65, json!(80))).await.problem("invalid_value");
    patch(&anna, &path, names(0..64, json!(80))).await.ok();
    patch(&anna, &path, names(64..65, json!(80))).await.problem("invalid_value");
    // The same again, one for another, and fewer.
    patch(&anna, &path, names(0..64, json!(81))).await.ok();
    patch(&anna, &path, json!({"alt_names": {"n0": null, "n64": 80}})).await.ok();
    patch(&anna, &path, names(1..65, Value::Null)).await.ok();
    // Two parts of the cluster may each have given as many.
    let author = Author::Server(server.replica.me());
    let edit = server.replica.edit(id.parse::<Id<Space>>().unwrap(), author, |edit| {
        (0..70).for_each(|number| edit.put(Space::alt_names, &format!("m{number}"), 80_u64));
        Ok(())
    });
    edit.await.unwrap();
    patch(&anna, &path, json!({"alt_names": {"more": 80}})).await.problem("invalid_value");
    let fewer = patch(&anna, &path, json!({"alt_names": {"m0": null}})).await.ok();
    assert_eq!(fewer["alt_names"].as_object().unwrap().len(), 69);
    let many = json!({"depends_on": vec!["web"; 65]});
    patch(&anna, &path, many).await.problem("invalid_value");
}

#[tokio::test]
async fn spaces_depend_on_others_and_never_on_themselves() {
    let (_server, _root, anna, _bert, id) = three().await;
    let (path, db) = (format!("/spaces/{id}"), anna.create("db", "rust").await);
    let shown = patch(&anna, &path, json!({"depends_on": ["db"]})).await.ok();
    assert_eq!(shown["depends_on"], json!([db]));
    let cycle = patch(&anna, "/spaces/db", json!({"depends_on": ["web"]})).await;
    cycle.problem("invalid_value");
    patch(&anna, "/spaces/db", json!({"depends_on": ["db"]})).await.problem("invalid_value");
    let refused = anna.post("/spaces/web/start", json!(null)).await.problem("dependency_stopped");
    assert!(refused["detail"].as_str().unwrap().contains("db"), "{refused}");
    anna.post("/spaces/db/start", json!(null)).await.ok();
    anna.post("/spaces/web/start", json!(null)).await.ok();
    // One that is deleted is no hindrance.
    anna.post("/spaces/db/stop", json!(null)).await.ok();
    anna.delete("/spaces/db").await.ok();
    anna.post("/spaces/web/restart", json!(null)).await.ok();
}

#[tokio::test]
async fn a_request_with_a_key_makes_one_space() {
    let (_server, _root, anna, bert, _id) = three().await;
    let once = async |client: &Client, key: &str| {
        let wanted = json!({"name": "once", "template": "rust"});
        let request = client.request(Method::POST, "/spaces").json(&wanted);
        answer(request.header("idempotency-key", key)).await
    };
    let first = once(&anna, "k").await;
    assert_eq!(first.status, StatusCode::CREATED);
    let first = first.ok();
    let again = once(&anna, "k").await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.ok()["id"], first["id"]);
    assert_ne!(once(&bert, "k").await.ok()["id"], first["id"], "keys are each user's own");
    once(&anna, "other").await.problem("name_taken");
    once(&anna, "").await.problem("malformed_request");
    anna.delete("/spaces/once").await.ok();
    once(&anna, "k").await.problem("not_found");
    // What has been given away is not shown to who had it.
    let given = once(&anna, "given").await.ok();
    let path = format!("/spaces/{}/transfer", given["id"].as_str().unwrap());
    anna.post(&path, json!({"user": "root"})).await.ok();
    let gone = once(&anna, "given").await.problem("not_found");
    assert!(gone["detail"].as_str().unwrap().contains("another's now"), "{gone}");
}

#[tokio::test]
async fn a_space_is_moved_only_where_it_can_run_and_nothing_is_lost_unsaid() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let root = alpha.root().await;
    root.template("rust").await;
    root.apply("name: data\nplatform: docker\nimage: busybox\nvolumes:\n  work: /work\n")
        .await
        .ok();
    let linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    let beta_id = Id::<knot_core::model::Server>::from_uuid(beta.replica.me().0);
    until(&alpha.replica, || {
        let status =
            alpha.replica.observed::<knot_core::model::ServerStatus>(beta_id, beta.replica.me());
        alpha.replica.get(beta_id).is_some() && status.is_some()
    })
    .await;
    let wanted = json!({"name": "web", "template": "rust", "server": "alpha"});
    let web = root.post("/spaces", wanted).await.ok()["id"].as_str().unwrap().to_owned();
    let wanted = json!({"name": "data", "template": "data", "server": "alpha"});
    let data = root.post("/spaces", wanted).await.ok()["id"].as_str().unwrap().to_owned();
    root.post("/spaces/web/move", json!({"server": "alpha"})).await.problem("invalid_value");
    root.post("/spaces/web/move", json!({"server": "none"})).await.problem("not_found");
    // What keeps nothing moves as it is; the home hands it over, not this request.
    let shown = root.post("/spaces/web/move", json!({"server": "beta"})).await.ok();
    assert_eq!((&shown["home"], &shown["moving_to"]), (&json!("alpha"), &json!("beta")));
    assert!(!alpha.space(&web).moving.empty);
    let said = root.post("/spaces/data/move", json!({"server": "beta"})).await;
    assert!(said.problem("volumes_stay")["detail"].as_str().unwrap().contains("volume work"));
    let empty = json!({"server": "beta", "volumes": "empty"});
    root.post("/spaces/data/move", empty.clone()).await.ok();
    assert!(alpha.space(&data).moving.empty);
    // The home answers: no recovery unless forced, and a recovery overtakes the move.
    root.post("/spaces/data/recover", empty).await.problem("home_answers");
    let forced = json!({"server": "beta", "volumes": "empty", "force": true});
    let shown = root.post("/spaces/data/recover", forced).await.ok();
    assert_eq!((&shown["home"], &shown["moving_to"]), (&json!("beta"), &json!(null)));
    assert_eq!(alpha.space(&data).emptied, alpha.space(&data).placement);
    linked.cut().await;
    let away = root.post("/spaces/web/move", json!({"server": "beta"})).await;
    away.problem("home_unreachable");
}
