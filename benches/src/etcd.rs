//! A cluster of three etcd servers on the same machine and disk, where etcd is installed: to compare with.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::Outcome;

/// How long the three may take to elect a leader.
const START: Duration = Duration::from_secs(20);

pub(crate) struct Etcd {
    servers: Vec<Child>,
    _folder: TempDir,
    stream: TcpStream,
    address: String,
}

impl Etcd {
    /// Starts three servers; `None` where there is no etcd.
    pub(crate) async fn start() -> Outcome<Option<Self>> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("SKIPPED beside etcd: it is not installed (Debian: etcd-server)");
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let ports = free_ports(6)?;
        let (clients, peers) = ports.split_at(3);
        let cluster: Vec<_> = (0..)
            .zip(peers)
            .map(|(n, port): (usize, _)| format!("s{n}=http://127.0.0.1:{port}"))
            .collect();
        let mut servers = Vec::new();
        for (n, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let (client, peer) =
                (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            let server = Command::new("etcd")
                .args(["--name", &format!("s{n}"), "--initial-cluster", &cluster.join(",")])
                .args(["--data-dir", &folder.path().join(n.to_string()).display().to_string()])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--log-level", "error"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            servers.push(server);
        }
        let address = format!("127.0.0.1:{}", clients.first().ok_or("no port")?);
        let mut stream = None;
        let until = Instant::now() + START;
        while stream.is_none() && Instant::now() < until {
            sleep(Duration::from_millis(100)).await;
            stream = TcpStream::connect(&address).await.ok();
        }
        let stream = stream.ok_or("etcd does not listen")?;
        stream.set_nodelay(true)?;
        let mut etcd = Self { servers, _folder: folder, stream, address };
        while let Err(error) = etcd.put(0, "is there a leader?").await {
            if Instant::now() > until {
                return Err(error);
            }
            sleep(Duration::from_millis(100)).await;
            etcd.stream = TcpStream::connect(&etcd.address).await?;
            etcd.stream.set_nodelay(true)?;
        }
        Ok(Some(etcd))
    }

    /// Puts a value through the JSON gateway, over one connection that stays open.
    pub(crate) async fn put(&mut self, key: usize, value: &str) -> Outcome<()> {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let (key, value) = (BASE64_STANDARD.encode(key.to_string()), BASE64_STANDARD.encode(value));
        let body = format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}");
        let request = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut part = [0; 4_096];
        loop {
            let count = self.stream.read(&mut part).await?;
            answer.extend_from_slice(part.get(..count).unwrap_or_default());
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse().ok())?
                });
                if length.is_some_and(|length: usize| body.len() >= length) {
                    let first = head.lines().next().unwrap_or_default();
                    return if first.contains(" 200 ") { Ok(()) } else { Err(first.into()) };
                }
            }
            if count == 0 {
                return Err("etcd closed the connection".into());
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for server in &mut self.servers {
            server.kill().ok();
            server.wait().ok();
        }
    }
}

fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    Ok(listeners
        .iter()
        .map(|one| one.local_addr().map(|one| one.port()))
        .collect::<Result<_, _>>()?)
}
