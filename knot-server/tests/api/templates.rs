//! Template files: applying, mistakes, exporting, conflicts, deleting.

use knot_core::model::Template;
use reqwest::{StatusCode, header};
use serde_json::json;

use crate::world::{answer, level, link, server, until, world};

const FILE: &str = "name: rust\nplatform: docker\nimage: rust:1.95\nmemory: 2g\ncpus: 1.5\n";

#[tokio::test]
async fn a_file_creates_changes_or_leaves_a_template() {
    let server = world().await;
    let root = server.root().await;
    let created = root.apply(FILE).await.ok();
    assert_eq!(created["outcome"], "created");
    let template = &created["template"];
    assert_eq!(template["memory"], 2_u64 << 30);
    assert_eq!(template["cpus"], 1.5);
    assert_eq!(root.apply(FILE).await.ok()["outcome"], "unchanged");
    let changed = root.apply(&FILE.replace("1.95", "1.96")).await.ok();
    assert_eq!(changed["outcome"], "changed");
    assert_eq!(changed["template"]["id"], template["id"]);
    assert_ne!(changed["template"]["revision"], template["revision"]);
    // What a file leaves out is empty.
    let least = root.apply("name: rust\nplatform: local\n").await.ok();
    assert_eq!(
        (&least["template"]["memory"], &least["template"]["image"]),
        (&json!(null), &json!(""))
    );
    assert_eq!(root.get("/templates").await.ok()["templates"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_exported_is_unchanged_when_applied() {
    let server = world().await;
    let root = server.root().await;
    root.apply(FILE).await.ok();
    let file = root.get("/templates/rust/file").await;
    assert!(file.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/yaml"));
    assert_eq!(root.apply(&file.text).await.ok()["outcome"], "unchanged", "{}", file.text);
}

#[tokio::test]
async fn a_mistake_is_told_with_its_place() {
    let server = world().await;
    let root = server.root().await;
    let refused = root.apply("name: rust\nplatform: docker\nimage: x\ncolour: red\n").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = refused.problem("invalid_template");
    assert_eq!((&problem["line"], &problem["field"]), (&json!(4), &json!("colour")));
    assert!(problem["column"].as_u64().unwrap() > 0);
    assert!(problem["detail"].as_str().unwrap().starts_with("line 4"), "{problem}");
    assert!(root.get("/templates").await.ok()["templates"].as_array().unwrap().is_empty());
    root.post("/templates", json!({})).await.problem("method_not_allowed");
    let put = root.request(reqwest::Method::PUT, "/templates").json(&json!({}));
    answer(put).await.problem("unsupported_type");
}

#[tokio::test]
async fn all_may_read_and_admins_write() {
    let server = world().await;
    let root = server.root().await;
    root.apply(FILE).await.ok();
    let anna = server.user("anna").await;
    assert_eq!(anna.get("/templates/rust").await.ok()["name"], "rust");
    anna.apply(FILE).await.problem("forbidden");
    anna.delete("/templates/rust").await.problem("forbidden");
}

#[tokio::test]
async fn a_template_that_spaces_are_made_from_stays() {
    let server = world().await;
    let root = server.root().await;
    let template = root.template("rust").await;
    let space = root.create("web", "rust").await;
    let refused = root.delete("/templates/rust").await.problem("template_in_use");
    assert!(refused["detail"].as_str().unwrap().contains("web"));
    root.delete(&format!("/spaces/{space}")).await.ok();
    assert_eq!(root.delete("/templates/rust").await.status, StatusCode::NO_CONTENT);
    root.get(&format!("/templates/{template}")).await.problem("not_found");
}

#[tokio::test]
async fn edits_of_one_field_in_two_partitions_are_a_conflict_until_a_file_settles_it() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let linked = link(&alpha, &beta).await;
    let at_alpha = alpha.root().await;
    let id = at_alpha.apply(FILE).await.ok()["template"]["id"].as_str().unwrap().to_owned();
    level(&alpha, &beta).await;
    let at_beta = beta.root().await;
    linked.cut().await;
    at_alpha.apply(&FILE.replace("1.95", "1.96")).await.ok();
    at_beta.apply(&FILE.replace("1.95", "1.97")).await.ok();
    let _linked = link(&alpha, &beta).await;
    let conflicted = || {
        let template = alpha.replica.get::<Template>(id.parse().unwrap()).unwrap();
        template.conflicts().count() == 1
    };
    until(&alpha.replica, conflicted).await;

    let shown = at_alpha.get("/templates/rust").await.ok();
    let conflict = &shown["conflicts"][0];
    assert_eq!(conflict["field"], "image");
    let mut values: Vec<_> = conflict["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| (value["value"].as_str().unwrap(), value["author"].as_str().unwrap()))
        .collect();
    assert_eq!(values[0].0, shown["image"].as_str().unwrap(), "the one that holds comes first");
    values.sort_unstable();
    assert_eq!(values, [("rust:1.96", "root"), ("rust:1.97", "root")]);

    let file = at_alpha.get("/templates/rust/file").await.text;
    assert_eq!(at_alpha.apply(&file).await.ok()["outcome"], "changed");
    let settled = at_alpha.get("/templates/rust").await.ok();
    assert_eq!(settled["conflicts"], json!([]));
    assert_eq!(settled["image"], shown["image"]);
}
