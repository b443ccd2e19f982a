//! HTTP as it is on the wire: what goes through to a program and back exactly, and what is refused. Client and
//! program are plain sockets here, so that nothing in between can be lenient for them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use http_body_util::{BodyExt as _, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::*;

/// A program that does this with each of its connections, and its port.
async fn program<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

/// A program that takes one request after the other without a body, and answers each with this.
async fn answering(text: &'static str) -> u16 {
    program(async move |mut stream| {
        while head(&mut stream).await.is_some() {
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    })
    .await
}

/// What comes until an empty line; `None` at the end.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    up_to(stream, "\r\n\r\n").await
}

/// What comes until a text has come.
async fn up_to(stream: &mut (impl AsyncRead + Unpin), end: &str) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        match within(stream.read_u8()).await {
            Ok(byte) => text.push(byte),
            Err(_) => return None,
        }
    }
    Some(String::from_utf8(text).unwrap())
}

async fn exactly(stream: &mut (impl AsyncRead + Unpin), length: usize) -> String {
    let mut bytes = vec![0; length];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl World {
    async fn any_port() -> Self {
        let world = Self::start().await;
        world.template("any_port: true\n").await;
        world
    }

    /// A connection to this server.
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// The head of anna's request for a port, without the empty line at its end.
    fn request(&self, port: u16, line: &str) -> String {
        let token = self.anna.token.as_ref().unwrap();
        let host = self.host_of(port);
        format!("{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n")
    }
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[tokio::test]
async fn what_has_no_body_has_none_and_the_connection_goes_on() {
    let world = World::any_port().await;
    for (method, sent, status, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200", Some("content-length: 5")),
        (
            "HEAD",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n",
            "404",
            Some("content-length: 9"),
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "204", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", "304", Some("etag: \"a\"")),
        (
            "DELETE",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "200",
            Some("content-length: 0"),
        ),
    ] {
        let port = answering(sent).await;
        let mut client = world.connect().await;
        let request = format!("{}\r\n", world.request(port, &format!("{method} /")));
        for _ in 0..3 {
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = lower(&head(&mut client).await.unwrap());
            assert!(answer.starts_with(&format!("http/1.1 {status}")), "{method}: {answer}");
            assert!(length.is_none_or(|length| answer.contains(length)), "{method}: {answer}");
            assert!(!answer.contains("transfer-encoding"), "{method}: {answer}");
        }
    }
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let world = World::any_port().await;
    let (heard, mut hears) = mpsc::channel(4);
    let port = program(move |mut stream| {
        let heard = heard.clone();
        async move {
            let asked = head(&mut stream).await.unwrap();
            let sent = up_to(&mut stream, "0\r\n").await.unwrap();
            let trailers = head(&mut stream).await.unwrap();
            heard.send((lower(&asked), sent, lower(&trailers))).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n\
                          2\r\nok\r\n0\r\nX-End: 2\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;

    let mut client = world.connect().await;
    let request = format!(
        "{}TE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        world.request(port, "POST /")
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let (asked, sent, trailers) = within(hears.recv()).await.unwrap();
    assert!(asked.contains("te: trailers") && asked.contains("trailer: x-sum"), "{asked}");
    assert!(sent.contains("hello"), "{sent}");
    assert_eq!(trailers, "x-sum: 1\r\n\r\n");
    let answer = lower(&head(&mut client).await.unwrap());
    assert!(answer.contains("trailer: x-end"), "{answer}");
    assert_eq!(up_to(&mut client, "0\r\n").await.unwrap(), "2\r\nok\r\n0\r\n");
    assert_eq!(lower(&head(&mut client).await.unwrap()), "x-end: 2\r\n\r\n");

    // The same over HTTP/2.
    let mut sender = http2(&world).await;
    let frames = [
        Ok::<_, std::io::Error>(Frame::data(Bytes::from("hello"))),
        Ok(Frame::trailers(
            [("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect(),
        )),
    ];
    let request =
        two(&world, port, Method::POST).header("te", "trailers").header("trailer", "x-sum");
    let request = request.body(body(stream::iter(frames))).unwrap();
    let answer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(within(hears.recv()).await.unwrap().2, "x-sum: 1\r\n\r\n");
    let answer = within(answer.into_body().collect()).await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-end"], "2");
    assert_eq!(answer.to_bytes(), "ok");
}

type Sent = BoxBody<Bytes, std::io::Error>;
type Two = hyper::client::conn::http2::SendRequest<Sent>;

fn body<S>(frames: S) -> Sent
where
    S: futures_util::Stream<Item = std::io::Result<Frame<Bytes>>> + Send + Sync + 'static,
{
    BoxBody::new(StreamBody::new(frames))
}

/// One HTTP/2 connection to this server.
async fn http2(world: &World) -> Two {
    let stream = TokioIo::new(world.connect().await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn two(world: &World, port: u16, method: Method) -> axum::http::request::Builder {
    let token = format!("Bearer {}", world.anna.token.as_ref().unwrap());
    let uri = format!("http://{}/upload", world.host_of(port));
    axum::http::Request::builder().method(method).uri(uri).header("authorization", token)
}

#[tokio::test]
async fn a_body_without_a_length_goes_with_any_method() {
    let world = World::any_port().await;
    let (heard, mut hears) = mpsc::channel(4);
    let port = program(move |mut stream| {
        let heard = heard.clone();
        async move {
            while let Some(asked) = head(&mut stream).await {
                assert!(lower(&asked).contains("transfer-encoding: chunked"), "{asked}");
                let sent = up_to(&mut stream, "0\r\n\r\n").await.unwrap();
                heard.send(sent).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
        }
    })
    .await;
    let mut sender = http2(&world).await;
    for method in [Method::GET, Method::DELETE, Method::POST] {
        let frame = Ok::<_, std::io::Error>(Frame::data(Bytes::from("query")));
        let request = two(&world, port, method);
        let request = request.body(body(stream::iter([frame]))).unwrap();
        within(sender.send_request(request)).await.unwrap();
        assert!(within(hears.recv()).await.unwrap().contains("query"));
    }
}

#[tokio::test]
async fn a_client_is_told_to_go_on_once_somebody_listens() {
    let world = World::any_port().await;
    let port = program(async |mut stream| {
        let asked = lower(&head(&mut stream).await.unwrap());
        assert!(!asked.contains("expect"), "{asked}");
        assert_eq!(exactly(&mut stream, 5).await, "hello");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let ask = async |request: String| {
        let mut client = world.connect().await;
        let expects = format!("{request}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        client.write_all(expects.as_bytes()).await.unwrap();
        let first = head(&mut client).await.unwrap();
        (client, first)
    };
    let (mut client, first) = ask(world.request(port, "POST /")).await;
    assert_eq!(first, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.unwrap();
    assert!(head(&mut client).await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(exactly(&mut client, 2).await, "ok");
    // What is refused is refused before anything is sent.
    let (_, first) = ask(format!("POST / HTTP/1.1\r\nHost: {}\r\n", world.host_of(port))).await;
    assert!(first.starts_with("HTTP/1.1 401"), "{first}");
    let (_, first) = ask(world.request(1, "POST /")).await;
    assert!(first.starts_with("HTTP/1.1 502"), "{first}");
}

#[tokio::test]
async fn a_second_request_is_not_smuggled_within_a_first() {
    let world = World::any_port().await;
    let (heard, mut hears) = mpsc::channel(64);
    let routes = Router::new().fallback(any(move |request: Request| {
        let heard = heard.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
            let text = body.map_or_else(
                |_| "broken".to_owned(),
                |body| String::from_utf8(body.to_vec()).unwrap(),
            );
            heard.send(format!("{path} {text}")).await.unwrap();
            "heard"
        }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let second = "GET /second HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = format!("0\r\n\r\n{second}");
    let length = second.len();
    let plain = |headers: &str| format!("{headers}\r\n\r\n{second}");
    for attempt in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n{chunked}", chunked.len()),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: identity, chunked\r\nContent-Length: 3\r\n\r\n{chunked}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: \x0bchunked\r\n\r\n{chunked}"),
        format!("X: y\r\n Transfer-Encoding: chunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n{second}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n{chunked}"),
        format!("Transfer-Encoding: chunked\r\n\r\n10000000000000000f\r\n{second}"),
        plain(&format!("Content-Length: 0\r\nContent-Length: {length}")),
        plain(&format!("Content-Length: 0, {length}")),
        plain("Content-Length: +0"),
        plain("Content-Length: -1"),
        plain("Content-Length: 0x0"),
        plain("Content-Length : 0"),
        plain("Content-Length: 99999999999999999999999"),
        plain("Content-Length: 0\r\nHost: second"),
        plain("Content-Length: 0\r\nX: a\0b"),
    ] {
        let mut client = world.connect().await;
        let request = format!("{}{attempt}", world.request(port, "POST /first"));
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answers = rest(&mut client).await;
        let mut reached = Vec::new();
        while let Ok(one) = hears.try_recv() {
            reached.push(one);
        }
        // Refused, or one request that both sides have read alike; the one behind it is no port's.
        assert!(reached.iter().all(|one| one.starts_with("/first")), "{attempt:?}: {reached:?}");
        assert!(reached.len() <= 1, "{attempt:?}: {reached:?}");
        let refused = answers.is_empty() || answers.starts_with("HTTP/1.1 400");
        let whole = reached == ["/first "] && answers.starts_with("HTTP/1.1 200");
        assert!(refused || whole, "{attempt:?}: {reached:?} {answers}");
        assert!(
            !refused || reached.iter().all(|one| one == "/first broken"),
            "{attempt:?}: {reached:?}"
        );
    }
}

#[tokio::test]
async fn headers_without_measure_are_refused_both_ways() {
    let world = World::any_port().await;
    let fine = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let ask = async |port: u16, headers: &str| {
        let mut client = world.connect().await;
        let request = format!("{}{headers}\r\n", world.request(port, "GET /"));
        // It may be refused before it has been read.
        client.write_all(request.as_bytes()).await.ok();
        head(&mut client).await.unwrap_or_default()
    };
    let answer = ask(fine, &format!("X-Long: {}\r\n", "x".repeat(30_000))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for headers in [format!("X-Long: {}\r\n", "x".repeat(200_000)), "X: y\r\n".repeat(300)] {
        let answer = ask(fine, &headers).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let many = program(async |mut stream| {
        head(&mut stream).await;
        let headers = "X: y\r\n".repeat(400);
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes()).await.ok();
    });
    let endless = program(async |mut stream| {
        head(&mut stream).await;
        while stream.write_all("X: y".repeat(1_000).as_bytes()).await.is_ok() {}
    });
    for port in [many.await, endless.await] {
        let answer = ask(port, "").await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}

#[tokio::test]
async fn a_program_that_does_not_upgrade_is_heard() {
    let world = World::any_port().await;
    let port = program(async |mut stream| {
        while let Some(asked) = head(&mut stream).await {
            let asked = lower(&asked);
            let answer = match (asked.contains("/socket"), asked.contains("upgrade: websocket")) {
                (true, true) => "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
                (false, false) => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
                _ => "HTTP/1.1 500 Wrong\r\nContent-Length: 0\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let mut client = world.connect().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let request = format!("{}{upgrade}", world.request(port, "GET /socket"));
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!lower(&answer).contains("upgrade"), "{answer}");
    assert_eq!(exactly(&mut client, 2).await, "no");
    // The connection goes on as it was.
    client.write_all(format!("{}\r\n", world.request(port, "GET /")).as_bytes()).await.unwrap();
    assert!(head(&mut client).await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(exactly(&mut client, 3).await, "yes");

    // One that upgrades without being asked to is not heard further.
    let rude =
        answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            .await;
    super::answer(token(world.to(&world.host_of(rude), Method::GET, "/"), &world.anna))
        .await
        .problem("no_answer");
}

#[tokio::test]
async fn a_program_may_speak_tls_with_any_certificate() {
    let world = World::start().await;
    let key = rcgen::generate_simple_self_signed(vec!["nobody.invalid".to_owned()]).unwrap();
    let secret =
        rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], secret)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let port = program(move |stream| {
        let acceptor = acceptor.clone();
        counted.fetch_add(1, Relaxed);
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while let Some(asked) = head(&mut stream).await {
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{asked}", asked.len());
                if write(&mut stream, answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let file = format!(
        "name: app\nplatform: docker\nimage: busybox\nports: {{safe: {port}/https}}\nany_port: true\n"
    );
    world.root.apply(&file).await.ok();
    let safe = world.host_of("safe");
    for path in ["/one", "/two", "/three"] {
        let said = answer(token(world.to(&safe, Method::GET, path), &world.anna)).await;
        assert!(said.text.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{}", said.text);
        // The program is told how the browser came, not how it is spoken to.
        assert!(lower(&said.text).contains("x-forwarded-proto: http\r\n"), "{}", said.text);
    }
    assert_eq!(taken.load(Relaxed), 1, "the connection was used again");
    // One that speaks no TLS where it should is said.
    let file = file.replace(&format!("{port}/https"), &format!("{}/https", world.program));
    world.root.apply(&file).await.ok();
    let wrong = answer(token(world.to(&world.host(), Method::GET, "/echo"), &world.anna)).await;
    let said = wrong.problem("no_answer");
    assert!(said["detail"].as_str().unwrap().contains("TLS"), "{said}");
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

#[tokio::test]
async fn a_connection_that_is_kept_is_kept_for_one_visitor() {
    let world = World::any_port().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    // It says which of its connections asks, and who began that one.
    let port = program(move |mut stream| {
        let number = counted.fetch_add(1, Relaxed);
        async move {
            let mut first = None;
            while let Some(asked) = head(&mut stream).await {
                let line = asked.lines().next().unwrap().to_owned();
                let who = line.split(['/', ' ']).nth(2).unwrap().to_owned();
                let first = first.get_or_insert(who).clone();
                let said = format!("{line} {first} {number}");
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let path = format!("/spaces/{}/ports/{port}", world.space);
    world.anna.put(&path, json!({"access": "public"})).await.ok();
    let host = world.host_of(port);
    let ask = async |who: &str, n: usize| {
        let request = world.to(&host, Method::GET, &format!("/{who}/{n}"));
        let request = match who {
            "anna" => token(request, &world.anna),
            "bert" => token(request, &world.bert),
            _ => request,
        };
        let said = answer(request).await.text;
        let expected = format!("GET /{who}/{n} HTTP/1.1 {who} ");
        assert!(said.starts_with(&expected), "{expected}: {said}");
    };
    let all = async |who: &'static str| {
        for n in 0..60 {
            ask(who, n).await;
        }
    };
    tokio::join!(all("anna"), all("bert"), all("nobody"), all("anna"), all("bert"));
    let used = connections.load(Relaxed);
    assert!(used < 60, "{used} connections for 300 requests");
    // Nor is one kept that a visitor has signed in.
    let before = connections.load(Relaxed);
    for n in 0..3 {
        let request = world.to(&host, Method::GET, &format!("/nobody/{n}"));
        answer(request.header(header::AUTHORIZATION, "NTLM dGVzdA==")).await;
    }
    assert_eq!(connections.load(Relaxed), before + 3);
}

#[tokio::test]
async fn what_only_asks_is_asked_again_where_a_kept_connection_breaks() {
    let world = World::any_port().await;
    let (heard, mut hears) = mpsc::channel(16);
    // Each connection answers once, and breaks with its second request.
    let port = program(move |mut stream| {
        let heard = heard.clone();
        async move {
            let Some(asked) = head(&mut stream).await else { return };
            heard.send(asked.lines().next().unwrap().to_owned()).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.ok();
            let Some(asked) = head(&mut stream).await else { return };
            heard.send(format!("lost {}", asked.lines().next().unwrap())).await.unwrap();
        }
    })
    .await;
    let ask = async |method: Method, path: &str| {
        answer(token(world.to(&world.host_of(port), method, path), &world.anna)).await
    };
    assert_eq!(ask(Method::GET, "/1").await.text, "ok");
    assert_eq!(ask(Method::GET, "/2").await.text, "ok");
    // What changes something may have been done.
    ask(Method::POST, "/3").await.problem("no_answer");
    let mut all = Vec::new();
    while let Ok(one) = hears.try_recv() {
        all.push(one);
    }
    let line = |line: &str| format!("{line} HTTP/1.1");
    assert_eq!(all, [line("GET /1"), line("lost GET /2"), line("GET /2"), line("lost POST /3")]);
}

#[tokio::test]
async fn an_upload_that_nobody_takes_stops_no_other_of_its_connection() {
    let world = World::any_port().await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf_port = deaf.local_addr().unwrap().port();
    let mut sender = http2(&world).await;
    let (counted, mut count) = mpsc::channel(100_000);
    let endless = stream::unfold(counted, async |counted| {
        counted.send(()).await.ok()?;
        let chunk = Frame::data(Bytes::from(vec![0; 64 << 10]));
        Some((Ok::<_, std::io::Error>(chunk), counted))
    });
    let stuck = two(&world, deaf_port, Method::POST);
    let stuck = stuck.body(body(endless)).unwrap();
    let _stuck = tokio::spawn(sender.send_request(stuck));
    let (_deaf, _) = within(deaf.accept()).await.unwrap();
    // All of it that may wait does.
    while let Ok(Some(())) = tokio::time::timeout(Duration::from_secs(1), count.recv()).await {}
    let chunks = (0..128).map(|_| Ok(Frame::data(Bytes::from(vec![1; 64 << 10]))));
    let request = two(&world, world.program, Method::POST);
    let request = request.body(body(stream::iter(chunks))).unwrap();
    let answer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(
        within(answer.into_body().collect()).await.unwrap().to_bytes(),
        (8 << 20).to_string()
    );
}
