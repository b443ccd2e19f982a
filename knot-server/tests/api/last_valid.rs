//! `last-valid`: two valid template edits that merge to an invalid one.

use knot_core::model::Template;
use serde_json::{Value, json};

use crate::{
    events::Events,
    world::{level, link, server, until, within, world},
};

const FILE: &str = "name: rust\nplatform: docker\nimage: rust:1\n";

#[tokio::test]
async fn every_server_uses_the_same_revision_until_it_is_settled() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let linked = link(&alpha, &beta).await;
    let at_alpha = alpha.root().await;
    let id = at_alpha.apply(FILE).await.ok()["template"]["id"].as_str().unwrap().to_owned();
    level(&alpha, &beta).await;
    let at_beta = beta.root().await;
    linked.cut().await;
    // Each is valid; both volumes at one path are not.
    let one = at_alpha.apply(&format!("{FILE}volumes:\n  a: /data\n")).await.ok();
    let other = at_beta.apply(&format!("{FILE}volumes:\n  b: /data\n")).await.ok();
    let mut events = Events::of(&at_alpha).await;
    let _linked = link(&alpha, &beta).await;
    // Whoever follows hears of the revision that is used once it is found.
    while !events.expect_later("template").await["invalid"]["used"].is_string() {}
    for server in [&alpha, &beta] {
        let merged = || {
            let template = server.replica.get::<Template>(id.parse().unwrap()).unwrap();
            template.volumes.len() == 2
        };
        until(&server.replica, merged).await;
    }
    let mut shown: Vec<Value> = Vec::new();
    for client in [&at_alpha, &at_beta] {
        // It is looked for in the background.
        let found = within(async {
            loop {
                let template = client.get("/templates/rust").await.ok();
                if template["invalid"]["used"].is_string() {
                    return template;
                }
                tokio::task::yield_now().await;
            }
        });
        shown.push(found.await);
    }
    assert_eq!(shown[0]["revision"], shown[1]["revision"]);
    assert_eq!(shown[0]["invalid"], shown[1]["invalid"]);
    let revisions = [&one["template"]["revision"], &other["template"]["revision"]];
    assert!(revisions.contains(&&shown[0]["revision"]), "{}", shown[0]);
    assert!(shown[0]["invalid"]["problems"][0]["why"].as_str().unwrap().contains("/data"));
    let history = at_alpha.get("/templates/rust/revisions").await.ok();
    let used =
        history["revisions"].as_array().unwrap().iter().find(|one| one["used_for_invalid"] == true);
    assert_eq!(used.unwrap()["id"], shown[0]["invalid"]["used"]);

    // Spaces are still made and started, and a file settles it.
    at_beta.create("web", "rust").await;
    let settled = at_alpha.apply(&format!("{FILE}volumes:\n  b: /data\n")).await.ok();
    assert_eq!(settled["template"]["invalid"], json!(null));
}

#[tokio::test]
async fn edits_of_two_entries_merge() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let linked = link(&alpha, &beta).await;
    let at_alpha = alpha.root().await;
    let base = format!("{FILE}environment: {{A: 1, B: 1}}\nports: {{x: 80/http}}\n");
    let id = at_alpha.apply(&base).await.ok()["template"]["id"].as_str().unwrap().to_owned();
    level(&alpha, &beta).await;
    let at_beta = beta.root().await;
    linked.cut().await;
    at_alpha.apply(&base.replace("A: 1", "A: 2")).await.ok();
    at_beta.apply(&base.replace("B: 1", "B: 2").replace("80", "81")).await.ok();
    let _linked = link(&alpha, &beta).await;
    let merged = || {
        let template = alpha.replica.get::<Template>(id.parse().unwrap()).unwrap();
        let environment: Vec<_> = template.environment.values().map(String::as_str).collect();
        environment == ["2", "2"] && template.ports["x"].number == 81
    };
    until(&alpha.replica, merged).await;
    assert_eq!(at_alpha.get("/templates/rust").await.ok()["conflicts"], json!([]));
}
