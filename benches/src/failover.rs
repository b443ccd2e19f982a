//! Failover: for how long a terminal and a port stand still when a server between them and their user is killed.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use uuid::Uuid;

use crate::{
    Outcome,
    figures::{Times, shown},
    spaces::Cluster,
};

const ROUNDS: usize = if cfg!(debug_assertions) { 3 } else { 15 };
/// Longer than anything that is still worth measuring.
const BOUND: Duration = Duration::from_secs(60);
/// What the page waits before it connects again, on average.
const PAGE_WAITS: Duration = Duration::from_millis(190);
/// For how long requests go on after a server was killed, and how far apart they are.
const REQUESTS: Duration = Duration::from_secs(6);
const APART: Duration = Duration::from_millis(10);
const SPACE: &str = "dev";
const ECHO: &str = "stty raw -echo; printf ready; exec cat";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) async fn measure() -> Outcome<()> {
    println!(
        "Failover, three servers of `knot-server dev`, one of which is killed; {ROUNDS} rounds each"
    );
    let mut cluster = Cluster::start()?;
    cluster.apply("open", "platform: local\nany_port: true\n")?;
    cluster.running(SPACE, "open")?;
    let port = program().await?;
    let mut terminal = Terminal::new();

    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let (own, relay) = settled(&cluster).await?;
        terminal.connect(&cluster, own).await?;
        terminal.key().await?;
        cluster.kill(own)?;
        let began = Instant::now();
        // It hears of it by its connection, as the page does.
        while terminal.read().await.is_ok() {}
        sleep(PAGE_WAITS).await;
        terminal.connect(&cluster, relay).await?;
        terminal.key().await?;
        times.add(began);
        cluster.start_again(own)?;
    }
    print("  the client's own server: its next echo, through another", &times);

    let (mut echoes, mut gaps, mut quiet) = (Times::default(), Times::default(), Times::default());
    for _ in 0..ROUNDS {
        let (own, relay) = settled(&cluster).await?;
        terminal.connect(&cluster, own).await?;
        terminal.key().await?;
        quiet.push(longest_gap(&cluster, own, port, Duration::from_secs(1)).await?);
        cluster.kill(relay)?;
        let began = Instant::now();
        let echo = async {
            terminal.key().await?;
            echoes.add(began);
            Ok(())
        };
        let (echo, gap) = tokio::join!(echo, longest_gap(&cluster, own, port, REQUESTS));
        let (): () = echo.map_err(|error: Box<dyn std::error::Error + Send + Sync>| error)?;
        gaps.push(gap?);
        cluster.start_again(relay)?;
    }
    print("  the server that relays: the next echo, nothing done", &echoes);
    print("  the same: longest time without an answer of a port", &gaps);
    print("  such a time where nothing was killed", &quiet);
    Ok(())
}

fn print(what: &str, times: &Times) {
    println!(
        "{what:58} median {:>11}  longest {:>11}",
        shown(times.median()),
        shown(times.longest())
    );
}

/// A server that has no link to the agent, and the one that it relays by, once all is as it was at first.
async fn settled(cluster: &Cluster) -> Outcome<(usize, usize)> {
    let settled = async {
        loop {
            if let Some(found) = look(cluster).await? {
                return Ok(found);
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(BOUND, settled).await.map_err(|_| "the agent is not linked to two servers again")?
}

async fn look(cluster: &Cluster) -> Outcome<Option<(usize, usize)>> {
    let (mut direct, mut own) = (0, None);
    for n in 0..3 {
        let Ok(servers) = cluster.get(n, "/servers").await else { return Ok(None) };
        let all = servers.get("servers").and_then(Value::as_array);
        let live = |server: &&Value| server.get("state").is_some_and(|state| state == "live");
        if all.is_none_or(|all| all.iter().filter(live).count() < 3) {
            return Ok(None);
        }
        let Ok(space) = cluster.get(n, &format!("/spaces/{SPACE}")).await else { return Ok(None) };
        let Some(reached) = space.get("reached").filter(|reached| !reached.is_null()) else {
            return Ok(None);
        };
        if reached.get("directly") == Some(&Value::Bool(true)) {
            direct += 1;
        } else {
            let through = reached.get("through").and_then(Value::as_array).cloned();
            own = through.filter(|through| through.len() == 2).map(|through| (n, through));
        }
    }
    let Some((own, through)) = own.filter(|_| direct == 2) else { return Ok(None) };
    let first = through.first().and_then(Value::as_str).ok_or("no name")?;
    for n in 0..3 {
        if cluster.field(n, "name")? == first {
            return Ok(Some((own, n)));
        }
    }
    Err(format!("there is no server {first}").into())
}

/// A program that answers HTTP requests; local spaces are on this machine's loopback. It lives as long as this process.
async fn program() -> Outcome<u16> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = Vec::new();
                while stream.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {
                    if heard.ends_with(b"\r\n\r\n") {
                        heard.clear();
                        stream.write_all(ANSWER).await.ok();
                    }
                }
            });
        }
    });
    Ok(port)
}

/// The longest time between two answers of a port, asked again and again for so long.
async fn longest_gap(cluster: &Cluster, n: usize, port: u16, time: Duration) -> Outcome<Duration> {
    let client = reqwest::Client::new();
    let address = cluster.field(n, "http")?;
    let host = format!("{port}--{SPACE}--admin.localhost");
    let (began, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while began.elapsed() < time {
        let request = client.get(address).header("host", &host).bearer_auth(&cluster.token);
        let answer =
            request.timeout(BOUND).send().await.and_then(reqwest::Response::error_for_status);
        if answer.is_ok() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        sleep(APART).await;
    }
    if last.elapsed() > time {
        return Err("the port never answered".into());
    }
    Ok(longest.max(last.elapsed()))
}

/// One viewer of a terminal, which goes on by another connection as the page does.
struct Terminal {
    id: Uuid,
    viewer: Uuid,
    socket: Option<Socket>,
    made: bool,
    /// How many bytes of output it has, and how many of its input were taken.
    seen: u64,
    sent: u64,
}

impl Terminal {
    fn new() -> Self {
        Self {
            id: Uuid::new_v4(),
            viewer: Uuid::new_v4(),
            socket: None,
            made: false,
            seen: 0,
            sent: 0,
        }
    }

    async fn connect(&mut self, cluster: &Cluster, n: usize) -> Outcome<()> {
        let url = format!("{}/{SPACE}/terminals/{}", cluster.url(n)?, self.id);
        let mut request = url.replacen("http", "ws", 1).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", cluster.token).parse()?);
        let mut socket = connect_async(request).await?.0;
        let make = (!self.made).then(|| json!({"command": ["sh", "-c", ECHO]}));
        let view = json!({
            "make": make, "viewer": self.viewer, "size": {"columns": 80, "rows": 24},
            "from": self.seen, "sent": self.sent,
        });
        socket.send(Message::text(view.to_string())).await?;
        self.socket = Some(socket);
        if !std::mem::replace(&mut self.made, true) {
            while self.seen < 5 {
                self.read().await?;
            }
        }
        Ok(())
    }

    /// Takes the next message.
    async fn read(&mut self) -> Outcome<()> {
        let socket = self.socket.as_mut().ok_or("it is not connected")?;
        match socket.next().await.ok_or("the connection ended")?? {
            Message::Binary(bytes) => self.seen += bytes.len() as u64,
            Message::Text(text) if text.contains("over") => return Err(text.as_str().into()),
            _ => {}
        }
        Ok(())
    }

    /// Types a key and waits until it has come back.
    async fn key(&mut self) -> Outcome<()> {
        let wanted = self.seen + 1;
        let socket = self.socket.as_mut().ok_or("it is not connected")?;
        socket.send(Message::binary(&b"k"[..])).await?;
        self.sent += 1;
        let echo = async {
            while self.seen < wanted {
                self.read().await?;
            }
            Outcome::Ok(())
        };
        timeout(BOUND, echo).await?
    }
}
