//! A cluster with a space, and a user with OpenSSH.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    engine::have,
    wait::{bounded, eventually},
    world::World,
};

/// A cluster with a running space `dev`, and the client's files.
pub(crate) struct Client {
    pub(crate) world: World,
    /// Where keys and configuration are.
    pub(crate) folder: PathBuf,
}

/// Whether OpenSSH is here; where not, says so, and in CI fails.
pub(crate) fn have_ssh() -> bool {
    have("OpenSSH's client", runs("ssh", "-V"))
}

pub(crate) fn runs(program: &str, argument: &str) -> bool {
    let run = Command::new(program).arg(argument).stdin(Stdio::null()).output();
    run.is_ok_and(|output| output.status.success())
}

impl Client {
    /// A cluster with the space `dev`, whose user has a key.
    pub(crate) fn start() -> Option<Self> {
        let client = Self::before("shell", true)?;
        Some(client)
    }

    /// A cluster with the space `dev` of a template.
    pub(crate) fn before(template: &str, start: bool) -> Option<Self> {
        Self::among(1, template, start)
    }

    /// The same in a cluster of so many servers.
    pub(crate) fn among(servers: usize, template: &str, start: bool) -> Option<Self> {
        if !have_ssh() {
            return None;
        }
        let world = World::start(servers);
        let folder = world.folder.path().join("client");
        std::fs::create_dir(&folder).unwrap();
        let client = Self { world, folder };
        client.keygen("key", &["-t", "ed25519", "-C", "laptop"]);
        client.add_key("key.pub");
        if template != "shell" {
            client.world.apply(1, template);
        }
        let name = template.lines().next().unwrap().trim_start_matches("name: ");
        let mut arguments = vec!["space", "create", "dev", "--template", name];
        if start {
            arguments.push("--start");
        }
        client.world.json(1, &arguments);
        client.until_gateways();
        let line = client.host_key();
        std::fs::write(client.folder.join("known_hosts"), format!("cluster {line}\n")).unwrap();
        client.configure("key");
        Some(client)
    }

    /// Writes a configuration that signs in with one key: at `gate`, the first server, or at `gateN`.
    pub(crate) fn configure(&self, key: &str) -> PathBuf {
        let servers = self.world.up["servers"].as_array().unwrap();
        let hosts: String = (1..=servers.len())
            .map(|n| {
                let (host, port) = self.address(n);
                let also = if n == 1 { "gate " } else { "" };
                format!("Host {also}gate{n}\n  HostName {host}\n  Port {port}\n")
            })
            .collect();
        let path = self.folder.join(format!("{key}.config"));
        let folder = self.folder.display();
        let text = format!(
            "{hosts}Host *\n  HostKeyAlias cluster\n  UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking yes\n  \
             IdentityFile {folder}/{key}\n  IdentitiesOnly yes\n  BatchMode yes\n  LogLevel ERROR\n  ConnectTimeout 30\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Where the gateway of the n-th server is.
    pub(crate) fn address(&self, n: usize) -> (String, String) {
        let address = self.world.up["servers"][n - 1]["ssh"].as_str().unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        (host.to_owned(), port.to_owned())
    }

    /// Waits until each server knows of the gateway of each: one that has just joined cannot open the host key at once.
    fn until_gateways(&self) {
        for n in 1..=self.world.up["servers"].as_array().unwrap().len() {
            eventually("each server has its gateway", || {
                let listed = self.world.json(n, &["server", "ls"]);
                let mut servers = listed["servers"].as_array()?.iter();
                servers.all(|server| server["ssh"].is_string()).then_some(())
            });
        }
    }

    pub(crate) fn host_key(&self) -> String {
        let config = self.world.json(1, &["ssh-config"]);
        let known = config["known_hosts"].as_str().unwrap();
        known.split_once(' ').unwrap().1.trim().to_owned()
    }

    /// Makes a key.
    pub(crate) fn keygen(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let file = self.folder.join(name);
        self.run_keygen(&[arguments, &["-q", "-N", "", "-f", file.to_str().unwrap()]].concat());
        file
    }

    pub(crate) fn run_keygen(&self, arguments: &[&str]) {
        let done = Command::new("ssh-keygen").args(arguments).output().unwrap();
        assert!(done.status.success(), "ssh-keygen {arguments:?}: {done:?}");
    }

    pub(crate) fn add_key(&self, file: &str) -> Value {
        self.world.json(1, &["key", "add", self.folder.join(file).to_str().unwrap()])
    }

    /// `ssh` with the user's key.
    pub(crate) fn ssh(&self, arguments: &[&str]) -> Command {
        self.program("ssh", "key", arguments)
    }

    /// A program of OpenSSH's with one key.
    pub(crate) fn program(&self, program: &str, key: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-F")
            .arg(self.folder.join(format!("{key}.config")))
            .args(arguments)
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command in the space.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.ssh(&["dev@gate", line]).output().unwrap()
    }

    /// Runs a command in the space, which must succeed; its output.
    pub(crate) fn good(&self, line: &str) -> String {
        said(&self.run(line), line)
    }
}

/// The output of what must have succeeded.
pub(crate) fn said(output: &Output, what: &str) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {} {complaint}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Starts a command with its input and output piped; it is killed with this value.
pub(crate) struct Piped(pub(crate) Child);

impl Piped {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        let child = self.0.id();
        let output = self.0.stdout.as_mut().unwrap();
        bounded(child, || {
            while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
                line.push(byte[0]);
            }
        });
        String::from_utf8(line).unwrap()
    }

    pub(crate) fn types(&mut self, text: &str) {
        self.0.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A file of so many bytes that compress to nothing and differ everywhere.
pub(crate) fn file_of(path: &Path, bytes: usize) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (0..bytes).step_by(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()[..(bytes - at).min(8)]).unwrap();
    }
    file.flush().unwrap();
}

/// The sum and the length of what is read.
pub(crate) fn sum_of(from: impl Into<Stdio>) -> String {
    let sum = Command::new("cksum").stdin(from).output().unwrap();
    String::from_utf8(sum.stdout).unwrap()
}
