//! Variables: set, listed, sealed, named by templates.

use knot_core::model::Variable;
use reqwest::StatusCode;
use serde_json::json;

use crate::world::world;

#[tokio::test]
async fn admins_set_list_and_delete_variables() {
    let server = world().await;
    let root = server.root().await;
    let set = root.put("/variables/proxy", json!({"value": "http://proxy"})).await.ok();
    assert_eq!((&set["value"], &set["secret"]), (&json!("http://proxy"), &json!(false)));
    let zoned = json!({"value": "http://near", "zones": ["eu"]});
    let near = root.put("/variables/proxy", zoned.clone()).await.ok();
    assert_ne!(near["id"], set["id"]);
    assert_eq!(root.put("/variables/proxy", zoned).await.ok()["id"], near["id"]);
    assert_eq!(root.get("/variables").await.ok()["variables"].as_array().unwrap().len(), 2);
    root.delete("/variables/proxy").await.problem("ambiguous_name");
    let path = format!("/variables/{}", near["id"].as_str().unwrap());
    assert_eq!(root.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(root.delete("/variables/proxy").await.status, StatusCode::NO_CONTENT);
    root.delete("/variables/proxy").await.problem("not_found");
    // The name can be given again.
    let again = root.put("/variables/proxy", json!({"value": "x"})).await.ok();
    assert_ne!(again["id"], set["id"]);
    root.put("/variables/no-dash", json!({"value": "x"})).await.problem("invalid_name");
    let anna = server.user("anna").await;
    anna.get("/variables").await.problem("forbidden");
    anna.put("/variables/proxy", json!({"value": "x"})).await.problem("forbidden");
    anna.delete("/variables/proxy").await.problem("forbidden");
}

#[tokio::test]
async fn a_secret_is_sealed_and_never_shown() {
    let server = world().await;
    let root = server.root().await;
    let set = root.put("/variables/key", json!({"value": "hunter2", "secret": true})).await;
    assert!(!set.text.contains("hunter2"));
    let shown = root.get("/variables").await;
    assert!(!shown.text.contains("hunter2") && !shown.text.contains("sealed1"), "{}", shown.text);
    assert_eq!(shown.json()["variables"][0]["value"], json!(null));
    let stored = server.replica.list::<Variable>().pop().unwrap();
    assert!(stored.secret.is_some() && stored.value.is_empty());
    // The same again is no change.
    let heads = stored.heads().to_vec();
    root.put("/variables/key", json!({"value": "hunter2", "secret": true})).await.ok();
    assert_eq!(server.replica.list::<Variable>().pop().unwrap().heads(), heads);
}

#[tokio::test]
async fn a_template_names_variables_that_there_are() {
    let server = world().await;
    let root = server.root().await;
    let file =
        "name: a\nplatform: docker\nimage: busybox\nenvironment:\n  PROXY: ${{ .var.proxy }}\n";
    let problem = root.apply(file).await.problem("invalid_template");
    assert_eq!((&problem["line"], &problem["field"]), (&json!(5), &json!("environment")));
    assert!(problem["detail"].as_str().unwrap().contains("proxy"));
    root.put("/variables/proxy", json!({"value": "http://proxy"})).await.ok();
    root.apply(file).await.ok();
    let id = root.create("web", "a").await;
    root.post(&format!("/spaces/{id}/start"), json!({})).await.ok();
    assert!(!server.space(&id).variables_seen.is_empty(), "the home knows what to wait for");
}

#[tokio::test]
async fn a_registrys_password_is_sealed_and_stays() {
    let server = world().await;
    let root = server.root().await;
    let file =
        "name: a\nplatform: docker\nimage: busybox\nregistry:\n  user: me\n  password: hunter2\n";
    root.apply(&file.replace("hunter2", "sealed")).await.problem("invalid_template");
    assert_eq!(root.apply(file).await.ok()["outcome"], "created");
    assert_eq!(root.apply(file).await.ok()["outcome"], "unchanged");
    let exported = root.get("/templates/a/file").await.text;
    assert!(exported.contains("sealed") && !exported.contains("hunter2"), "{exported}");
    assert_eq!(root.apply(&exported).await.ok()["outcome"], "unchanged");
    let changed = file.replace("hunter2", "hunter3");
    assert_eq!(root.apply(&changed).await.ok()["outcome"], "changed");
    for path in ["/templates/a", "/templates", "/templates/a/revisions", "/templates/a/difference"]
    {
        let text = root.get(path).await.text;
        assert!(!text.contains("hunter") && !text.contains("sealed1"), "{path}: {text}");
    }
}
