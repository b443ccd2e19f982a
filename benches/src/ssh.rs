//! Spaces over SSH beside OpenSSH's own server on the same machine: how long a key takes to come back, and how fast bytes go
//! through, where the gateway's server holds the agent and where another one relays.
//!
//! The client is OpenSSH's for all. Takes turns, so that what the machine does meanwhile is in all figures alike.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    figures::{Times, print_ratio},
    spaces::{Cluster, run},
};

const ROUNDS: usize = 10;
/// In each round, after some that are not counted.
const KEYS: usize = 200;
const WARM: usize = 20;
/// What goes through in each round, each way, in MiB.
const BULK: u64 = 512;
/// Ciphers that both OpenSSH and the gateway offer: the first is what OpenSSH's client asks for by itself.
const CIPHERS: [&str; 2] = ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"];
const ECHO: &str = "stty raw -echo; printf r; exec cat";
/// Longer than any start of `sshd`.
const BOUND: Duration = Duration::from_secs(20);

pub(crate) fn measure() -> Outcome<()> {
    println!("SSH, through `knot-server dev --servers 3` and OpenSSH's sshd");
    let Some(sshd) = Sshd::start()? else { return Ok(()) };
    let cluster = Cluster::start()?;
    cluster.add_key(&sshd.folder.path().join("key.pub"))?;
    cluster.apply("plain", "platform: local\n")?;
    cluster.running("bench", "plain")?;
    let (direct, relayed) = cluster.ways("bench")?;
    let user = Command::new("id").arg("-un").output()?;
    let user = String::from_utf8(user.stdout)?.trim().to_owned();
    let client = |address: &str, user: &str| Client {
        folder: sshd.folder.path().to_owned(),
        address: address.to_owned(),
        user: user.to_owned(),
    };
    let ways = [
        ("sshd", client(&sshd.address, &user)),
        ("direct", client(&cluster.ssh(direct)?, "bench")),
        ("relayed", client(&cluster.ssh(relayed)?, "bench")),
    ];
    echoes(&ways)?;
    for cipher in CIPHERS {
        bulk(&ways, cipher)?;
    }
    Ok(())
}

fn echoes(ways: &[(&str, Client)]) -> Outcome<()> {
    let mut times: Vec<_> = ways.iter().map(|_| Times::default()).collect();
    let mut open: Vec<_> =
        ways.iter().map(|(_, client)| Shell::open(client)).collect::<Outcome<_>>()?;
    for _ in 0..ROUNDS {
        for (shell, times) in open.iter_mut().zip(&mut times) {
            for _ in 0..WARM {
                shell.key()?;
            }
            for _ in 0..KEYS {
                let began = Instant::now();
                shell.key()?;
                times.add(began);
            }
        }
    }
    for ((way, _), times) in ways.iter().zip(&times) {
        times.print(&format!("  a key and its echo: {way}"));
    }
    if let [sshd, others @ ..] = times.as_slice() {
        for ((way, _), times) in ways.iter().skip(1).zip(others) {
            let more = |percent| {
                1_000.0
                    * (times.percentile(percent).as_secs_f64()
                        - sshd.percentile(percent).as_secs_f64())
            };
            println!("  {way} beyond sshd: p50 {:+.3} ms, p99 {:+.3} ms", more(50), more(99));
        }
    }
    Ok(())
}

fn bulk(ways: &[(&str, Client)], cipher: &str) -> Outcome<()> {
    for (title, upward) in [("down", false), ("up", true)] {
        let mut times: Vec<_> = ways.iter().map(|_| Times::default()).collect();
        for round in 0..=ROUNDS / 2 {
            for ((_, client), times) in ways.iter().zip(&mut times) {
                let began = Instant::now();
                client.transfer(cipher, upward)?;
                // The first one fills caches.
                if round > 0 {
                    times.add(began);
                }
            }
        }
        let base = times.first().map(Times::median).unwrap_or_default();
        for ((way, _), times) in ways.iter().zip(&times) {
            let rate = (BULK << 20) as f64 / 1e6 / times.median().as_secs_f64();
            println!("  {BULK} MiB {title}, {cipher}: {way}: {rate:.0} MB/s, with the connection");
            // Of rates, not of times.
            print_ratio(&format!("  {way} / sshd"), base, times.median());
        }
    }
    Ok(())
}

/// How one server is reached.
struct Client {
    folder: PathBuf,
    address: String,
    user: String,
}

impl Client {
    fn command(&self, options: &[&str]) -> Outcome<Command> {
        let (host, port) = self.address.rsplit_once(':').ok_or("no port")?;
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-p", port, "-i"])
            .arg(self.folder.join("key"))
            .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            // A measurement on loopback, with servers of its own.
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(options)
            .arg(format!("{}@{host}", self.user));
        Ok(command)
    }

    fn transfer(&self, cipher: &str, upward: bool) -> Outcome<()> {
        let mut command = self.command(&["-c", cipher])?;
        if upward {
            command.arg("cat > /dev/null").stdout(Stdio::null());
            command.stdin(Stdio::piped());
        } else {
            command.arg(format!("head -c {} /dev/zero", BULK << 20));
            command.stdin(Stdio::null()).stdout(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let mut buffer = vec![0; 1 << 16];
        if let Some(mut stdin) = child.stdin.take() {
            for _ in 0..(BULK << 20) / (1 << 16) {
                stdin.write_all(&buffer)?;
            }
        }
        if let Some(mut stdout) = child.stdout.take() {
            let mut seen = 0;
            loop {
                match stdout.read(&mut buffer)? {
                    0 => break,
                    count => seen += count as u64,
                }
            }
            if seen != BULK << 20 {
                return Err(format!("{seen} bytes came").into());
            }
        }
        match child.wait()?.success() {
            true => Ok(()),
            false => Err(format!("ssh to {} failed", self.address).into()),
        }
    }
}

/// A terminal in which each key comes back.
struct Shell {
    ssh: Child,
    keys: ChildStdin,
    screen: ChildStdout,
}

impl Shell {
    fn open(client: &Client) -> Outcome<Self> {
        let mut command = client.command(&["-tt"])?;
        let mut ssh = command.arg(ECHO).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (keys, screen) =
            (ssh.stdin.take().ok_or("no input")?, ssh.stdout.take().ok_or("no output")?);
        let mut shell = Self { ssh, keys, screen };
        shell.read()?;
        Ok(shell)
    }

    fn read(&mut self) -> Outcome<()> {
        Ok(self.screen.read_exact(&mut [0])?)
    }

    fn key(&mut self) -> Outcome<()> {
        self.keys.write_all(b"k")?;
        self.read()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.ssh.kill().ok();
        self.ssh.wait().ok();
    }
}

/// OpenSSH's server, with keys of its own, on loopback.
struct Sshd {
    folder: tempfile::TempDir,
    address: String,
    process: Child,
}

impl Sshd {
    /// Nothing where there is none here, after saying so.
    fn start() -> Outcome<Option<Self>> {
        let program = Path::new("/usr/sbin/sshd");
        if !program.exists() {
            println!("SKIPPED: {} is not here (Debian: openssh-server)", program.display());
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        for name in ["host", "key"] {
            let mut make = Command::new("ssh-keygen");
            run(make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(name)))?;
        }
        fs::copy(at("key.pub"), at("authorized"))?;
        // Where it drops its privileges; it ends without.
        fs::create_dir_all("/run/sshd")
            .and_then(|()| fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755)))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\n",
            at("host").display(),
            at("authorized").display(),
        );
        fs::write(at("config"), text)?;
        let process = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(at("config"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let address = format!("127.0.0.1:{port}");
        let began = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            if began.elapsed() > BOUND {
                return Err("sshd does not listen".into());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(Some(Self { folder, address, process }))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
