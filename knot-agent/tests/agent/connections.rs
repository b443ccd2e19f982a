//! Connections into the space, out of it, and datagrams.

use bytes::Bytes;
use knot_core::{
    agent::{Answer, Heard, Open, Refusal, Target},
    wire::{MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::{RecvStream, SendStream};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixListener, UnixStream},
};
use uuid::Uuid;

use crate::world::{Link, open, within, world};

fn tcp(host: &str, port: u16) -> Target {
    Target::Tcp { host: host.to_owned(), port }
}

async fn next<T: DeserializeOwned>(receive: &mut RecvStream) -> T {
    within("a frame", read_frame(receive, MAX_AGENT_FRAME)).await.unwrap().unwrap()
}

async fn session(link: &Link, what: Open) -> (SendStream, RecvStream, Answer) {
    let (send, mut receive) = open(&link.connection, &what).await;
    let answer = next(&mut receive).await;
    (send, receive, answer)
}

async fn refusal(link: &Link, target: Target) -> (Refusal, String) {
    match session(link, Open::Connect(target)).await.2 {
        Answer::Refused { refusal, why } => (refusal, why),
        other => panic!("{other:?}"),
    }
}

/// What a program that waits for all of its input and answers it backwards does.
async fn turn(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    text.reverse();
    stream.write_all(&text).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn check_turned(mut send: SendStream, mut receive: RecvStream) {
    let text: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = text.clone();
    tokio::spawn(async move {
        send.write_all(&sent).await.unwrap();
        send.finish().unwrap();
        let _ = send.stopped().await;
    });
    let mut back = within("all of it", receive.read_to_end(4 << 20)).await.unwrap();
    back.reverse();
    assert!(back == text, "{} bytes came back", back.len());
}

#[tokio::test]
async fn each_half_of_a_connection_ends_by_itself() {
    let (_server, _agent, link) = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move { turn(listener.accept().await.unwrap().0).await });
    tokio::spawn(async move { turn(unix.accept().await.unwrap().0).await });
    let path = path.to_string_lossy().into_owned();
    for target in [tcp("localhost", port), Target::Unix(path)] {
        let (send, receive, answer) = session(&link, Open::Connect(target)).await;
        assert_eq!(answer, Answer::Ready);
        check_turned(send, receive).await;
    }
}

#[tokio::test]
async fn what_cannot_be_connected_to_says_why() {
    let (_server, _agent, link) = world().await;
    // It is had by a socket that does not listen, and so by nobody else.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let closed = taken.local_addr().unwrap().port();
    let (sort, why) = refusal(&link, tcp("127.0.0.1", closed)).await;
    assert_eq!(sort, Refusal::NotListening);
    assert_eq!(why, format!("nothing listens at 127.0.0.1:{closed}"));
    let (sort, why) = refusal(&link, Target::Unix("/no/such/socket".to_owned())).await;
    assert!(sort == Refusal::NotFound && why.contains("/no/such/socket"), "{why}");
    // RFC 6761 keeps the name for this: it is nowhere.
    let (sort, why) = refusal(&link, tcp("nothing.invalid", 80)).await;
    assert!(sort == Refusal::NotFound && why.contains("nothing.invalid"), "{why}");
}

#[tokio::test]
async fn a_stuck_reader_holds_up_nobody_else() {
    let (_server, _agent, link) = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move { while stream.write_all(&[7; 65_536]).await.is_ok() {} });
        }
    });
    let mut stuck = Vec::new();
    for _ in 0..8 {
        stuck.push(session(&link, Open::Connect(tcp("127.0.0.1", port))).await);
    }
    let (_send, mut receive, _) = session(&link, Open::Connect(tcp("127.0.0.1", port))).await;
    let mut taken = vec![0; 20 << 20];
    within("what one reads while eight do not", receive.read_exact(&mut taken)).await.unwrap();
    assert!(taken.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_listener_hands_over_what_it_hears() {
    let (_server, _agent, link) = world().await;
    let listener = Uuid::new_v4();
    let (send, mut receive, answer) =
        session(&link, Open::Listen { listener, at: tcp("localhost", 0) }).await;
    let Answer::Listening(Target::Tcp { port, .. }) = answer else { panic!("{answer:?}") };
    assert_ne!(port, 0);
    for host in ["127.0.0.1", "::1"] {
        let Ok(client) = TcpStream::connect((host, port)).await else {
            assert_eq!(host, "::1", "a machine may be without IPv6");
            continue;
        };
        let heard: Heard = next(&mut receive).await;
        assert_eq!((heard.host.as_str(), heard.port), (host, client.local_addr().unwrap().port()));
        tokio::spawn(turn(client));
        let (send, receive, answer) =
            session(&link, Open::Take { listener, connection: heard.connection }).await;
        assert_eq!(answer, Answer::Ready);
        check_turned(send, receive).await;
        let again = session(&link, Open::Take { listener, connection: heard.connection }).await.2;
        assert!(matches!(again, Answer::Refused { refusal: Refusal::NotFound, .. }), "{again:?}");
    }
    drop(send);
    within("the listener's end", async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_unix_listener_leaves_no_file_behind() {
    let (_server, _agent, link) = world().await;
    let listen =
        |listener, path: &str| Open::Listen { listener, at: Target::Unix(path.to_owned()) };
    let listener = Uuid::new_v4();
    let (send, mut receive, answer) = session(&link, listen(listener, "")).await;
    let Answer::Listening(Target::Unix(path)) = answer else { panic!("{answer:?}") };
    let taken = session(&link, listen(Uuid::new_v4(), &path)).await.2;
    assert!(matches!(taken, Answer::Refused { .. }), "{taken:?}");
    let client = UnixStream::connect(&path).await.unwrap();
    let heard: Heard = next(&mut receive).await;
    tokio::spawn(turn(client));
    let (to, from, _) = session(&link, Open::Take { listener, connection: heard.connection }).await;
    check_turned(to, from).await;
    drop(send);
    let folder = std::path::Path::new(&path).parent().unwrap().to_owned();
    crate::world::until("its folder to go", || !folder.exists()).await;
}

#[tokio::test]
async fn datagrams_stay_whole() {
    let (_server, _agent, link) = world().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&buffer[..n], from).await.unwrap();
        }
    });
    let (mut send, mut receive, answer) = session(&link, Open::Datagrams(port)).await;
    assert_eq!(answer, Answer::Ready);
    for length in [0, 1, 1_400, 60_000] {
        let datagram = Bytes::from(vec![3; length]);
        write_frame(&mut send, &datagram, MAX_AGENT_FRAME).await.unwrap();
        assert_eq!(next::<Bytes>(&mut receive).await, datagram);
    }
}
