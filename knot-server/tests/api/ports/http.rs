//! HTTP as it is on the wire: what goes through to a program and back exactly, and what is refused. Client and
//! program are plain sockets here, so that nothing in between can be lenient for them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use http_body_util::{BodyExt as _, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

#[path = "http/kept.rs"]
mod kept;
#[path = "http/refused.rs"]
mod refused;

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

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
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
