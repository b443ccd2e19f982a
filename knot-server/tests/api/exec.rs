//! Commands and terminals: a WebSocket on one side, an agent's stream on the other.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use knot_core::{
    agent::{self, Exit, FromAgent, MAX_CHUNK, ToAgent},
    wire::{self, MAX_AGENT_FRAME},
};
use knot_server::api::ReachError;
use serde_json::{Value, json};
use tokio::{io::DuplexStream, net::TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

use crate::world::{Client, Server, within, world};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(
    server: &Server,
    space: &str,
    headers: &[(&'static str, String)],
) -> Result<Socket, (u16, Value)> {
    let address = format!("ws://{}/api/v1/spaces/{space}/exec", server.address);
    let mut request = address.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match within(tokio_tungstenite::connect_async(request)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), serde_json::from_slice(&body).unwrap_or_default()))
        }
        Err(error) => panic!("{error}"),
    }
}

async fn session(
    server: &Server,
    client: &Client,
    open: Value,
) -> (Socket, DuplexStream, agent::Run) {
    let mut socket = connect(server, "web", &[bearer(client)]).await.unwrap();
    socket.send(Message::text(open.to_string())).await.unwrap();
    let (_, mut agent) = server.agents.session().await;
    let open = within(wire::read_frame(&mut agent, MAX_AGENT_FRAME)).await.unwrap().unwrap();
    let agent::Open::Run(run) = open else { panic!("{open:?}") };
    (socket, agent, run)
}

fn bearer(client: &Client) -> (&'static str, String) {
    ("authorization", format!("Bearer {}", client.token.as_deref().unwrap()))
}

async fn space() -> (Server, Client) {
    let server = world().await;
    let root = server.root().await;
    root.template("rust").await;
    root.create("web", "rust").await;
    (server, root)
}

async fn hear(agent: &mut DuplexStream) -> Option<ToAgent> {
    within(wire::read_frame(agent, MAX_AGENT_FRAME)).await.unwrap()
}

async fn say(agent: &mut DuplexStream, frame: FromAgent) {
    within(wire::write_frame(agent, &frame, MAX_AGENT_FRAME)).await.unwrap();
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

/// The last message, and that the server closes after it.
async fn last(socket: &mut Socket) -> Value {
    let Message::Text(text) = next(socket).await else { panic!("the last message is text") };
    assert!(matches!(next(socket).await, Message::Close(_)));
    serde_json::from_str(&text).unwrap()
}

const SHELL: fn() -> Value =
    || json!({"command": [], "environment": {}, "directory": null, "terminal": null});

#[tokio::test]
async fn a_command_is_carried_to_its_end() {
    let (server, root) = space().await;
    let open = json!({
        "command": ["sh", "-c", "cat"],
        "environment": {"A": "b"},
        "directory": "/tmp",
        "terminal": {"columns": 80, "rows": 24},
    });
    let (mut socket, mut agent, opened) = session(&server, &root, open).await;
    let words = ["sh", "-c", "cat"].map(str::to_owned).to_vec();
    assert_eq!(opened.command, agent::Command::Program(words));
    assert_eq!(opened.environment.get("A").map(String::as_str), Some("b"));
    assert_eq!(opened.directory.as_deref(), Some("/tmp"));
    assert_eq!(opened.terminal, Some(agent::TerminalSize { columns: 80, rows: 24 }));

    socket.send(Message::binary(&b"hello"[..])).await.unwrap();
    socket.send(Message::text(r#"{"resize":{"columns":100,"rows":30}}"#)).await.unwrap();
    socket.send(Message::text(r#"{"signal":15}"#)).await.unwrap();
    socket.send(Message::text(r#"{"end_of_input":true}"#)).await.unwrap();
    for frame in [
        ToAgent::Input(Bytes::from_static(b"hello")),
        ToAgent::Resize(agent::TerminalSize { columns: 100, rows: 30 }),
        ToAgent::Signal(15),
        ToAgent::EndOfInput,
    ] {
        assert_eq!(hear(&mut agent).await, Some(frame));
    }
    say(&mut agent, FromAgent::Output(Bytes::from_static(b"out"))).await;
    say(&mut agent, FromAgent::ErrorOutput(Bytes::from_static(b"err"))).await;
    say(&mut agent, FromAgent::Exit(Exit::Code(3))).await;
    assert_eq!(next(&mut socket).await, Message::binary(&b"\x01out"[..]));
    assert_eq!(next(&mut socket).await, Message::binary(&b"\x02err"[..]));
    assert_eq!(last(&mut socket).await, json!({"exit": {"code": 3}}));
    assert!(server.app.sessions_ended(crate::world::BOUND).await);
}

#[tokio::test]
async fn every_end_is_told() {
    let (server, root) = space().await;
    let (mut socket, mut agent, _) = session(&server, &root, SHELL()).await;
    say(&mut agent, FromAgent::Exit(Exit::Signal(9))).await;
    assert_eq!(last(&mut socket).await, json!({"exit": {"signal": 9}}));

    let (mut socket, mut agent, _) = session(&server, &root, SHELL()).await;
    say(&mut agent, FromAgent::Failed("no such program".to_owned())).await;
    assert_eq!(last(&mut socket).await, json!({"failed": "no such program"}));

    let (mut socket, agent, _) = session(&server, &root, SHELL()).await;
    drop(agent);
    let lost = last(&mut socket).await;
    assert!(lost["failed"].as_str().unwrap().contains("lost"), "{lost}");

    let (mut socket, _agent, _) = session(&server, &root, SHELL()).await;
    socket.send(Message::text("{}")).await.unwrap();
    assert!(last(&mut socket).await["failed"].is_string());

    let mut socket = connect(&server, "web", &[bearer(&root)]).await.unwrap();
    socket.send(Message::text("{}")).await.unwrap();
    assert!(last(&mut socket).await["failed"].as_str().unwrap().contains("nothing was run"));
}

#[tokio::test]
async fn a_client_that_goes_ends_the_session() {
    let (server, root) = space().await;
    for closes in [true, false] {
        let (mut socket, mut agent, _) = session(&server, &root, SHELL()).await;
        if closes {
            socket.close(None).await.unwrap();
        }
        drop(socket);
        assert_eq!(hear(&mut agent).await, None, "the agent's stream ends");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_tells_its_sessions() {
    let (server, root) = space().await;
    let (mut socket, _agent, _) = session(&server, &root, SHELL()).await;
    server.app.drain.cancel();
    let told = last(&mut socket).await;
    assert!(told["failed"].as_str().unwrap().contains("another server"), "{told}");
    let (status, problem) = connect(&server, "web", &[bearer(&root)]).await.unwrap_err();
    assert_eq!((status, &problem["code"]), (503, &json!("draining")));
    drop(socket);
    assert!(server.app.sessions_ended(crate::world::BOUND).await);
}

#[tokio::test]
async fn a_session_ends_with_the_right_to_it() {
    let (server, root) = space().await;
    let anna = server.user("anna").await;
    root.post("/spaces/web/shares", json!({"user": "anna"})).await.ok();
    let (mut hers, mut agent, _) = session(&server, &anna, SHELL()).await;
    let (mut owners, mut at_owners, _) = session(&server, &root, SHELL()).await;
    root.post("/spaces/web/unshare", json!({"user": "anna"})).await.ok();
    let told = last(&mut hers).await;
    assert!(told["failed"].as_str().unwrap().contains("shared with you no more"), "{told}");
    assert_eq!(hear(&mut agent).await, None, "the agent's stream ends");
    say(&mut at_owners, FromAgent::Output(Bytes::from_static(b"on"))).await;
    assert_eq!(next(&mut owners).await, Message::binary(&b"\x01on"[..]));
}

#[tokio::test]
async fn what_a_template_turns_off_is_refused() {
    let (server, root) = space().await;
    let file =
        |off: &str| format!("name: rust\nplatform: docker\nimage: busybox\nfeatures: {off}\n");
    let on_a_terminal = json!({
        "command": [], "environment": {}, "directory": null,
        "terminal": {"columns": 80, "rows": 24},
    });
    let refused = async |open: &Value| {
        let mut socket = connect(&server, "web", &[bearer(&root)]).await.unwrap();
        socket.send(Message::text(open.to_string())).await.unwrap();
        let (_, mut agent) = server.agents.session().await;
        let told = last(&mut socket).await;
        assert_eq!(hear(&mut agent).await, None, "nothing reaches the agent");
        told["failed"].as_str().unwrap().to_owned()
    };
    root.apply(&file("{terminal: false}")).await.ok();
    assert!(refused(&on_a_terminal).await.contains("turns terminal off"));
    assert_eq!(root.get("/spaces/web").await.ok()["without"], json!(["terminal"]));
    session(&server, &root, SHELL()).await;
    root.apply(&file("{exec: false}")).await.ok();
    assert!(refused(&SHELL()).await.contains("turns exec off"));
    session(&server, &root, on_a_terminal).await;
}

#[tokio::test]
async fn much_data_arrives_whole_and_a_slow_reader_holds_the_writer() {
    let (server, root) = space().await;
    let (mut socket, mut agent, _) = session(&server, &root, SHELL()).await;
    // To the agent: messages larger than a frame are cut.
    let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    socket.send(Message::binary(sent.clone())).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < sent.len() {
        let Some(ToAgent::Input(data)) = hear(&mut agent).await else { panic!("input") };
        assert!(data.len() <= MAX_CHUNK);
        heard.extend_from_slice(&data);
    }
    assert!(heard == sent);

    // From the agent: what nobody reads stops it, and nothing is lost when somebody does.
    const CHUNKS: usize = 4_000;
    let (progress, written) = tokio::sync::watch::channel(0);
    let writer = tokio::spawn(async move {
        for number in 0..CHUNKS {
            let data = Bytes::from(vec![number as u8; MAX_CHUNK]);
            wire::write_frame(&mut agent, &FromAgent::Output(data), MAX_AGENT_FRAME).await.unwrap();
            progress.send_replace(number + 1);
        }
        wire::write_frame(&mut agent, &FromAgent::Exit(Exit::Code(0)), MAX_AGENT_FRAME)
            .await
            .unwrap();
        agent
    });
    let mut stalled = written.clone();
    let pause = std::time::Duration::from_secs(1);
    // It goes on as long as buffers take it, then not at all.
    while tokio::time::timeout(pause, stalled.changed()).await.is_ok() {}
    let held = *written.borrow();
    assert!(held < CHUNKS, "all of {CHUNKS} chunks were taken with nobody reading");
    let mut bytes = 0;
    loop {
        match next(&mut socket).await {
            Message::Binary(data) => {
                assert_eq!(data[1], ((bytes / MAX_CHUNK) % 256) as u8);
                bytes += data.len() - 1;
            }
            Message::Text(text) => {
                assert_eq!(text.as_str(), r#"{"exit":{"code":0}}"#);
                break;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(bytes, CHUNKS * MAX_CHUNK);
    writer.await.unwrap();
}

#[tokio::test]
async fn who_may_not_gets_no_session() {
    let (server, root) = space().await;
    let anna = server.user("anna").await;
    let refusal = |result: Result<Socket, (u16, Value)>| {
        let (status, problem) = result.unwrap_err();
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = refusal(connect(&server, "web", &[bearer(&anna)]).await);
    assert_eq!(refused, (404, "not_found".to_owned()));
    assert_eq!(refusal(connect(&server, "web", &[]).await), (401, "not_signed_in".to_owned()));

    let signed_in = json!({"user": "root", "password": crate::world::PASSWORD});
    let signed_in = server.stranger().post("/sign-in", signed_in).await;
    let cookie = signed_in.headers.get_all("set-cookie").iter();
    let cookie = cookie.map(|value| value.to_str().unwrap().split(';').next().unwrap());
    let cookie = ("cookie", cookie.collect::<Vec<_>>().join("; "));
    for origin in ["https://evil.example".to_owned(), "null".to_owned()] {
        let headers = [cookie.clone(), ("origin", origin)];
        assert_eq!(
            refusal(connect(&server, "web", &headers).await),
            (403, "cross_origin".to_owned())
        );
    }
    let refused = refusal(connect(&server, "web", std::slice::from_ref(&cookie)).await);
    assert_eq!(refused, (403, "cross_origin".to_owned()));
    connect(&server, "web", &[cookie, ("origin", server.url(""))]).await.unwrap();

    root.get("/spaces/web/exec").await.problem("websocket_only");
    server.agents.refuse(ReachError::NotRunning);
    let refused = refusal(connect(&server, "web", &[bearer(&root)]).await);
    assert_eq!(refused, (409, "not_running".to_owned()));
    server.agents.refuse(ReachError::NoAgent { why: "it last spoke a minute ago".to_owned() });
    let refused = refusal(connect(&server, "web", &[bearer(&root)]).await);
    assert_eq!(refused, (502, "no_agent".to_owned()));
}

#[tokio::test]
async fn the_end_is_heard_while_input_is_still_on_its_way() {
    let (server, root) = space().await;
    let (socket, mut agent, _) = session(&server, &root, SHELL()).await;
    let (mut sink, mut stream) = socket.split();
    // More than all buffers between hold, to a command that reads none of it.
    let sender = tokio::spawn(async move {
        for _ in 0..64 {
            sink.send(Message::binary(vec![0; 256 << 10])).await.ok();
        }
        sink.send(Message::Close(None)).await.ok();
    });
    hear(&mut agent).await;
    say(&mut agent, FromAgent::Exit(Exit::Code(0))).await;
    // Nothing is read here before the server has closed its end.
    within(sender).await.unwrap();
    assert!(server.app.sessions_ended(crate::world::BOUND).await);
    let heard = within(async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(heard.await, r#"{"exit":{"code":0}}"#);
}
