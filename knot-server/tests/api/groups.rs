//! Groups, and templates that are kept to them.

use reqwest::StatusCode;
use serde_json::json;

use crate::world::world;

const FILE: &str = "name: lab\nplatform: docker\nimage: busybox\ngroups: [science]\n";

#[tokio::test]
async fn a_template_of_a_group_is_for_its_members_and_admins() {
    let server = world().await;
    let root = server.root().await;
    let problem = root.apply(FILE).await.problem("invalid_template");
    assert_eq!((&problem["line"], &problem["field"]), (&json!(4), &json!("groups")));
    let made = root.post("/groups", json!({"name": "science", "description": "x"})).await;
    assert_eq!(made.status, StatusCode::CREATED);
    root.post("/groups", json!({"name": "science"})).await.problem("name_taken");
    root.apply(FILE).await.ok();
    root.create("mine", "lab").await;

    let (anna, ben) = (server.user("anna").await, server.user("ben").await);
    let added = root.put("/groups/science/members/anna", json!(null)).await.ok();
    assert_eq!(added["members"], json!(["anna"]));
    assert_eq!(anna.get("/templates/lab").await.ok()["groups"], json!(["science"]));
    anna.create("hers", "lab").await;
    ben.get("/templates/lab").await.problem("not_found");
    ben.get("/templates/lab/file").await.problem("not_found");
    ben.get("/templates/lab/revisions").await.problem("not_found");
    assert_eq!(ben.get("/templates").await.ok()["templates"], json!([]));
    ben.post("/spaces", json!({"name": "his", "template": "lab"})).await.problem("not_found");
    assert_eq!(ben.get("/groups").await.ok()["groups"], json!([]));
    assert_eq!(anna.get("/groups").await.ok()["groups"][0]["name"], "science");
    anna.put("/groups/science/members/ben", json!(null)).await.problem("forbidden");

    root.put("/groups/science/members/%FF", json!(null)).await.problem("malformed_request");
    root.delete("/groups/science/members/anna").await.ok();
    anna.get("/templates/lab").await.problem("not_found");
}

#[tokio::test]
async fn a_deleted_group_takes_its_members_along() {
    let server = world().await;
    let root = server.root().await;
    let anna = server.user("anna").await;
    root.post("/groups", json!({"name": "science"})).await.ok();
    root.put("/groups/science/members/anna", json!(null)).await.ok();
    root.apply(FILE).await.ok();
    root.delete("/groups/science").await.problem("group_in_use");
    root.delete("/templates/lab").await;
    assert_eq!(root.delete("/groups/science").await.status, StatusCode::NO_CONTENT);
    // What named it cannot come back by going back.
    let bare = FILE.replace("groups: [science]\n", "");
    root.post("/groups", json!({"name": "later"})).await.ok();
    root.apply(&FILE.replace("lab", "old").replace("science", "later")).await.ok();
    root.apply(&bare.replace("lab", "old")).await.ok();
    root.delete("/groups/later").await.ok();
    let history = root.get("/templates/old/revisions").await.ok();
    let first = json!({"revision": history["revisions"][1]["id"]});
    let refused = root.post("/templates/old/revert", first).await.problem("invalid_template");
    assert!(refused["detail"].as_str().unwrap().contains("later"), "{refused}");
    // The name can be given again, to a group that is empty.
    let again = root.post("/groups", json!({"name": "science"})).await.ok();
    assert_eq!(again["members"], json!([]));
    root.apply(FILE).await.ok();
    anna.get("/templates/lab").await.problem("not_found");
}
