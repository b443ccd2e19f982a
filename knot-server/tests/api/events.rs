//! The stream of events: what is told, to whom, and when it ends.

use knot_core::{
    id::Author,
    model::{Observed, SpaceStatus, Token},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Client, level, link, server, within, world};

/// The events that a client gets.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    pub(crate) async fn of(client: &Client) -> Self {
        let response = client.request(Method::GET, "/events").send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; `None` where the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        within(async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let event = event.to_owned();
                    self.text = rest.to_owned();
                    let field = |name: &str| {
                        let mut lines = event.lines();
                        lines.find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                    };
                    if let Some(name) = field("event: ") {
                        let data = field("data: ").unwrap();
                        return Some((name, serde_json::from_str(&data).unwrap()));
                    }
                    continue;
                }
                let piece = self.response.chunk().await.unwrap()?;
                self.text.push_str(std::str::from_utf8(&piece).unwrap());
            }
        })
        .await
    }

    /// The data of the next event that has this name.
    pub(crate) async fn expect_later(&mut self, name: &str) -> Value {
        loop {
            let (found, data) = self.next().await.unwrap();
            if found == name {
                return data;
            }
        }
    }

    /// The data of the next event, which is to have this name.
    async fn expect(&mut self, name: &str) -> Value {
        let (found, data) = self.next().await.unwrap();
        assert_eq!(found, name, "{data}");
        data
    }
}

#[tokio::test]
async fn changes_arrive_as_the_api_shows_them() {
    let server = world().await;
    let root = server.root().await;
    let mut events = Events::of(&root).await;
    root.template("rust").await;
    assert_eq!(events.expect("template").await["name"], "rust");
    let id = root.create("web", "rust").await;
    let told = events.expect("space").await;
    assert_eq!(told, root.get("/spaces/web").await.ok());
    let status = SpaceStatus {
        state: Observed::Failed,
        cause: Some("why".to_owned()),
        ..SpaceStatus::default()
    };
    server.observe(&id, status).await;
    let told = events.expect("space").await;
    assert_eq!((&told["observed"], &told["cause"]), (&json!("failed"), &json!("why")));
    root.delete(&format!("/spaces/{id}")).await.ok();
    assert_eq!(
        events.expect("space").await["observed"],
        "deleting",
        "until its home has seen to it"
    );
    server.observe(&id, SpaceStatus { state: Observed::Gone, ..SpaceStatus::default() }).await;
    assert_eq!(events.expect("space-deleted").await, json!({"id": id}));
    root.delete("/templates/rust").await.ok();
    events.expect("template-deleted").await;
}

#[tokio::test]
async fn a_changed_template_is_told_with_the_spaces_that_it_marks() {
    let server = world().await;
    let root = server.root().await;
    let template = root.template("rust").await;
    let id = root.create("web", "rust").await;
    let status = SpaceStatus {
        state: Observed::Running,
        revision: server.template(&template).revision(),
        generation: knot_core::generation::Generation { term: 1, n: 1 },
        ..SpaceStatus::default()
    };
    server.observe(&id, status).await;
    let mut events = Events::of(&root).await;
    root.apply("name: rust\nplatform: docker\nimage: alpine\n").await.ok();
    assert_eq!(events.expect("space").await["update_available"], true);
    assert_eq!(events.expect("template").await["image"], "alpine");
}

#[tokio::test]
async fn others_spaces_are_in_no_event() {
    let server = world().await;
    server.root().await.template("rust").await;
    let (anna, bert) = (server.user("anna").await, server.user("bert").await);
    let mut events = Events::of(&bert).await;
    let id = anna.create("secret", "rust").await;
    anna.delete(&format!("/spaces/{id}")).await.ok();
    bert.create("own", "rust").await;
    assert_eq!(events.expect("space").await["name"], "own");
}

#[tokio::test]
async fn a_link_that_is_lost_shows_in_the_spaces_behind_it() {
    let (alpha, beta) = (world().await, server("beta", &["docker"]).await);
    let linked = link(&alpha, &beta).await;
    let root = alpha.root().await;
    root.template("rust").await;
    level(&alpha, &beta).await;
    beta.root().await.create("web", "rust").await;
    level(&beta, &alpha).await;
    let mut events = Events::of(&root).await;
    linked.cut().await;
    let told = events.expect("space").await;
    assert_eq!(
        (&told["observed"], &told["home_reachable"]),
        (&json!("unreachable"), &json!(false))
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_callers_token() {
    let server = world().await;
    let root = server.root().await;
    let mut events = Events::of(&root).await;
    let token = server.replica.list::<Token>().pop().unwrap();
    let author = Author::Server(server.replica.me());
    server.replica.delete(token.id(), author).await.unwrap();
    // Seen at the next event, or within fifteen seconds.
    server.root().await.template("rust").await;
    assert_eq!(events.next().await, None);
}
