//! Variables: set, listed, sealed, named by templates.

use knot_core::model::{Space, Template, Variable};
use reqwest::StatusCode;
use serde_json::json;

use crate::world::{level, link, server, until, world};

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
    let difference = root.get("/templates/a/difference").await.ok();
    let password = json!({
        "field": "registry_password", "from": "sealed", "to": "sealed, another", "text": null,
    });
    assert_eq!(difference["fields"], json!([password]), "it is said that it is another");
    for path in ["/templates/a", "/templates", "/templates/a/revisions", "/templates/a/difference"]
    {
        let text = root.get(path).await.text;
        assert!(!text.contains("hunter") && !text.contains("sealed1"), "{path}: {text}");
    }
}

#[tokio::test]
async fn secrets_in_conflict_are_sealed_in_every_answer() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let root = alpha.root().await;
    let file = |password: &str| {
        let registry = format!("registry: {{user: me, password: {password}}}\n");
        format!(
            "name: a\nplatform: docker\nimage: busybox\n{registry}parameters: {{key: {{type: secret}}}}\n"
        )
    };
    let id = root.apply(&file("hunter1")).await.ok()["template"]["id"].clone();
    let id = id.as_str().unwrap().parse().unwrap();
    let space = root.create("web", "a").await;
    let key = |value: &str| json!({"parameters": {"key": value}});
    root.put("/spaces/web/parameters", key("hunter1")).await.ok();
    root.put("/variables/key", json!({"value": "hunter1", "secret": true})).await.ok();
    let linked = link(&alpha, &beta).await;
    level(&alpha, &beta).await;
    until(&beta.replica, || beta.replica.list::<Variable>().len() == 1).await;
    until(&beta.replica, || beta.space(&space).parameters.contains_key("key")).await;
    let there = beta.root().await;
    linked.cut().await;
    for (client, secret) in [(&root, "hunter2"), (&there, "hunter3")] {
        client.apply(&file(secret)).await.ok();
        client.put("/spaces/web/parameters", key(secret)).await.ok();
        client.put("/variables/key", json!({"value": secret, "secret": true})).await.ok();
    }
    let _linked = link(&alpha, &beta).await;
    let replica = &alpha.replica;
    until(replica, || {
        let variable = replica.list::<Variable>().pop();
        replica.get::<Template>(id).is_some_and(|one| one.conflicts().count() == 1)
            && replica
                .get::<Space>(space.parse().unwrap())
                .is_some_and(|one| one.conflicts().count() == 1)
            && variable.is_some_and(|one| one.conflicts().count() == 1)
    })
    .await;
    for path in ["/templates/a", "/spaces/web", "/variables"] {
        let text = root.get(path).await.text;
        assert!(!text.contains("hunter") && !text.contains("sealed1"), "{path}: {text}");
        assert!(text.contains(r#""value":"sealed""#), "{path}: {text}");
    }
}
