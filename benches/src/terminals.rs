//! Terminals: what five hundred of them cost where nobody types, and how long a key takes to come back, beside the same
//! through a session that is not kept.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::{net::TcpStream, time::sleep};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use uuid::Uuid;

use crate::{
    Outcome,
    figures::{Times, print_ratio},
    spaces::{Cluster, program},
    usage::{self, megabytes},
};

const SPACES: usize = 5;
/// As many as an agent keeps.
const EACH: usize = 100;
const IDLE: Duration = Duration::from_secs(10);
const KEYS: usize = 500;
/// What each terminal shows to have a log and a full screen.
const SHOWN: usize = 64 << 10;
const ECHO: &str = "stty raw -echo; printf ready; exec cat";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) async fn measure() -> Outcome<()> {
    println!("Terminals, through three servers of `knot-server dev`");
    let agent = std::fs::metadata(program("knot-server")?)?.len();
    println!("  knot-server with the agent inside: {}", megabytes(agent));
    let cluster = Cluster::start()?;
    cluster.apply("plain", "platform: local\n")?;
    for n in 0..SPACES {
        cluster.running(&format!("space-{n}"), "plain")?;
    }
    let agents = agents(&cluster)?;
    let resident = |agents: &[u64]| -> Outcome<u64> {
        agents.iter().map(|pid| usage::resident_of(&pid.to_string())).sum()
    };
    let before = resident(&agents)?;
    let count = agents.len().max(1) as u64;
    println!("  {} agents at rest, resident each: {}", agents.len(), megabytes(before / count));
    let mut open = Vec::new();
    for n in 0..SPACES * EACH {
        let space = format!("space-{}", n % SPACES);
        let mut terminal = Terminal::open(&cluster, n, &space, "exec sleep 100000").await?;
        terminal.attached().await?;
        open.push(terminal);
    }
    let opened = resident(&agents)?;
    let total = open.len() as u64;
    println!("  {total} terminals open, resident each: {}", megabytes((opened - before) / total));
    let used = || {
        agents.iter().map(|pid| usage::processor_of(&pid.to_string())).sum::<Outcome<Duration>>()
    };
    let began = used()?;
    sleep(IDLE).await;
    println!("  processor while nobody types: {:?} in {IDLE:?}, all agents", used()? - began);
    drop(open);

    let mut talking = Vec::new();
    cluster.running("talking", "plain")?;
    let talker =
        self::agents(&cluster)?.into_iter().find(|pid| !agents.contains(pid)).ok_or("no agent")?;
    let before = resident(&[talker])?;
    for n in 0..EACH {
        let script = format!("head -c {SHOWN} /dev/zero | tr '\\0' x; exec sleep 100000");
        let mut terminal = Terminal::open(&cluster, n, "talking", &script).await?;
        terminal.until(SHOWN).await?;
        talking.push(terminal);
    }
    let after = resident(&[talker])?;
    let each = after.saturating_sub(before) / EACH as u64;
    println!("  each of {EACH} that have shown {SHOWN} bytes: {}", megabytes(each));
    drop(talking);

    cluster.running("echo", "plain")?;
    let mut kept = Terminal::open(&cluster, 1, "echo", ECHO).await?;
    kept.until(b"ready".len()).await?;
    let kept = kept.keys(0).await?;
    kept.print("  a key and its echo: a terminal that is kept");
    let mut bare = Terminal::exec(&cluster, 1, "echo").await?;
    bare.until(b"ready".len() + 1).await?;
    let bare = bare.keys(1).await?;
    bare.print("  the same: a session that is not");
    print_ratio("  kept / not kept, medians", kept.median(), bare.median());
    Ok(())
}

/// The processes of the cluster's agents: of others on this machine nothing is counted.
fn agents(cluster: &Cluster) -> Outcome<Vec<u64>> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc")?.flatten() {
        let Ok(program) = std::fs::read_link(process.path().join("exe")) else { continue };
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("knot-agent")
            && program.starts_with(cluster.folder())
            && let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok())
        {
            found.push(pid);
        }
    }
    if found.is_empty() { Err("no agent runs".into()) } else { Ok(found) }
}

/// A terminal that is looked at.
struct Terminal(Socket);

impl Terminal {
    async fn open(cluster: &Cluster, n: usize, space: &str, script: &str) -> Outcome<Self> {
        let path = format!("{space}/terminals/{}", Uuid::new_v4());
        let mut socket = connect(cluster, n, &path).await?;
        let view = json!({
            "make": {"command": ["sh", "-c", script]}, "viewer": Uuid::new_v4(),
            "size": {"columns": 80, "rows": 24}, "from": null, "sent": 0,
        });
        socket.send(Message::text(view.to_string())).await?;
        Ok(Self(socket))
    }

    async fn exec(cluster: &Cluster, n: usize, space: &str) -> Outcome<Self> {
        let mut socket = connect(cluster, n, &format!("{space}/exec")).await?;
        let open = json!({
            "command": ["sh", "-c", ECHO], "directory": null, "terminal": {"columns": 80, "rows": 24},
        });
        socket.send(Message::text(open.to_string())).await?;
        Ok(Self(socket))
    }

    async fn next(&mut self) -> Outcome<Message> {
        Ok(self.0.next().await.ok_or("the connection ended")??)
    }

    async fn attached(&mut self) -> Outcome<()> {
        while !matches!(self.next().await?, Message::Text(text) if text.contains("attached")) {}
        Ok(())
    }

    /// Reads so many bytes of binary messages.
    async fn until(&mut self, count: usize) -> Outcome<()> {
        let mut seen = 0;
        while seen < count {
            match self.next().await? {
                Message::Binary(bytes) => seen += bytes.len(),
                Message::Text(text) if text.contains("over") => return Err(text.as_str().into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Types keys, each once the one before has come back, with so many bytes around it.
    async fn keys(&mut self, around: usize) -> Outcome<Times> {
        let mut times = Times::default();
        for _ in 0..KEYS {
            let began = Instant::now();
            self.0.send(Message::binary(vec![b'k'])).await?;
            self.until(1 + around).await?;
            times.add(began);
        }
        Ok(times)
    }
}

async fn connect(cluster: &Cluster, n: usize, path: &str) -> Outcome<Socket> {
    let url = format!("{}/{path}", cluster.url(n)?).replacen("http", "ws", 1);
    let mut request = url.into_client_request()?;
    let bearer = format!("Bearer {}", cluster.token).parse()?;
    request.headers_mut().insert("authorization", bearer);
    Ok(connect_async(request).await?.0)
}
