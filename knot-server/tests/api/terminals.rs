//! Terminals that a space keeps: a WebSocket on one side, an agent that is reached by one way after another on the
//! other.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use knot_core::{
    agent::{
        self, Answer, Attach, Attached, Exit, FromTerminal, Open, Refusal, TerminalInfo, ToTerminal,
    },
    clock::Millis,
    wire::{self, MAX_AGENT_FRAME},
};
use knot_server::api::ReachError;
use serde_json::{Value, json};
use tokio::{io::DuplexStream, net::TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use uuid::Uuid;

use crate::world::{Client, Server, answer, within, world};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const TERMINAL: Uuid = Uuid::from_u128(7);
const SIZE: agent::TerminalSize = agent::TerminalSize { columns: 80, rows: 24 };

async fn space() -> (Server, Client) {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    root.create("web", "rust").await;
    (server, root)
}

async fn view(server: &Server, client: &Client, from: Option<u64>, make: Value) -> Socket {
    let address = format!("ws://{}/api/v1/spaces/web/terminals/{TERMINAL}", server.address);
    let mut request = address.into_client_request().unwrap();
    let token = client.token.as_deref().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (mut socket, _) = within(tokio_tungstenite::connect_async(request)).await.unwrap();
    let view = json!({
        "make": make, "viewer": Uuid::from_u128(8), "size": {"columns": 80, "rows": 24},
        "from": from, "sent": 0,
    });
    socket.send(Message::text(view.to_string())).await.unwrap();
    socket
}

/// The agent's end of the next way to it, which it takes.
async fn attached(server: &Server, from: Option<u64>, taken: u64) -> (DuplexStream, Attach) {
    let (_, mut agent) = server.agents.session().await;
    let open = within(wire::read_frame(&mut agent, MAX_AGENT_FRAME)).await.unwrap().unwrap();
    let Open::Attach(attach) = open else { panic!("{open:?}") };
    assert_eq!((attach.terminal, attach.viewer), (TERMINAL, Uuid::from_u128(8)));
    say(&mut agent, &Answer::Ready).await;
    say(&mut agent, &Attached { from, head: 0, taken, size: SIZE, leads: true }).await;
    (agent, attach)
}

async fn say(agent: &mut DuplexStream, frame: &impl serde::Serialize) {
    within(wire::write_frame(agent, frame, MAX_AGENT_FRAME)).await.unwrap();
}

async fn hear(agent: &mut DuplexStream) -> Option<ToTerminal> {
    within(wire::read_frame(agent, MAX_AGENT_FRAME)).await.unwrap()
}

fn output(text: &'static str) -> FromTerminal {
    FromTerminal::Output(Bytes::from_static(text.as_bytes()))
}

fn input(offset: u64, text: &'static str) -> Option<ToTerminal> {
    Some(ToTerminal::Input { offset, bytes: Bytes::from_static(text.as_bytes()) })
}

/// The next message that is no ping.
async fn next(socket: &mut Socket) -> Message {
    within(async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Ping(_) => {}
                message => return message,
            }
        }
    })
    .await
}

async fn told(socket: &mut Socket) -> Value {
    let Message::Text(text) = next(socket).await else { panic!("text is wanted") };
    serde_json::from_str(&text).unwrap()
}

/// Why it is over, and that the close code says the same.
async fn over(socket: &mut Socket) -> (String, u16) {
    let over = told(socket).await["over"].clone();
    let Message::Close(Some(frame)) = next(socket).await else { panic!("a close frame") };
    (over["reason"].as_str().unwrap().to_owned(), frame.code.into())
}

#[tokio::test]
async fn a_way_that_breaks_is_replaced_and_the_client_notices_nothing() {
    let (server, root) = space().await;
    let make = json!({"name": "build", "command": ["make"], "environment": {"A": "b"}});
    let mut socket = view(&server, &root, None, make).await;
    let (mut agent, attach) = attached(&server, Some(0), 0).await;
    let make = attach.make.unwrap();
    assert_eq!((attach.from, make.name.as_str()), (None, "build"));
    assert_eq!(make.run.command, agent::Command::Program(vec!["make".to_owned()]));
    let place = told(&mut socket).await;
    assert_eq!(place["attached"]["from"], 0, "{place}");

    say(&mut agent, &output("one")).await;
    assert_eq!(next(&mut socket).await, Message::binary(&b"one"[..]));
    socket.send(Message::binary(&b"abc"[..])).await.unwrap();
    assert_eq!(hear(&mut agent).await, input(0, "abc"));
    say(&mut agent, &FromTerminal::Taken(2)).await;
    assert_eq!(told(&mut socket).await, json!({"taken": 2}));
    socket.send(Message::text(r#"{"resize":{"columns":100,"rows":30}}"#)).await.unwrap();
    let size = agent::TerminalSize { columns: 100, rows: 30 };
    assert_eq!(hear(&mut agent).await, Some(ToTerminal::Resize(size)));
    drop(agent);

    // Another way goes on where this one ended, and is sent what was not taken.
    let (mut agent, attach) = attached(&server, Some(3), 2).await;
    assert_eq!((attach.from, attach.sent, attach.size), (Some(3), 2, size));
    assert_eq!(attach.make, None, "it is made once");
    assert_eq!(hear(&mut agent).await, input(2, "c"));
    say(&mut agent, &output("two")).await;
    say(&mut agent, &FromTerminal::Ended(Exit::Code(3))).await;
    let mut rest = Vec::new();
    let last = loop {
        match next(&mut socket).await {
            Message::Binary(bytes) => rest.extend_from_slice(&bytes),
            Message::Text(text) if text.contains("over") => break text,
            Message::Text(_) => {}
            other => panic!("{other}"),
        }
    };
    assert_eq!(rest, b"two");
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (&last["over"]["reason"], &last["over"]["exit"]),
        (&json!("ended"), &json!({"code": 3}))
    );
    assert!(
        matches!(next(&mut socket).await, Message::Close(Some(frame)) if u16::from(frame.code) == 4_000)
    );
    drop(socket);
    assert!(server.app.sessions_ended(crate::world::BOUND).await);
}

#[tokio::test]
async fn half_a_snapshot_is_asked_for_again() {
    let (server, root) = space().await;
    let mut socket = view(&server, &root, None, Value::Null).await;
    let (mut agent, _) = attached(&server, None, 0).await;
    say(&mut agent, &FromTerminal::Snapshot { at: 50, length: 6 }).await;
    say(&mut agent, &output("abc")).await;
    told(&mut socket).await;
    assert_eq!(told(&mut socket).await, json!({"snapshot": {"at": 50, "length": 6}}));
    assert_eq!(next(&mut socket).await, Message::binary(&b"abc"[..]));
    drop(agent);
    let (mut agent, attach) = attached(&server, None, 0).await;
    assert_eq!(attach.from, None);
    say(&mut agent, &FromTerminal::Snapshot { at: 60, length: 3 }).await;
    say(&mut agent, &output("xyz")).await;
    say(&mut agent, &output("on")).await;
    while !matches!(next(&mut socket).await, Message::Binary(bytes) if bytes == "on") {}
    drop(agent);
    let (_agent, attach) = attached(&server, Some(62), 0).await;
    assert_eq!(attach.from, Some(62));
}

#[tokio::test]
async fn every_end_has_a_word_and_a_code() {
    let (server, root) = space().await;
    for (frame, reason, code) in [
        (FromTerminal::Ended(Exit::Signal(9)), "ended", 4_000),
        (FromTerminal::Stopping, "space_stopped", 4_001),
        (FromTerminal::Replaced, "replaced", 4_006),
    ] {
        let mut socket = view(&server, &root, Some(0), Value::Null).await;
        let (mut agent, _) = attached(&server, Some(0), 0).await;
        told(&mut socket).await;
        say(&mut agent, &frame).await;
        assert_eq!(over(&mut socket).await, (reason.to_owned(), code));
    }
    for (refusal, reason, code) in
        [(Refusal::NotFound, "unknown_terminal", 4_004), (Refusal::TooMany, "refused", 4_007)]
    {
        let mut socket = view(&server, &root, Some(0), Value::Null).await;
        let (_, mut agent) = server.agents.session().await;
        say(&mut agent, &Answer::Refused { refusal, why: "no".to_owned() }).await;
        assert_eq!(over(&mut socket).await, (reason.to_owned(), code));
    }

    let anna = server.user("anna").await;
    root.post("/spaces/web/shares", json!({"user": "anna"})).await.ok();
    let mut hers = view(&server, &anna, Some(0), Value::Null).await;
    let (_agent, _) = attached(&server, Some(0), 0).await;
    told(&mut hers).await;
    root.post("/spaces/web/unshare", json!({"user": "anna"})).await.ok();
    assert_eq!(over(&mut hers).await, ("access_lost".to_owned(), 4_002));

    root.apply("name: rust\nplatform: docker\nimage: busybox\nfeatures: {terminal: false}\n")
        .await
        .ok();
    let mut socket = view(&server, &root, Some(0), Value::Null).await;
    assert_eq!(over(&mut socket).await, ("turned_off".to_owned(), 4_005));
    root.get("/spaces/web/terminals").await.problem("forbidden");
    root.apply("name: rust\nplatform: docker\nimage: busybox\n").await.ok();

    let mut socket = view(&server, &root, Some(0), Value::Null).await;
    let (_agent, _) = attached(&server, Some(0), 0).await;
    told(&mut socket).await;
    server.agents.refuse(ReachError::NotRunning);
    let mut other = view(&server, &root, Some(0), Value::Null).await;
    assert_eq!(over(&mut other).await, ("space_stopped".to_owned(), 4_001));
    server.app.drain.cancel();
    assert_eq!(over(&mut socket).await, ("server_going".to_owned(), 4_003));
}

#[tokio::test]
async fn terminals_are_listed_named_and_ended() {
    let (server, root) = space().await;
    let info = TerminalInfo {
        id: TERMINAL,
        name: "build".to_owned(),
        command: "make".to_owned(),
        size: SIZE,
        viewers: 2,
        since: Millis(0),
    };
    let agent = async |answer: Answer| {
        let (_, mut agent) = server.agents.session().await;
        let open: Open =
            within(wire::read_frame(&mut agent, MAX_AGENT_FRAME)).await.unwrap().unwrap();
        say(&mut agent, &answer).await;
        if open == Open::Terminals {
            say(&mut agent, &vec![info.clone()]).await;
        }
        open
    };
    let (list, open) = tokio::join!(root.get("/spaces/web/terminals"), agent(Answer::Ready));
    assert_eq!(open, Open::Terminals);
    let list = list.ok();
    let wanted = json!({
        "id": TERMINAL, "name": "build", "command": "make", "size": {"columns": 80, "rows": 24},
        "viewers": 2, "since": "1970-01-01T00:00:00.000Z",
    });
    assert_eq!(list["terminals"][0], wanted);

    let path = format!("/spaces/web/terminals/{TERMINAL}");
    let edit = root.request(reqwest::Method::PATCH, &path).json(&json!({"name": "tests"}));
    let (edited, open) = tokio::join!(answer(edit), agent(Answer::Ready));
    assert_eq!(edited.status, 204, "{}", edited.text);
    assert_eq!(open, Open::Rename { terminal: TERMINAL, name: "tests".to_owned() });

    let refused = Answer::Refused { refusal: Refusal::NotFound, why: "gone".to_owned() };
    let (ended, open) = tokio::join!(root.delete(&path), agent(refused));
    ended.problem("not_found");
    assert_eq!(open, Open::End(TERMINAL));
}
