//! The server processes of `knot-server dev`.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Error, UP, UpServer, ports::Ports};
use crate::{
    config::{self, Config, Flags},
    control::{self, Reply, Request, Status},
    node,
};

/// How often a server that is coming up is asked whether it is.
const ASK: Duration = Duration::from_millis(20);
/// How long a server has to stop by itself.
const STOP: Duration = Duration::from_secs(40);

/// Writes the configuration of one server and loads it as `knot-server run` would.
pub(super) fn configure(folder: &Path, name: &str, ports: &mut Ports) -> Result<Config, Error> {
    let data = folder.join(name);
    let file = data.join(config::FILE);
    let failed = |source| Error::File { path: file.clone(), source };
    let flags = Flags { data: Some(data.clone()), ..Flags::default() };
    let before = if file.exists() { Some(Config::load(&flags)?) } else { None };
    let http = ports.http(before.as_ref().map(|before| before.http_listen))?;
    let quic = ports.quic(before.as_ref().map(|before| before.quic_listen))?;
    let ssh = before.as_ref().map(|before| before.ssh_listen).filter(|ssh| ssh.ip().is_loopback());
    let ssh = ports.ssh(ssh)?;
    // Spaces end with the cluster: Ctrl-C stops everything that `dev` started.
    let text = format!(
        "name = \"{name}\"\nzone = \"{name}\"\n\n[http]\nlisten = \"{http}\"\n\n\
         [quic]\nlisten = \"{quic}\"\n\n[ssh]\nlisten = \"{ssh}\"\n\n[ports]\ndomain = \"localhost\"\n\n[spaces]\nstop_on_exit = true\nstop_grace_seconds = 3\n"
    );
    node::make_private(&data).map_err(failed)?;
    std::fs::write(&file, text).map_err(failed)?;
    Ok(Config::load(&flags)?)
}

/// Servers that run; dropping it kills them.
#[derive(Debug, Default)]
pub(super) struct Running(Vec<Server>);

#[derive(Debug)]
struct Server {
    config: Config,
    child: Child,
    /// Held open for as long as the server is to run; waiting for the child would close it.
    _input: Option<ChildStdin>,
    pid: u32,
    /// Whether its end has been reported.
    ended: bool,
}

impl Running {
    /// Lets a new server join through the first one that runs.
    pub(super) async fn join(&self, config: &Config) -> Result<(), Error> {
        let Some(host) = self.0.first() else { return Ok(()) };
        if let Reply::JoinToken(token) =
            control::ask(&host.config.data, &Request::JoinToken).await?
        {
            node::join_cluster(config, host.config.quic_listen, &token.parse()?).await?;
        }
        Ok(())
    }

    /// Starts a server and waits until it is up.
    pub(super) async fn start(&mut self, config: Config) -> Result<(), Error> {
        let log = log_of(&config);
        let failed = |source| Error::File { path: log.clone(), source };
        let output = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let not_started = |source| Error::NotStarted { name: config.name.clone(), source };
        let mut child = Command::new(std::env::current_exe().map_err(not_started)?)
            .args(["run", "--until-input-ends", "--data"])
            .arg(&config.data)
            .env_remove("KNOT_CONFIG")
            .stdin(Stdio::piped())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            // Ctrl-C reaches the whole foreground group: the order of stopping is ours.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        let pid = child.id().unwrap_or_default();
        let input = child.stdin.take();
        let mut server = Server { config, child, _input: input, pid, ended: false };
        let up = server.up().await;
        self.0.push(server);
        up
    }

    /// Waits until every server is linked to every other and has asked its engines.
    pub(super) async fn linked(&mut self) -> Result<(), Error> {
        let others = self.0.len().saturating_sub(1);
        for server in &mut self.0 {
            let ready =
                |status: &Status| status.linked.len() >= others && !status.platforms.is_empty();
            server.until(ready).await?;
        }
        Ok(())
    }

    /// A sign-in link's path and an API token.
    pub(super) async fn sign_in(&self, user: &str) -> Result<(String, String), Error> {
        let Some(first) = self.0.first() else { return Ok(Default::default()) };
        match control::ask(&first.config.data, &Request::SignIn(user.to_owned())).await? {
            Reply::SignIn { path, token } => Ok((path, token)),
            _ => Ok(Default::default()),
        }
    }

    pub(super) fn describe(&self) -> Vec<UpServer> {
        let describe = |server: &Server| UpServer {
            name: server.config.name.clone(),
            http: server.config.http_url.clone(),
            ssh: Some(server.config.ssh_advertise.clone()),
            quic: server.config.quic_listen,
            data: server.config.data.clone(),
            pid: server.pid,
        };
        self.0.iter().map(describe).collect()
    }

    /// Waits until told to stop, or until all servers have ended; says so of each that ends.
    pub(super) async fn wait(&mut self, stop: &CancellationToken) {
        while self.0.iter().any(|server| !server.ended) {
            let ends = self.0.iter_mut().filter(|server| !server.ended).map(|server| {
                Box::pin(async move {
                    let status = server.child.wait().await;
                    server.ended = true;
                    (server.config.name.clone(), server.config.data.clone(), status)
                })
            });
            let ended = futures_util::future::select_all(ends);
            let Some(((name, data, status), ..)) = stop.run_until_cancelled(ended).await else {
                return;
            };
            let how = status.map(describe_end).unwrap_or_else(|error| error.to_string());
            eprintln!(
                "{name} has ended ({how}); start it again with: knot-server run --data {}",
                data.display()
            );
        }
    }

    /// Stops every server in order, and kills one that does not stop by itself. What one that was killed has left
    /// running ends too, unless somebody has started it again by hand.
    pub(super) async fn stop(mut self) {
        for server in &self.0 {
            let pid = i32::try_from(server.pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| !server.ended) {
                kill_process(pid, Signal::TERM).ok();
            }
        }
        for server in &mut self.0 {
            let ended = timeout(STOP, server.child.wait()).await;
            if ended.is_err() {
                eprintln!(
                    "{} did not stop within {} s and is killed",
                    server.config.name,
                    STOP.as_secs()
                );
                server.child.kill().await.ok();
            }
            if !matches!(ended, Ok(Ok(status)) if status.success()) {
                server.tidy_up().await;
            }
        }
    }
}

impl Server {
    async fn tidy_up(&self) {
        if control::ask(&self.config.data, &Request::Status).await.is_ok() {
            return;
        }
        if let Err(why) = node::end_what_is_left(&self.config).await {
            eprintln!("what runs of {}'s spaces could not be ended: {why}", self.config.name);
        }
    }

    async fn up(&mut self) -> Result<(), Error> {
        self.until(|_| true).await
    }

    /// Waits until the server answers and its status is as wanted.
    async fn until(&mut self, wanted: impl Fn(&Status) -> bool) -> Result<(), Error> {
        let log = log_of(&self.config);
        let not_up = |why: String| Error::NotUp { name: self.config.name.clone(), why, log };
        let data = self.config.data.clone();
        let asked = async {
            loop {
                let answer = control::ask(&data, &Request::Status).await;
                if matches!(answer, Ok(Reply::Status(status)) if wanted(&status)) {
                    return;
                }
                sleep(ASK).await;
            }
        };
        tokio::select! {
            answer = timeout(UP, asked) => {
                answer.map_err(|_| not_up(format!(" within {} s", UP.as_secs())))
            }
            status = self.child.wait() => {
                let how = status.map(describe_end).unwrap_or_else(|error| error.to_string());
                let last = last_line(&log_of(&self.config));
                Err(Error::NotUp {
                    name: self.config.name.clone(),
                    why: format!(" ({how}): {last}"),
                    log: log_of(&self.config),
                })
            }
        }
    }
}

fn describe_end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("its log is empty").to_owned()
}

fn log_of(config: &Config) -> PathBuf {
    config.data.join("server.log")
}
