//! The pages: who sees them, and what they show.

use knot_core::{
    id::Id,
    model::{self, ServerStatus},
};
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::world::{Answer, PASSWORD, Server, answer, http, world};

/// Opens a page as a browser without cookies would, or one that is signed in.
async fn open(server: &Server, path: &str, user: Option<&str>) -> Answer {
    let mut request = http().get(server.url(path)).header(header::ACCEPT, "text/html");
    if let Some(user) = user {
        let signed_in = json!({"user": user, "password": PASSWORD});
        let signed_in = server.stranger().post("/sign-in", signed_in).await;
        let cookies = signed_in.headers.get_all(header::SET_COOKIE).iter();
        let cookies: Vec<_> =
            cookies.map(|value| value.to_str().unwrap().split(';').next().unwrap()).collect();
        request = request.header(header::COOKIE, cookies.join("; "));
    }
    answer(request).await
}

#[tokio::test]
async fn strangers_are_sent_to_sign_in_and_back() {
    let server = world().await;
    for (path, to) in [
        ("/", "/sign-in"),
        ("/servers", "/sign-in?next=/servers"),
        (
            "/spaces/web/terminal?renderer=dom",
            "/sign-in?next=/spaces/web/terminal%3Frenderer%3Ddom",
        ),
    ] {
        let sent = open(&server, path, None).await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER, "{path}");
        assert_eq!(sent.headers[header::LOCATION], to);
    }
    let page = open(&server, "/sign-in?next=/spaces/web/terminal%3Frenderer%3Ddom", None).await;
    assert!(page.text.contains("data-next=\"/spaces/web/terminal?renderer=dom\""), "{}", page.text);
    let page = open(&server, "/sign-in?next=//evil.example", None).await;
    assert!(page.text.contains("data-next=\"/\""));
    let sent = open(&server, "/sign-in?next=/servers", Some("root")).await;
    assert_eq!(sent.headers[header::LOCATION], "/servers");
}

#[tokio::test]
async fn pages_show_what_the_api_shows() {
    let server = world().await;
    let root = server.root().await;
    let template = root.template("rust").await;
    let space = root.create("web", "rust").await;
    for (path, words) in [
        ("/", vec!["data-observed=\"created\"", "web", "rust"]),
        (&*format!("/spaces/{space}/terminal"), vec!["data-space", "via alpha"]),
        (
            &*format!("/spaces/{space}"),
            vec!["What it takes up", "nothing yet", "created", "Share with user", "Recover"],
        ),
        ("/spaces/new", vec!["From template <strong>rust</strong>", "Chosen for you", "alpha"]),
        ("/volumes", vec!["New volume", "alpha, docker"]),
        ("/variables", vec!["New variable", "no variables yet"]),
        ("/groups", vec!["New group", "no groups yet"]),
        ("/templates", vec!["rust", "busybox", "New template"]),
        ("/templates/new", vec!["debian:bookworm"]),
        (&*format!("/templates/{template}"), vec!["image: busybox", "Save"]),
        (&*format!("/templates/{template}/history"), vec!["by root", "+busybox", "Go back"]),
        ("/servers", vec!["alpha", "live"]),
    ] {
        let page = open(&server, path, Some("root")).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for word in words {
            assert!(page.text.contains(word), "{path} lacks {word}: {}", page.text);
        }
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("script-src 'self'"));
        assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_has_a_page() {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    let space = root.create("web", "rust").await;
    server.user("anna").await;
    for (path, status) in [
        ("/nowhere".to_owned(), StatusCode::NOT_FOUND),
        ("/templates/none".to_owned(), StatusCode::NOT_FOUND),
        (format!("/spaces/{space}/terminal"), StatusCode::NOT_FOUND),
        (format!("/spaces/{space}"), StatusCode::NOT_FOUND),
        ("/templates/none/history".to_owned(), StatusCode::NOT_FOUND),
        ("/templates/rust/history?after=1&after=2".to_owned(), StatusCode::BAD_REQUEST),
        ("/templates/new".to_owned(), StatusCode::FORBIDDEN),
        ("/spaces/new?template=none".to_owned(), StatusCode::NOT_FOUND),
        ("/spaces/new?template=1&template=2".to_owned(), StatusCode::BAD_REQUEST),
        ("/variables".to_owned(), StatusCode::FORBIDDEN),
        ("/groups".to_owned(), StatusCode::FORBIDDEN),
        ("/volumes".to_owned(), StatusCode::OK),
    ] {
        let page = open(&server, &path, Some("anna")).await;
        assert_eq!(page.status, status, "{path}");
        assert!(page.text.contains("<!doctype html>"), "{path}");
    }
    let page = open(&server, "/", Some("anna")).await;
    assert!(!page.text.contains(&space));
    let page = open(&server, "/templates/rust", Some("anna")).await;
    assert!(page.text.contains("readonly"));
}

#[tokio::test]
async fn pages_show_what_there_is_and_what_may_be_done_with_it() {
    let server = world().await;
    let root = server.root().await;
    server.user("anna").await;
    root.post("/groups", json!({"name": "team", "description": "who builds"})).await.ok();
    root.put("/groups/team/members/anna", json!({})).await.ok();
    root.put("/variables/token", json!({"value": "hunter2", "secret": true})).await.ok();
    let zoned = json!({"value": "proxy.example", "zones": ["north"]});
    root.put("/variables/proxy", zoned).await.ok();
    let file = "name: lab\nplatform: docker\nimage: busybox\ngroups: [team]\nvolumes: {data: /data}\n\
        parameters:\n  branch: {required: true, description: what to check out}\n  key: {type: secret}\n";
    root.apply(file).await.ok();
    root.template("plain").await;
    let given = json!({"branch": "main", "key": "hunter2"});
    let wanted = json!({"name": "web", "template": "lab", "parameters": given});
    let space = root.post("/spaces", wanted).await.ok()["id"].as_str().unwrap().to_owned();
    root.post("/spaces/web/shares", json!({"user": "anna"})).await.ok();
    let volume = json!({"name": "spare", "server": "alpha", "platform": "docker"});
    root.post("/volumes", volume).await.ok();

    let shows = async |user: &str, path: &str, words: &[&str], not: &[&str]| {
        let page = open(&server, path, Some(user)).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for word in words {
            assert!(page.text.contains(word), "{path} lacks {word}: {}", page.text);
        }
        for word in not.iter().chain(&["hunter2", "sealed1."]) {
            assert!(!page.text.contains(word), "{path} has {word}: {}", page.text);
        }
    };
    shows("root", "/variables", &["token", "secret", "proxy.example", "zone north"], &[]).await;
    shows("root", "/groups", &["team", "who builds", "anna", ">lab</a>"], &[]).await;
    let own = ["spare", "attached to no space", "Attach to", ">web</option>", "Delete"];
    shows("root", "/volumes", &own, &["Resize"]).await;
    shows("anna", "/volumes", &["New volume"], &["spare", "/variables"]).await;
    let path = format!("/spaces/{space}");
    let forms = ["value=\"main\"", "what to check out", "Take the secret away", "/unshare"];
    shows("root", &path, &forms, &[]).await;
    shows("anna", &path, &["main"], &["/unshare", "/transfer", "/recover", "Save"]).await;
    shows("root", "/spaces/new", &[">lab<", ">plain<"], &["data-form"]).await;
    let chosen = ["parameters/branch", "what to check out", "type=\"password\""];
    shows("root", "/spaces/new?template=lab", &chosen, &[]).await;
}

#[tokio::test]
async fn a_space_whose_home_has_old_data_says_why_nothing_happens() {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    let space = root.create("web", "rust").await;
    let me = server.replica.me();
    let id = Id::<model::Server>::from_uuid(me.0);
    let mut status: ServerStatus = server.replica.observed(id, me).unwrap();
    status.restored = true;
    server.replica.observe(id, &status).await.unwrap();
    for path in ["/".to_owned(), format!("/spaces/{space}")] {
        let page = open(&server, &path, Some("root")).await;
        assert!(page.text.contains("its server alpha waits: its data was restored"), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_field_that_a_form_has() {
    let server = world().await;
    let root = server.root().await;
    root.apply("name: lab\nplatform: docker\nimage: busybox\nparameters: {n: {type: number}}\n")
        .await
        .ok();
    root.create("web", "lab").await;
    let patch =
        async |path: &str, body| answer(root.request(Method::PATCH, path).json(&body)).await;
    let new = |name, n| json!({"name": name, "template": "lab", "parameters": {"n": n}});
    for (answer, field) in [
        (root.post("/spaces", new("A b", "1")).await, "name"),
        (root.post("/spaces", new("web", "1")).await, "name"),
        (root.post("/spaces", new("two", "many")).await, "parameters/n"),
        (patch("/spaces/web", json!({"name": "A b"})).await, "name"),
        (patch("/spaces/web", json!({"alt_names": {"www": 0}})).await, "alt_names"),
        (patch("/spaces/web", json!({"depends_on": ["web"]})).await, "depends_on"),
        (root.put("/variables/a-b", json!({"value": ""})).await, "name"),
        (root.post("/groups", json!({"name": "A b"})).await, "name"),
    ] {
        assert!(answer.status.is_client_error(), "{field}: {}", answer.text);
        let problem: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(problem["field"], field, "{problem}");
    }
}

#[tokio::test]
async fn the_files_of_a_page_are_there() {
    let server = world().await;
    let page = open(&server, "/sign-in", None).await;
    let files: Vec<_> = page.text.split('"').filter(|text| text.starts_with("/static/")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(open(&server, file, None).await.status, StatusCode::OK, "{file}");
    }
}
