//! A cluster brought up by `knot-server dev`, and the client to use it with.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    block::port,
    left::{all_below, end_all_below},
    wait::{bounded, eventually},
};

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_knot-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_knot");

/// The tests' clusters come up one after the other, those of another test program too: a small machine has enough to
/// do with one. It lasts until the file is dropped.
pub(crate) fn coming_up() -> File {
    let name = format!("knot-tests-{}.lock", rustix::process::getuid().as_raw());
    let turn = File::create(std::env::temp_dir().join(name)).unwrap();
    turn.lock().unwrap();
    turn
}

/// A running `knot-server dev`.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) up: Value,
    dev: Child,
    /// Servers that a test has started by itself.
    started: Vec<Child>,
}

impl World {
    pub(crate) fn start(servers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        give_ports(folder.path(), servers);
        Self::start_in(folder, servers)
    }

    pub(crate) fn start_in(folder: TempDir, servers: usize) -> Self {
        let _turn = coming_up();
        let mut dev = Command::new(SERVER)
            .args(["dev", "--json", "--servers", &servers.to_string(), "--data"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(dev.stdout.take().unwrap());
        bounded(dev.id(), || said.read_line(&mut line)).unwrap();
        let up = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!(
                "the first line of `dev --json` is no JSON ({error}): {line:?}; {:?}",
                dev.wait()
            )
        });
        let world = Self { folder, up, dev, started: Vec::new() };
        world.until_all_have("local");
        world
    }

    /// Waits until each server has heard of each that it has this platform.
    pub(crate) fn until_all_have(&self, platform: &str) {
        for n in 1..=self.up["servers"].as_array().unwrap().len() {
            eventually("each has heard of the engines of each", || {
                let arguments = ["--one-server", "--json", "server", "ls"];
                let listed = self.client(n).args(arguments).output().unwrap();
                let listed: Value = serde_json::from_slice(&listed.stdout).ok()?;
                let mut servers = listed["servers"].as_array()?.iter();
                let has = |one: &Value| {
                    one["platforms"].as_array()?.iter().find(|one| **one == platform).map(drop)
                };
                servers.all(|one| has(one).is_some()).then_some(())
            });
        }
    }

    /// Stops the cluster as Ctrl-C does, and gives its folder back.
    pub(crate) fn stop(mut self) -> TempDir {
        signal(&mut self.dev, Signal::INT);
        assert!(self.dev.wait().unwrap().success(), "`dev` did not end well");
        assert_eq!(all_below(self.folder.path()), [], "what `dev` started runs on");
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    fn server(&self, n: usize) -> &Value {
        &self.up["servers"][n - 1]
    }

    pub(crate) fn url(&self, n: usize) -> &str {
        self.server(n)["http"].as_str().unwrap()
    }

    pub(crate) fn name(&self, n: usize) -> &str {
        self.server(n)["name"].as_str().unwrap()
    }

    pub(crate) fn data(&self, n: usize) -> PathBuf {
        self.server(n)["data"].as_str().unwrap().into()
    }

    pub(crate) fn token(&self) -> &str {
        self.up["admin"]["token"].as_str().unwrap()
    }

    /// The client, signed in, at the n-th server; it goes on with another that it knows of.
    pub(crate) fn client(&self, n: usize) -> Command {
        let mut client = Command::new(CLIENT);
        client
            .env("KNOT_URL", self.url(n))
            .env("KNOT_TOKEN", self.token())
            .env("HOME", self.folder.path())
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null());
        client
    }

    /// Runs the client, which asks no other server than this, and gives its standard output; it must succeed.
    pub(crate) fn knot(&self, n: usize, arguments: &[&str]) -> String {
        let output = self.client(n).arg("--one-server").args(arguments).output().unwrap();
        assert!(output.status.success(), "knot {arguments:?}: {}", describe(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same with `--json`.
    pub(crate) fn json(&self, n: usize, arguments: &[&str]) -> Value {
        let text = self.knot(n, &[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Waits until each server has heard of a space.
    pub(crate) fn until_known(&self, space: &str) {
        for server in self.up["servers"].as_array().unwrap() {
            let url = server["http"].as_str().unwrap();
            eventually("it is known there", || {
                let mut client = self.client(1);
                let shown =
                    client.env("KNOT_URL", url).args(["--one-server", "space", "show", space]);
                shown.output().unwrap().status.success().then_some(())
            });
        }
    }

    /// Applies a template file at the n-th server.
    pub(crate) fn apply(&self, n: usize, template: &str) -> Value {
        let file = self.folder.path().join("template.yaml");
        std::fs::write(&file, template).unwrap();
        self.json(n, &["template", "apply", file.to_str().unwrap()])
    }

    /// Ends a server as a power cut would.
    pub(crate) fn kill(&self, n: usize) {
        let pid = self.signal(n, Signal::KILL);
        // A killed server's database is free once the process is gone.
        eventually("the process is gone", || {
            rustix::process::test_kill_process(pid).is_err().then_some(())
        });
    }

    /// Tells a server to stop, as its operator would.
    pub(crate) fn stop_one(&self, n: usize) {
        self.signal(n, Signal::TERM);
    }

    fn signal(&self, n: usize, signal: Signal) -> Pid {
        let pid = i32::try_from(self.server(n)["pid"].as_i64().unwrap()).unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        kill_process(pid, signal).unwrap();
        pid
    }

    /// Starts a killed server again, as its operator would.
    pub(crate) fn start_again(&mut self, n: usize) {
        let server = Command::new(SERVER)
            .args(["run", "--data"])
            .arg(self.data(n))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.started.push(server);
        eventually("the server is up again", || {
            let listed = self.client(n).args(["--one-server", "server", "ls"]).output().unwrap();
            listed.status.success().then_some(())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.started.iter_mut().chain([&mut self.dev]) {
            signal(child, Signal::INT);
        }
        for child in self.started.iter_mut().chain([&mut self.dev]) {
            child.wait().ok();
        }
        end_all_below(self.folder.path());
    }
}

/// Gives the servers of a new folder ports that nobody else takes: `dev` goes by what is written down.
fn give_ports(folder: &Path, servers: usize) {
    File::create(folder.join("dev.lock")).unwrap();
    for n in 1..=servers {
        let data = folder.join(format!("knot-{n}"));
        std::fs::create_dir(&data).unwrap();
        let [http, quic, ssh] = [(); 3].map(|()| port());
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:{http}\"\n[quic]\nlisten = \"127.0.0.1:{quic}\"\n\
             [ssh]\nlisten = \"127.0.0.1:{ssh}\"\n"
        );
        std::fs::write(data.join("knot.toml"), text).unwrap();
    }
}

/// A server that a test runs by itself; it is stopped with this value.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever started the tests in the background may have told all below not to hear Ctrl-C.
        signal(&mut self.0, Signal::TERM);
        self.0.wait().ok();
    }
}

fn signal(child: &mut Child, signal: Signal) {
    if let Ok(None) = child.try_wait() {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).ok();
    }
}

/// Runs `knot-server` and gives what came of it.
pub(crate) fn knot_server(arguments: &[&str]) -> Output {
    Command::new(SERVER)
        .args(arguments)
        .env_remove("KNOT_DATA")
        .env_remove("KNOT_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub(crate) fn describe(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
