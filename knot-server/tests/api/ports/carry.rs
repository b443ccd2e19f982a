//! What goes through to a program and back: bodies, WebSockets, and connections with both their halves.

use super::*;
use tokio_tungstenite::tungstenite::handshake::client::Request;

#[tokio::test]
async fn what_a_program_does_not_answer_is_said() {
    let world = World::start().await;
    let gone = world.host_of(1);
    let open = || token(world.to(&gone, Method::GET, "/"), &world.anna);
    answer(open()).await.problem("not_listening");
    let shown = answer(page(open())).await;
    assert_eq!(shown.status, StatusCode::BAD_GATEWAY);
    assert!(shown.text.contains("Nothing listens at port 1"), "{}", shown.text);
    assert!(shown.text.contains("http-equiv=\"refresh\""));
    assert!(
        shown.headers["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );

    world.server.agents.refuse(ReachError::NotRunning);
    let stopped = answer(page(token(world.get("/"), &world.anna))).await;
    assert_eq!(stopped.status, StatusCode::CONFLICT);
    assert!(stopped.text.contains("web is stopped"), "{}", stopped.text);
    assert!(stopped.text.contains(&format!("http://{}/spaces/{}", world.at, world.space)));
    assert!(!stopped.text.contains("http-equiv"));
    world.anna.post(&format!("/spaces/{}/start", world.space), json!(null)).await.ok();
    let starting = answer(page(token(world.get("/"), &world.anna))).await;
    assert!(starting.text.contains("web is starting"), "{}", starting.text);
    assert!(starting.text.contains("http-equiv=\"refresh\""));
    let said = answer(token(world.get("/"), &world.anna)).await;
    assert_eq!(said.headers[header::RETRY_AFTER], "2");
    said.problem("starting");
}

/// A body that is sent as it comes.
fn streamed<S>(chunks: S) -> reqwest::Body
where
    S: futures_util::Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
{
    reqwest::Body::wrap(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))))
}

#[tokio::test]
async fn bodies_are_carried_as_they_come() {
    let world = World::start().await;
    // More than anything on the way could hold.
    const CHUNKS: usize = 2_048;
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let sent = stream::iter(std::iter::repeat_n(chunk, CHUNKS).map(Ok));
    let request = token(world.to(&world.host(), Method::POST, "/upload"), &world.anna);
    let taken = answer(request.body(streamed(sent))).await;
    assert_eq!((taken.status, taken.text), (StatusCode::OK, (CHUNKS * (64 << 10)).to_string()));

    let mut events = within(token(world.get("/events"), &world.anna).send()).await.unwrap();
    for n in 0..3 {
        let chunk = within(events.chunk()).await.unwrap().unwrap();
        assert_eq!(chunk, format!("data: {n}\n\n"));
    }
    // The stream breaks off when the space is hers no more.
    let to_bert = json!({"user": "bert"});
    world.anna.post(&format!("/spaces/{}/transfer", world.space), to_bert).await;
    within(async { while let Ok(Some(_)) = events.chunk().await {} }).await;
}

#[tokio::test]
async fn an_upload_that_is_not_read_waits() {
    let world = World::start().await;
    let (counted, mut count) = mpsc::channel(100_000);
    let endless = stream::unfold(counted, async |counted| {
        counted.send(()).await.ok()?;
        Some((Ok(Bytes::from(vec![0; 64 << 10])), counted))
    });
    // A program that never reads.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = deaf.local_addr().unwrap().port();
    world.template("any_port: true\n").await;
    let request = token(world.to(&world.host_of(port), Method::POST, "/"), &world.anna);
    let upload = tokio::spawn(request.body(streamed(endless)).send());
    let _deaf = within(deaf.accept()).await.unwrap();
    // What is on its way is in sockets and pipes, and comes to an end.
    let mut sent = 0;
    while let Ok(Some(())) = tokio::time::timeout(Duration::from_secs(1), count.recv()).await {
        sent += 1;
        assert!(sent < 1_000, "more than 62 MiB are on their way to a program that reads nothing");
    }
    upload.abort();
}

/// A WebSocket at the server, or the status that refuses it.
async fn opened(world: &World, request: Request) -> Result<WebSocketStream<TcpStream>, u16> {
    let stream = TcpStream::connect(world.at).await.unwrap();
    match within(client_async(request, stream)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

async fn socket(
    world: &World,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, u16> {
    let mut request = format!("ws://{}/socket", world.host()).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    opened(world, request).await
}

#[tokio::test]
async fn a_websocket_goes_through_and_ends_with_the_right_to_it() {
    let world = World::start().await;
    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
    let pass = world.pass("bert").await;
    assert_eq!(socket(&world, &[]).await.err(), Some(401));
    let evil = [("cookie", pass.as_str()), ("origin", "https://evil.example")];
    assert_eq!(socket(&world, &evil).await.err(), Some(403));
    let own = world.origin();
    let mut socket = socket(&world, &[("cookie", &pass), ("origin", &own)]).await.unwrap();
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::text(text));
    }
    let unshare = format!("/spaces/{}/unshare", world.space);
    world.anna.post(&unshare, json!({"user": "bert"})).await.ok();
    within(async { while let Some(Ok(_)) = socket.next().await {} }).await;
}

async fn bridge(world: &World, path: &str) -> Result<WebSocketStream<TcpStream>, u16> {
    let url = format!("ws://{}/api/v1{path}", world.at);
    let mut request = url.into_client_request().unwrap();
    let token = format!("Bearer {}", world.anna.token.as_ref().unwrap());
    request.headers_mut().insert("authorization", token.parse().unwrap());
    opened(world, request).await
}

#[tokio::test]
async fn a_connection_is_carried_with_both_its_halves() {
    let world = World::start().await;
    let program = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = program.local_addr().unwrap().port();
    // A program that answers when it has heard all.
    tokio::spawn(async move {
        let (mut stream, _) = program.accept().await.unwrap();
        let mut heard = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut heard).await.unwrap();
        stream.write_all(format!("heard {}", heard.len()).as_bytes()).await.unwrap();
    });
    let mut socket = bridge(&world, &format!("/spaces/web/connect?port={port}")).await.unwrap();
    for _ in 0..10 {
        socket.send(Message::binary(vec![1; 100_000])).await.unwrap();
    }
    socket.send(Message::text("end")).await.unwrap();
    let mut said = Vec::new();
    loop {
        match within(socket.next()).await.unwrap().unwrap() {
            Message::Binary(data) => said.extend_from_slice(&data),
            Message::Text(text) => assert_eq!(text.as_str(), "end"),
            Message::Close(frame) => {
                assert_eq!(frame.unwrap().reason.as_str(), "ended");
                break;
            }
            _ => {}
        }
    }
    assert_eq!(said, b"heard 1000000");

    assert_eq!(bridge(&world, "/spaces/web/connect?port=1").await.err(), Some(502));
    assert_eq!(bridge(&world, "/spaces/web/connect?port=0").await.err(), Some(403));
    // Who may run nothing in the space reaches what the template opens.
    world.template("features: {terminal: false, exec: false, ssh: false}\n").await;
    assert_eq!(bridge(&world, "/spaces/web/connect?port=4").await.err(), Some(403));
    let program = world.program;
    assert!(bridge(&world, &format!("/spaces/web/connect?port={program}")).await.is_ok());
}
