//! The pages: who sees them, and what they show.

use reqwest::{StatusCode, header};
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
        (&*format!("/spaces/{space}"), vec!["What it takes up", "nothing yet", "created"]),
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
async fn the_files_of_a_page_are_there() {
    let server = world().await;
    let page = open(&server, "/sign-in", None).await;
    let files: Vec<_> = page.text.split('"').filter(|text| text.starts_with("/static/")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(open(&server, file, None).await.status, StatusCode::OK, "{file}");
    }
}
