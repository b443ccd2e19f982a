//! Parameters: declared by a template, given by the maker of a space.

use serde_json::json;

use crate::world::world;

const FILE: &str = "\
name: lab
platform: docker
image: busybox
parameters:
  size: {type: choice, choices: [small, large], default: small}
  count: {type: number, least: 1, most: 4}
  branch: {pattern: '[a-z]+', required: true, description: what to check out}
  key: {type: secret}
";

#[tokio::test]
async fn values_are_judged_when_a_space_is_made() {
    let server = world().await;
    let root = server.root().await;
    let shown = root.apply(FILE).await.ok();
    assert_eq!(shown["template"]["parameters"].as_array().unwrap().len(), 4);
    for (given, word) in [
        (json!({}), "branch (what to check out)"),
        (json!({"branch": "Main"}), "branch"),
        (json!({"branch": "main", "size": "huge"}), "small, large"),
        (json!({"branch": "main", "count": "9"}), "at most 4"),
        (json!({"branch": "main", "colour": "red"}), "colour"),
    ] {
        let wanted = json!({"name": "web", "template": "lab", "parameters": given});
        let problem = root.post("/spaces", wanted).await.problem("invalid_parameter");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
    let given = json!({"branch": "main", "count": "2", "key": "hunter2"});
    let made =
        root.post("/spaces", json!({"name": "web", "template": "lab", "parameters": given})).await;
    assert!(!made.text.contains("hunter2") && !made.text.contains("sealed1"), "{}", made.text);
    let made = made.ok();
    assert_eq!(made["parameters"], json!({"branch": "main", "count": "2", "key": "sealed"}));
    let stored = server.space(made["id"].as_str().unwrap());
    assert!(stored.parameters["key"].starts_with("sealed1."));
}

#[tokio::test]
async fn a_secret_that_is_given_again_is_no_change() {
    let server = world().await;
    let root = server.root().await;
    root.apply(FILE).await.ok();
    let given = json!({"branch": "main", "key": "hunter2"});
    let wanted = json!({"name": "web", "template": "lab", "parameters": given});
    let id = root.post("/spaces", wanted).await.ok()["id"].as_str().unwrap().to_owned();
    let before = server.space(&id);
    let set = |key: &str| root.put("/spaces/web/parameters", json!({"parameters": {"key": key}}));
    set("hunter2").await.ok();
    assert_eq!(server.space(&id), before);
    set("hunter3").await.ok();
    assert_ne!(server.space(&id), before);
}

#[tokio::test]
async fn values_are_edited_one_by_one() {
    let server = world().await;
    let root = server.root().await;
    root.apply(FILE).await.ok();
    let wanted =
        json!({"name": "web", "template": "lab", "parameters": {"branch": "main", "count": "2"}});
    root.post("/spaces", wanted).await.ok();
    let set = |values| root.put("/spaces/web/parameters", json!({"parameters": values}));
    let shown = set(json!({"count": null, "size": "large"})).await.ok();
    assert_eq!(shown["parameters"], json!({"branch": "main", "size": "large"}));
    set(json!({"branch": null})).await.problem("invalid_parameter");
    set(json!({"size": "huge"})).await.problem("invalid_parameter");
    let anna = server.user("anna").await;
    let path = "/spaces/web/parameters";
    anna.put(path, json!({"parameters": {}})).await.problem("not_found");
}
