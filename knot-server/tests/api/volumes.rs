//! Volumes that users make, attach, keep and delete; the engines are played by records.

use knot_core::{
    id::{Author, Id},
    model::{Adopted, Desired, Placement, ServerStatus, Space, Volume, VolumeStatus},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{Answer, Client, Server, answer, world};

async fn patch(client: &Client, path: &str, body: Value) -> Answer {
    answer(client.request(Method::PATCH, path).json(&body)).await
}

async fn anna() -> (Server, Client, Client) {
    let server = world().await;
    server.root().await.template("rust").await;
    let (anna, bert) = (server.user("anna").await, server.user("bert").await);
    (server, anna, bert)
}

fn wanted(name: &str) -> Value {
    json!({"name": name, "server": "alpha", "platform": "docker"})
}

#[tokio::test]
async fn a_volume_of_ones_own_is_made_attached_detached_and_deleted() {
    let (server, anna, bert) = anna().await;
    let made = anna.post("/volumes", wanted("cache")).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let made = made.ok();
    assert_eq!((&made["state"], &made["space"]), (&json!("wanted"), &json!("")));
    let id: Id<Volume> = made["id"].as_str().unwrap().parse().unwrap();
    let engine_id = Some(id.to_string());
    let there = VolumeStatus { engine_id, ..VolumeStatus::default() };
    server.replica.observe(id, &there).await.unwrap();
    assert_eq!(anna.get("/volumes").await.ok()["volumes"][0]["state"], "present");
    // What is said of it for people does not make it anything.
    let cause = Some("it cannot be resized any more".to_owned());
    let said = VolumeStatus { cause, ..there.clone() };
    server.replica.observe(id, &said).await.unwrap();
    assert_eq!(anna.get("/volumes").await.ok()["volumes"][0]["state"], "present");
    server.replica.observe(id, &VolumeStatus { lost: true, ..there }).await.unwrap();
    assert_eq!(anna.get("/volumes").await.ok()["volumes"][0]["state"], "missing");
    assert_eq!(bert.get("/volumes").await.ok()["volumes"], json!([]));
    anna.post("/volumes", wanted("cache")).await.problem("name_taken");
    let nowhere = json!({"name": "x", "server": "alpha", "platform": "nomad"});
    anna.post("/volumes", nowhere).await.problem("no_engine");
    let sized = json!({"name": "x", "server": "alpha", "platform": "docker", "size": 1_000_000});
    anna.post("/volumes", sized).await.problem("not_supported");

    anna.create("web", "rust").await;
    let attach = json!({"space": "web", "path": "/cache"});
    bert.post("/volumes/cache/attach", attach.clone()).await.problem("not_found");
    for path in ["cache", "/", "/a/../b", "", "/.knot", "/.knot/x"] {
        let attach = json!({"space": "web", "path": path});
        anna.post("/volumes/cache/attach", attach).await.problem("invalid_value");
    }
    let shown = anna.post("/volumes/cache/attach", attach.clone()).await.ok();
    assert_eq!((&shown["space"], &shown["path"]), (&json!("web"), &json!("/cache")));
    anna.post("/volumes/cache/attach", attach).await.problem("volume_in_use");
    anna.delete("/volumes/cache").await.problem("volume_in_use");
    anna.post("/volumes/cache/detach", json!(null)).await.ok();
    assert_eq!(anna.delete("/volumes/cache").await.status, StatusCode::NO_CONTENT);
    assert!(server.replica.grave(id).is_some());
}

#[tokio::test]
async fn at_one_path_of_a_space_there_is_one_thing() {
    let (server, anna, _) = anna().await;
    let root = server.root().await;
    let file = "name: full\nplatform: docker\nimage: busybox\nvolumes: {data: /data}\nmounts: {/srv: /srv/x}\n";
    root.apply(file).await.ok();
    anna.create("web", "full").await;
    anna.create("other", "full").await;
    for name in ["one", "two"] {
        anna.post("/volumes", wanted(name)).await.ok();
    }
    let attach = async |name: &str, space: &str, path: &str| {
        anna.post(&format!("/volumes/{name}/attach"), json!({"space": space, "path": path})).await
    };
    for (path, what) in [("/data", "volume data"), ("/srv", "mounts")] {
        let refused = attach("one", "web", path).await.problem("invalid_value");
        assert!(refused["detail"].as_str().unwrap().contains(what), "{refused}");
    }
    attach("one", "web", "/cache").await.ok();
    let refused = attach("two", "web", "/cache").await.problem("invalid_value");
    assert!(refused["detail"].as_str().unwrap().contains("volume one"), "{refused}");
    attach("two", "other", "/cache").await.ok();
    root.apply("name: plain\nplatform: local\n").await.ok();
    anna.create("here", "plain").await;
    anna.post("/volumes", wanted("three")).await.ok();
    let refused = attach("three", "here", "/cache").await.problem("invalid_value");
    assert!(refused["detail"].as_str().unwrap().contains("runs on local"), "{refused}");
}

#[tokio::test]
async fn a_templates_volume_is_kept_or_goes_with_its_space() {
    let (server, anna, _) = anna().await;
    let space = anna.create("web", "rust").await;
    let id = Volume::id_of(space.parse().unwrap(), "data");
    let of = space.parse().unwrap();
    let author = Author::Server(server.replica.me());
    let me = server.replica.me();
    let put = server.replica.put(id, author, move |edit| {
        edit.set(Volume::name, "data".to_owned());
        edit.set(Volume::space, of);
        edit.set(Volume::platform, "docker".to_owned());
        edit.set(Volume::server, Id::from_uuid(me.0));
        Ok(())
    });
    put.await.unwrap();
    assert_eq!(patch(&anna, "/volumes/web:data", json!({"keep": true})).await.ok()["keep"], true);
    patch(&anna, "/volumes/web:data", json!({"size": 5})).await.problem("not_supported");
    let refused = anna.delete("/volumes/web:data").await.problem("volume_in_use");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("delete the space") && !detail.contains("detach"), "{detail}");
    anna.post("/volumes/web:data/detach", json!(null)).await.problem("volume_in_use");
    // What was set aside is listed by its own name, and discarded by it.
    let aside = ["old".to_owned()].into();
    let status = VolumeStatus { engine_id: Some(id.to_string()), aside, ..VolumeStatus::default() };
    server.replica.observe(id, &status).await.unwrap();
    let rows = anna.get("/volumes").await.ok()["volumes"].clone();
    let states: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["state"]).collect();
    assert_eq!(states, [&json!("present"), &json!("aside")]);
    let discard = |engine_id: &str| json!({"engine_id": engine_id});
    anna.post("/volumes/web:data/discard", discard("other")).await.problem("not_found");
    anna.post("/volumes/web:data/discard", discard("old")).await.ok();
    assert!(server.replica.get(id).unwrap().discard.contains("old"));
}

/// A space of anna's that began anew here, and what was set aside for its volume.
async fn begun_anew(server: &Server, anna: &Client, aside: &[Uuid]) -> (Id<Space>, Id<Volume>) {
    let space: Id<Space> = anna.create("web", "rust").await.parse().unwrap();
    let (id, me) = (Volume::id_of(space, "data"), server.replica.me());
    let author = Author::Server(me);
    let put = server.replica.put(id, author, move |edit| {
        edit.set(Volume::name, "data".to_owned());
        edit.set(Volume::space, space);
        edit.set(Volume::platform, "docker".to_owned());
        edit.set(Volume::server, Id::from_uuid(me.0));
        Ok(())
    });
    put.await.unwrap();
    let emptied = Placement { term: 1, server: me };
    let edit = server.replica.edit(space, author, move |edit| {
        edit.set(Space::emptied, emptied);
        Ok(())
    });
    edit.await.unwrap();
    let engine_id = Some(Volume::engine_id_of(id, emptied).to_string());
    let aside = aside.iter().map(Uuid::to_string).collect();
    let status = VolumeStatus { engine_id, aside, ..VolumeStatus::default() };
    server.replica.observe(id, &status).await.unwrap();
    (space, id)
}

#[tokio::test]
async fn what_was_set_aside_is_adopted_by_a_space_that_is_stopped() {
    let (server, anna, bert) = anna().await;
    let old = Uuid::from_u128(7);
    let (space, id) = begun_anew(&server, &anna, &[old]).await;
    let to = "/volumes/web:data/adopt";
    bert.post(to, json!({})).await.problem("not_found");
    bert.post(&format!("/volumes/{old}/adopt"), json!({})).await.problem("not_found");
    let other = json!({"engine_id": Uuid::from_u128(8)});
    anna.post(to, other).await.problem("not_found");
    let rows = anna.get("/volumes").await.ok()["volumes"].clone();
    assert_eq!((&rows[1]["state"], &rows[1]["engine_id"]), (&json!("aside"), &json!(old)));
    assert!(rows[1]["cause"].as_str().unwrap().contains("adopted or deleted"), "{rows}");

    let want = async |desired| {
        let edit = server.replica.edit(space, Author::Server(server.replica.me()), move |edit| {
            edit.set(Space::desired, desired);
            Ok(())
        });
        edit.await.unwrap();
    };
    want(Desired::Running).await;
    let refused = anna.post(to, json!({})).await.problem("volume_in_use");
    assert!(refused["detail"].as_str().unwrap().contains("stop the space"), "{refused}");
    want(Desired::Stopped).await;
    // What its engine calls it says enough.
    anna.post(&format!("/volumes/{old}/adopt"), json!({})).await.ok();
    let adopted = server.replica.get(id).unwrap().adopted.unwrap();
    let emptied = server.replica.get(space).unwrap().emptied;
    assert_eq!(adopted, Adopted { engine: old, emptied });
    // It is its space's: it is deleted by nobody who has not heard of that.
    let discard = json!({"engine_id": old});
    anna.post("/volumes/web:data/discard", discard).await.problem("volume_in_use");
    let rows = anna.get("/volumes").await.ok()["volumes"].clone();
    assert!(rows.as_array().unwrap().iter().all(|row| row["state"] != "aside"), "{rows}");
}

#[tokio::test]
async fn of_several_that_were_set_aside_one_is_named() {
    let (server, anna, _) = anna().await;
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let (_, id) = begun_anew(&server, &anna, &[one, two]).await;
    let to = "/volumes/web:data/adopt";
    let refused = anna.post(to, json!({})).await.problem("ambiguous_name");
    assert!(refused["detail"].as_str().unwrap().contains(&two.to_string()), "{refused}");
    // One that is being deleted is not had back.
    anna.post("/volumes/web:data/discard", json!({"engine_id": two})).await.ok();
    anna.post(to, json!({"engine_id": two})).await.problem("volume_in_use");
    anna.post(to, json!({"engine_id": one})).await.ok();
    assert_eq!(server.replica.get(id).unwrap().adopted.unwrap().engine, one);
    // A user's own volume is attached, not adopted.
    anna.post("/volumes", wanted("cache")).await.ok();
    anna.post("/volumes/cache/adopt", json!({})).await.problem("volume_in_use");
}

#[tokio::test]
async fn orphans_are_shown_to_admins() {
    let (server, anna, _) = anna().await;
    let id = Id::<knot_core::model::Server>::from_uuid(server.replica.me().0);
    let stray = ("docker".to_owned(), "knot-x-1".to_owned());
    let status = ServerStatus { strays: [stray].into(), ..ServerStatus::default() };
    server.replica.observe(id, &status).await.unwrap();
    assert_eq!(anna.get("/volumes").await.ok()["orphans"], json!([]));
    let orphan = json!({"server": "alpha", "platform": "docker", "engine_id": "knot-x-1"});
    assert_eq!(server.root().await.get("/volumes").await.ok()["orphans"], json!([orphan]));
}
