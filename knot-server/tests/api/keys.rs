//! The SSH keys of users.

use knot_core::model::User;
use reqwest::StatusCode;
use serde_json::json;

use crate::world::{Server, link, server, until, world};

const ONE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFG9GJA5ZIS1UXnJFjlmaDKRrRvJEEKjlpXYVSOeVw2x one@laptop";

fn relabelled(label: &str) -> String {
    ONE.replace("one@laptop", label)
}

#[tokio::test]
async fn a_key_is_one_users_and_an_authority_may_be_of_many() {
    let server = world().await;
    let (anna, bert) = (server.user("anna").await, server.user("bert").await);
    let added = anna.post("/me/keys", json!({"key": ONE})).await.ok();
    assert_eq!((&added["label"], &added["kind"]), (&json!("one@laptop"), &json!("ssh-ed25519")));
    let fingerprint = added["fingerprint"].as_str().unwrap().to_owned();
    assert!(fingerprint.starts_with("SHA256:"));
    bert.post("/me/keys", json!({"key": ONE})).await.problem("key_taken");
    let authority = format!("cert-authority {ONE}");
    bert.post("/me/keys", json!({"key": authority})).await.ok();
    assert_eq!(bert.get("/me/keys").await.ok()["keys"][0]["authority"], true);

    // Added again, it is the same with another label.
    anna.post("/me/keys", json!({"key": relabelled("desk")})).await.ok();
    let listed = anna.get("/me/keys").await.ok();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["keys"][0]["label"], "desk");

    bert.delete("/me/keys/desk").await.problem("not_found");
    let gone = anna.delete("/me/keys/desk").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(anna.get("/me/keys").await.ok()["keys"], json!([]));
    anna.delete(&format!("/me/keys/{}", fingerprint.replace('/', "%2F")))
        .await
        .problem("not_found");
}

#[tokio::test]
async fn what_is_no_key_is_refused_by_what_it_is() {
    let server = world().await;
    let anna = server.user("anna").await;
    for (key, said) in [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "private key"),
        ("hello", "no public key"),
        ("ssh-dss AAAA x", "ssh-dss"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA x", "certificate"),
        (&format!("command=\"id\" {ONE}"), "`command`"),
        (&format!("{ONE}\n{ONE}"), "this has 2"),
    ] {
        let refused = anna.post("/me/keys", json!({"key": key})).await.problem("invalid_value");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{key}: {detail}");
    }
    assert_eq!(anna.get("/me/keys").await.ok()["keys"], json!([]));
}

/// The schedule "revoke-against-relabel".
#[tokio::test]
async fn a_key_that_is_removed_stays_so_whatever_is_said_of_it_meanwhile() {
    let (alpha, beta) = (world().await, server("beta", &[]).await);
    let linked = link(&alpha, &beta).await;
    let here = alpha.user("anna").await;
    here.post("/me/keys", json!({"key": ONE})).await.ok();
    let lines = |server: &Server| -> Vec<String> {
        let users = server.replica.list::<User>();
        users.iter().flat_map(|user| user.keys.values().cloned()).collect()
    };
    until(&beta.replica, || !lines(&beta).is_empty()).await;
    let there = beta.signed_in("anna").await;
    linked.cut().await;
    assert_eq!(here.delete("/me/keys/one@laptop").await.status, StatusCode::NO_CONTENT);
    there.post("/me/keys", json!({"key": relabelled("desk")})).await.ok();
    assert_eq!((lines(&alpha).len(), lines(&beta)), (0, vec![relabelled("desk")]));
    let _linked = link(&alpha, &beta).await;
    until(&beta.replica, || lines(&beta).is_empty()).await;
    assert!(lines(&alpha).is_empty());
    for client in [&here, &there] {
        assert_eq!(client.get("/me/keys").await.ok()["keys"], json!([]));
    }
}
