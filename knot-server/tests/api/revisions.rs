//! What a template was: its history, differences, going back, and retiring.

use serde_json::json;

use crate::world::world;

const FILE: &str = "\
name: rust
platform: docker
image: rust:1.95
startup_script: |
  one
  two
";

#[tokio::test]
async fn a_history_says_who_changed_what() {
    let server = world().await;
    let root = server.root().await;
    root.apply(FILE).await.ok();
    root.apply(&FILE.replace("1.95", "1.96")).await.ok();
    root.apply(&FILE.replace("1.95", "1.96").replace("two", "three")).await.ok();
    let page = root.get("/templates/rust/revisions?limit=2").await.ok();
    let fields: Vec<_> =
        page["revisions"].as_array().unwrap().iter().map(|one| &one["fields"]).collect();
    assert_eq!(fields, [&json!(["startup_script"]), &json!(["image"])]);
    assert_eq!(page["revisions"][0]["author"], "root");
    let next = page["next"].as_str().unwrap();
    let rest = root.get(&format!("/templates/rust/revisions?after={next}")).await.ok();
    assert_eq!(rest["revisions"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next"], json!(null));

    let last = root.get("/templates/rust/difference").await.ok();
    assert_eq!(last["fields"].as_array().unwrap().len(), 1);
    assert_eq!(last["fields"][0]["text"], "@@ -1,2 +1,2 @@\n one\n-two\n+three\n");
    // What says nothing was not written.
    let made = json!(["image", "name", "platform", "startup_script"]);
    assert_eq!(rest["revisions"][0]["fields"], made);
    let first = rest["revisions"][0]["id"].as_str().unwrap();
    let since = root.get(&format!("/templates/rust/difference?from={}", &first[..12])).await.ok();
    assert_eq!(
        since["fields"][0],
        json!({"field": "image", "from": "rust:1.95", "to": "rust:1.96", "text": null})
    );
    root.get("/templates/rust/difference?from=000000000000").await.problem("not_found");
    root.get("/templates/rust/difference?from=xyz").await.problem("malformed_request");

    let back = root.post("/templates/rust/revert", json!({"revision": &first[..8]})).await.ok();
    assert_eq!(
        (&back["outcome"], &back["template"]["image"]),
        (&json!("changed"), &json!("rust:1.95"))
    );
    let again = root.post("/templates/rust/revert", json!({"revision": first})).await.ok();
    assert_eq!(again["outcome"], "unchanged");
    let anna = server.user("anna").await;
    anna.post("/templates/rust/revert", json!({"revision": first})).await.problem("forbidden");
}

#[tokio::test]
async fn a_retired_template_keeps_its_spaces_and_gets_no_more() {
    let server = world().await;
    let root = server.root().await;
    root.apply(FILE).await.ok();
    let space = root.create("web", "rust").await;
    let retired = root.put("/templates/rust/retired", json!({"retired": true})).await.ok();
    assert_eq!(retired["template"]["retired"], true);
    root.post("/spaces", json!({"name": "more", "template": "rust"}))
        .await
        .problem("template_retired");
    root.post(&format!("/spaces/{space}/start"), json!({})).await.ok();
    root.put("/templates/rust/retired", json!({"retired": false})).await.ok();
    root.create("more", "rust").await;
}

#[tokio::test]
async fn zones_of_a_template_are_honoured() {
    let server = world().await;
    let root = server.root().await;
    root.apply(&format!("{FILE}zones: [moon]\n")).await.ok();
    let refused = root.post("/spaces", json!({"name": "web", "template": "rust"})).await;
    let refused = refused.problem("no_engine");
    assert!(refused["detail"].as_str().unwrap().contains("moon"), "{refused}");
    root.apply(&format!("{FILE}zones: ['!moon']\n")).await.ok();
    root.create("web", "rust").await;
}
