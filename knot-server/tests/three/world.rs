//! Three servers, a client for each, and what runs on this machine.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    block::port,
    forward::Forwarder,
    left::end_all_below,
    wait::{BOUND, eventually},
};

const SERVER: &str = env!("CARGO_BIN_EXE_knot-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_knot");

/// Worlds come up one after the other, and the tests of this file run so: three servers are enough for
/// a small machine.
static ONE: Mutex<()> = Mutex::new(());

pub(crate) struct World {
    pub(crate) servers: Vec<Server>,
    pub(crate) folder: TempDir,
    runtime: Runtime,
    http: reqwest::Client,
    token: String,
    _one: MutexGuard<'static, ()>,
}

pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    http: SocketAddr,
    quic: SocketAddr,
    forwarder: Forwarder,
    child: Option<Child>,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// The causality token.
    pub(crate) seen: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn problem(self, code: &str) -> String {
        assert_eq!(self.body["code"], code, "{}: {}", self.status, self.body);
        self.body["detail"].as_str().unwrap().to_owned()
    }
}

impl World {
    /// Three servers: alpha, beta and gamma.
    pub(crate) fn start() -> Self {
        Self::start_with("[docker]\nenabled = false\n")
    }

    /// The same, with more in the configuration of each.
    pub(crate) fn start_with(settings: &str) -> Self {
        Self::start_each(|_| settings.to_owned())
    }

    /// The same, with what is to be in the configuration of the server of a name.
    pub(crate) fn start_each(settings: impl Fn(&str) -> String) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut servers: Vec<Server> = ["alpha", "beta", "gamma"]
            .map(|name| Server::prepare(folder.path(), name, &settings(name)))
            .into();
        knot_server(&["init", "--data", path(&servers[0].data)]);
        servers[0].run();
        for other in 1..3 {
            let token = eventually("a token", || {
                let token = try_knot_server(&["token", "--data", path(&servers[0].data)]);
                token.status.success().then(|| String::from_utf8(token.stdout).unwrap())
            });
            let host = servers[0].quic.to_string();
            knot_server(&["join", &host, token.trim(), "--data", path(&servers[other].data)]);
            servers[other].run();
        }
        let password = knot_server(&["admin", "admin", "--data", path(&servers[0].data)]);
        let runtime = Runtime::new().unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([])
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let token = String::new();
        let mut world = Self { servers, folder, runtime, http, token, _one: one };
        world.token = eventually("a sign-in", || {
            let wanted = json!({"user": "admin", "password": password.trim(), "token_name": "t"});
            let answer = world.try_ask(0, Method::POST, "/sign-in", Some(wanted))?;
            Some(answer.body["token"].as_str()?.to_owned())
        });
        eventually("all servers hear each other", || {
            let all = (0..3).all(|n| world.heard(n) == Some(3));
            all.then_some(())
        });
        world
    }

    /// Where a server answers.
    #[allow(dead_code, reason = "for tests/terminals.rs")]
    pub(crate) fn http(&self, n: usize) -> SocketAddr {
        self.servers[n].http
    }

    /// The admin's token.
    #[allow(dead_code, reason = "for tests/terminals.rs")]
    pub(crate) fn token(&self) -> String {
        self.token.clone()
    }

    /// How many servers a server calls live and says the platforms of.
    fn heard(&self, n: usize) -> Option<usize> {
        let answer = self.try_ask(n, Method::GET, "/servers", None)?;
        let servers = answer.body["servers"].as_array()?;
        let live = |one: &&Value| {
            one["state"] == "live" && one["platforms"].as_array().is_some_and(|all| !all.is_empty())
        };
        Some(servers.iter().filter(live).count())
    }

    /// Asks a server; `None` where it does not answer.
    pub(crate) fn try_ask(
        &self,
        n: usize,
        method: Method,
        to: &str,
        body: Option<Value>,
    ) -> Option<Answer> {
        self.try_ask_having_seen(n, method, to, body, "")
    }

    /// The same by a client that has seen an answer of another server.
    pub(crate) fn try_ask_having_seen(
        &self,
        n: usize,
        method: Method,
        to: &str,
        body: Option<Value>,
        seen: &str,
    ) -> Option<Answer> {
        let url = format!("http://{}/api/v1{to}", self.servers[n].http);
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        if !seen.is_empty() {
            request = request.header("knot-token", seen);
        }
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            let status = response.status();
            let seen = response.headers().get("knot-token");
            let seen = seen.map_or("", |seen| seen.to_str().unwrap()).to_owned();
            let text = response.text().await.ok()?;
            Some(Answer { status, body: serde_json::from_str(&text).unwrap_or_default(), seen })
        })
    }

    pub(crate) fn post(&self, n: usize, to: &str, body: Value) -> Answer {
        self.try_ask(n, Method::POST, to, Some(body)).expect("the server answers")
    }

    /// The client, signed in, at a server, with nothing that it has seen elsewhere.
    pub(crate) fn client(&self, n: usize) -> Command {
        let mut client = Command::new(CLIENT);
        client
            .env("KNOT_URL", format!("http://{}", self.servers[n].http))
            .env("KNOT_TOKEN", &self.token)
            .env("HOME", "/nonexistent")
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null());
        client
    }

    pub(crate) fn get(&self, n: usize, to: &str) -> Answer {
        self.try_ask(n, Method::GET, to, None).expect("the server answers")
    }

    /// What a server answers that is no JSON.
    pub(crate) fn text(&self, n: usize, to: &str) -> String {
        let url = format!("http://{}/api/v1{to}", self.servers[n].http);
        let request = self.http.get(url).bearer_auth(&self.token);
        self.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() })
    }

    /// Applies a template file.
    pub(crate) fn apply(&self, n: usize, file: &str) {
        let url = format!("http://{}/api/v1/templates", self.servers[n].http);
        let request = self.http.put(url).bearer_auth(&self.token).body(file.to_owned());
        let request = request.header("content-type", "application/yaml");
        let status = self.runtime.block_on(async { request.send().await.unwrap().status() });
        assert!(status.is_success(), "{status}");
    }

    /// Asks with an idempotency key.
    pub(crate) fn create_once(&self, n: usize, key: &str, body: &Value) -> Answer {
        let url = format!("http://{}/api/v1/spaces", self.servers[n].http);
        let request = self.http.post(url).bearer_auth(&self.token).json(body);
        self.runtime.block_on(async {
            let response = request.header("idempotency-key", key).send().await.unwrap();
            let status = response.status();
            let seen = String::new();
            Answer { status, body: response.json().await.unwrap_or_default(), seen }
        })
    }

    /// Makes a space with a home of the test's choice, and waits until it runs.
    pub(crate) fn running(&self, name: &str, home: usize) -> String {
        let wanted = json!({
            "name": name, "template": "shell", "start": true, "server": self.servers[home].name
        });
        let id = self.post(home, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
        self.until(home, &id, "observed", "running");
        id
    }

    /// A space as a server shows it.
    pub(crate) fn shown(&self, n: usize, id: &str) -> Value {
        self.try_ask(n, Method::GET, &format!("/spaces/{id}"), None)
            .map(|answer| answer.body)
            .unwrap_or_default()
    }

    /// Waits until a server shows a field of a space so.
    #[track_caller]
    pub(crate) fn until(&self, n: usize, id: &str, field: &str, wanted: &str) -> Value {
        let mut last = Value::Null;
        let began = Instant::now();
        while began.elapsed() < BOUND {
            last = self.shown(n, id);
            if last[field] == wanted {
                return last;
            }
            std::thread::park_timeout(Duration::from_millis(30));
        }
        panic!("{field} never was {wanted} at {}: {last}", self.servers[n].name);
    }

    /// Waits until a server has heard of a document.
    pub(crate) fn until_known(&self, n: usize, id: &str) {
        eventually("it is known there", || self.shown(n, id)["id"].as_str().map(drop));
    }

    pub(crate) fn start_space(&self, n: usize, id: &str) -> Answer {
        self.post(n, &format!("/spaces/{id}/start"), Value::Null)
    }

    pub(crate) fn stop_space(&self, n: usize, id: &str) -> Answer {
        self.post(n, &format!("/spaces/{id}/stop"), Value::Null)
    }

    pub(crate) fn restart_space(&self, n: usize, id: &str) -> Answer {
        self.post(n, &format!("/spaces/{id}/restart"), Value::Null)
    }

    pub(crate) fn delete_space(&self, n: usize, id: &str) -> Answer {
        self.try_ask(n, Method::DELETE, &format!("/spaces/{id}"), None).expect("it answers")
    }

    /// Cuts two servers off from each other, or joins them again.
    pub(crate) fn set_cut(&self, a: usize, b: usize, cut: bool) {
        let (a, b) = (&self.servers[a], &self.servers[b]);
        a.forwarder.set_cut(b.quic.port(), cut);
        b.forwarder.set_cut(a.quic.port(), cut);
    }

    /// Cuts a server off from both others, and waits until it is noticed.
    pub(crate) fn isolate(&self, n: usize) {
        for other in (0..3).filter(|other| *other != n) {
            self.set_cut(n, other, true);
        }
        eventually("it is heard no more", || {
            let alone = self.heard(n) == Some(1);
            let others = (0..3).filter(|other| *other != n && self.servers[*other].is_up());
            (alone && others.into_iter().all(|other| self.heard(other) < Some(3))).then_some(())
        });
    }

    pub(crate) fn heal(&self) {
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            self.set_cut(a, b, false);
        }
    }

    /// Waits until all three hear each other.
    pub(crate) fn until_healed(&self) {
        eventually("all servers hear each other", || {
            (0..3).all(|n| self.heard(n) == Some(3)).then_some(())
        });
    }

    pub(crate) fn kill(&mut self, n: usize) {
        self.servers[n].kill();
    }

    pub(crate) fn run(&mut self, n: usize) {
        self.servers[n].run();
        eventually("the server answers", || self.try_ask(n, Method::GET, "/me", None).map(drop));
    }

    /// What runs of a space, by the marks of its processes: home and generation.
    pub(crate) fn copies(&self, id: &str) -> BTreeSet<(String, String)> {
        self.all_copies()
            .into_iter()
            .filter(|copy| copy.1 == id)
            .map(|copy| (copy.0, copy.2))
            .collect()
    }

    /// Everything that runs for these servers: home, space and generation.
    pub(crate) fn all_copies(&self) -> BTreeSet<(String, String, String)> {
        let folder = self.folder.path().to_str().unwrap();
        agents_below(folder)
    }
}

/// The runs whose processes have this folder in their environment.
pub(crate) fn agents_below(folder: &str) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(environment) = fs::read(process.path().join("environ")) else { continue };
        let text = String::from_utf8_lossy(&environment);
        let mark = text.split('\0').find_map(|pair| pair.strip_prefix("KNOT_RUN="));
        if let Some(mark) = mark.filter(|_| text.contains(folder)) {
            let parts: Vec<&str> = mark.split('/').collect();
            found.insert((parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned()));
        }
    }
    found
}

impl Server {
    fn prepare(folder: &Path, name: &str, settings: &str) -> Self {
        let data = folder.join(name);
        fs::create_dir(&data).unwrap();
        let [http, quic] = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, port())));
        let forwarder = Forwarder::new(quic);
        let text = format!(
            "name = \"{name}\"\n[http]\nlisten = \"{http}\"\n[quic]\nlisten = \"{quic}\"\n\
             advertise = \"{}\"\n[spaces]\nstop_grace_seconds = 1\n{settings}",
            forwarder.address
        );
        fs::write(data.join("knot.toml"), text).unwrap();
        Self { name: name.to_owned(), data, http, quic, forwarder, child: None }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.data.with_extension("log"));
        let child = Command::new(SERVER)
            .args(["run", "--data", path(&self.data)])
            .env("KNOT_LOG", "info")
            .stdin(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// As a power cut ends it; what it runs goes on.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for server in &self.servers {
                let log = fs::read_to_string(server.data.with_extension("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.len().saturating_sub(40);
                println!("--- {}\n{}", server.name, lines[last..].join("\n"));
            }
        }
        for server in &mut self.servers {
            server.kill();
        }
        end_all_below(self.folder.path());
    }
}

pub(crate) fn try_knot_server(arguments: &[&str]) -> std::process::Output {
    Command::new(SERVER)
        .args(arguments)
        .env_remove("KNOT_DATA")
        .env_remove("KNOT_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub(crate) fn knot_server(arguments: &[&str]) -> String {
    let output = try_knot_server(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "knot-server {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
