//! Spaces through real servers: from a request to a shell, beside the engine's own client; a thousand through three
//! servers; and what a change of a template costs that ten thousand running spaces are made from.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use knot_core::{
    clock::Millis,
    id::Author,
    model::{self, Desired, Observed, Placement, Space, SpaceStatus, Template},
    replica::Service,
    schema::Edit,
    store::sqlite::SqliteStore,
};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    Outcome,
    figures::{Times, print_ratio, shown},
    local::SERVER,
    usage::{self, megabytes},
};

const SHELLS: usize = 20;
const CREATED: usize = 1_000;
const AT_ONCE: usize = 32;
const RUNNING: usize = 10_000;
/// Longer than anything that is still worth measuring.
const BOUND: Duration = Duration::from_secs(120);

pub(crate) async fn measure() -> Outcome<()> {
    println!("Spaces, through three servers of `knot-server dev`");
    let cluster = Cluster::start()?;
    cluster.apply("plain", "platform: local\n")?;
    let local = cluster.shells("plain")?;
    local.print("  create, start, and `true` in it: local");
    if let Some(image) = Image::make()? {
        cluster.apply("boxed", &format!("platform: docker\nimage: {}\n", image.0))?;
        let docker = cluster.shells("boxed")?;
        docker.print("  the same: docker");
        let mut bare = Times::default();
        for _ in 0..SHELLS {
            let began = Instant::now();
            run(Command::new("docker").args(["run", "--rm", &image.0, "/bin/busybox", "true"]))?;
            bare.add(began);
        }
        bare.print("  `docker run` of the same image");
        print_ratio("  docker / `docker run`, medians", docker.median(), bare.median());
    }
    cluster.thousand().await?;
    drop(cluster);
    template_change().await
}

/// Changes a template that ten thousand spaces of this server run from.
async fn template_change() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("knot.db");
    let (service, replica) =
        Service::start(SERVER, model::schema(), Box::new(SqliteStore::open(&path)?))?;
    let author = Author::Server(SERVER);
    let template = replica
        .create(author, |edit: &mut Edit<'_, Template>| {
            edit.set(Template::name, "plain".to_owned());
            Ok(())
        })
        .await?
        .id;
    let revision = replica.get(template).ok_or("no template")?.revision();
    for n in 0..RUNNING {
        let space = replica
            .create(author, move |edit: &mut Edit<'_, Space>| {
                edit.set(Space::name, format!("space-{n}"));
                edit.set(Space::template, template);
                edit.set(Space::desired, Desired::Running);
                edit.set(Space::placement, Placement { term: 1, server: SERVER });
                Ok(())
            })
            .await?
            .id;
        let status = SpaceStatus {
            state: Observed::Running,
            since: Millis::now(),
            revision: revision.clone(),
            ..SpaceStatus::default()
        };
        replica.observe(space, &status).await?;
    }
    let written = || std::fs::read_to_string("/proc/self/io");
    let before = written()?;
    let (began, used) = (Instant::now(), usage::processor()?);
    replica
        .edit(template, author, |edit| {
            edit.set(Template::image, "debian:13".to_owned());
            Ok(())
        })
        .await?;
    let edited = began.elapsed();
    let revision = replica.get(template).ok_or("no template")?.revision();
    let outdated = replica
        .list::<Space>()
        .iter()
        .filter_map(|space| replica.observed::<SpaceStatus>(space.id(), SERVER))
        .filter(|status| status.state == Observed::Running && status.revision != revision)
        .count();
    let known = began.elapsed();
    println!("A change of a template that {RUNNING} running spaces are made from");
    println!(
        "  the edit: {}; all {outdated} are known to be behind after {}",
        shown(edited),
        shown(known)
    );
    println!(
        "  written to disk by it: {} bytes; processor {:?}",
        bytes_written(&written()?)? - bytes_written(&before)?,
        usage::processor()? - used
    );
    service.stop().await;
    Ok(())
}

fn bytes_written(io: &str) -> Outcome<u64> {
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes")?.parse()?)
}

/// Three servers, and the client to use them with.
pub(crate) struct Cluster {
    folder: TempDir,
    dev: Child,
    servers: Vec<Value>,
    /// Servers that were started again.
    started: Vec<Child>,
    pub(crate) token: String,
    http: Client,
}

impl Cluster {
    pub(crate) fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let mut dev = Command::new(program("knot-server")?)
            .args(["dev", "--json", "--servers", "3", "--data"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(dev.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let up: Value = serde_json::from_str(&line)?;
        let servers = up.get("servers").and_then(Value::as_array).cloned().ok_or("no servers")?;
        let token = up.pointer("/admin/token").and_then(Value::as_str).ok_or("no token")?;
        let (token, started) = (token.to_owned(), Vec::new());
        Ok(Self { folder, dev, servers, started, token, http: Client::new() })
    }

    /// Creates many spaces, a third at each server, and waits until each server lists them all alike.
    async fn thousand(&self) -> Outcome<()> {
        let before = self.resident()?;
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for n in 0..CREATED {
            if tasks.len() == AT_ONCE
                && let Some(done) = tasks.join_next().await
            {
                done??;
            }
            let (client, token, url) = (self.http.clone(), self.token.clone(), self.url(n)?);
            tasks.spawn(async move {
                let space = json!({ "name": format!("many-{n}"), "template": "plain" });
                let request = client.post(url).bearer_auth(token).json(&space);
                request.send().await?.error_for_status().map(drop)
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let created = began.elapsed();
        let lists = loop {
            let mut lists = Vec::new();
            for n in 0..self.servers.len() {
                lists.push(self.list(n).await?);
            }
            let all_alike = lists.iter().all(|list| Some(list) == lists.first());
            if all_alike && lists.iter().all(|list| list.len() >= CREATED) {
                break lists;
            }
            if began.elapsed() > BOUND {
                return Err("the servers do not agree".into());
            }
        };
        let agreed = began.elapsed();
        println!(
            "  {CREATED} spaces created, {AT_ONCE} at once: {}; all {} lists alike {} later, when asked for in turn",
            shown(created),
            lists.len(),
            shown(agreed - created)
        );
        for (server, (before, after)) in before.into_iter().zip(self.resident()?).enumerate() {
            println!(
                "  resident, server {}: {} before, {} after",
                server + 1,
                megabytes(before),
                megabytes(after)
            );
        }
        Ok(())
    }

    /// Where all its data is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What `dev` says of a server: `name`, `data`, and others.
    pub(crate) fn field(&self, n: usize, field: &str) -> Outcome<&str> {
        let server = self.servers.get(n % self.servers.len().max(1));
        Ok(server.and_then(|server| server.get(field)?.as_str()).ok_or("no such field")?)
    }

    /// Ends a server as a power cut would. `start_again` is to follow.
    pub(crate) fn kill(&mut self, n: usize) -> Outcome<()> {
        let pid =
            self.servers.get(n).and_then(|server| server.get("pid")?.as_u64()).ok_or("no pid")?;
        run(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
        // One of ours would stay in the table of processes until it is waited for.
        let own = self.started.iter().position(|child| u64::from(child.id()) == pid);
        if let Some(mut child) = own.map(|index| self.started.swap_remove(index)) {
            child.wait()?;
        }
        Ok(())
    }

    /// Starts a server that was killed, as its operator would.
    pub(crate) fn start_again(&mut self, n: usize) -> Outcome<()> {
        let data = self.field(n, "data")?.to_owned();
        let child = Command::new(program("knot-server")?)
            .args(["run", "--data", &data])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(server) = self.servers.get_mut(n) {
            server["pid"] = child.id().into();
        }
        self.started.push(child);
        Ok(())
    }

    /// What a server answers.
    pub(crate) async fn get(&self, n: usize, to: &str) -> Outcome<Value> {
        let url = format!("{}/api/v1{to}", self.address(n)?);
        let request = self.http.get(url).bearer_auth(&self.token).timeout(BOUND);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    fn address(&self, n: usize) -> Outcome<&str> {
        self.field(n, "http")
    }

    pub(crate) fn url(&self, n: usize) -> Outcome<String> {
        Ok(format!("{}/api/v1/spaces", self.address(n)?))
    }

    /// The client of the n-th server, as a user has it.
    fn knot(&self, n: usize) -> Outcome<Command> {
        let mut knot = Command::new(program("knot")?);
        knot.env("KNOT_URL", self.address(n)?).env("KNOT_TOKEN", &self.token);
        knot.env("HOME", self.folder.path()).stdin(Stdio::null());
        Ok(knot)
    }

    pub(crate) fn apply(&self, name: &str, fields: &str) -> Outcome<()> {
        let file = self.folder.path().join("template.yaml");
        std::fs::write(&file, format!("name: {name}\n{fields}"))?;
        run(self.knot(0)?.args(["template", "apply"]).arg(&file))
    }

    /// Makes a space and waits until it runs.
    pub(crate) fn running(&self, name: &str, template: &str) -> Outcome<()> {
        run(self.knot(0)?.args(["space", "create", name, "--template", template, "--start"]))
    }

    /// Adds a key that the user signs in with over SSH.
    pub(crate) fn add_key(&self, file: &Path) -> Outcome<()> {
        run(self.knot(0)?.args(["key", "add"]).arg(file))
    }

    /// The address of the n-th server's SSH gateway.
    pub(crate) fn ssh(&self, n: usize) -> Outcome<String> {
        let address = self.servers.get(n).and_then(|server| server.get("ssh")?.as_str());
        Ok(address.ok_or("no SSH address")?.to_owned())
    }

    /// A server to which the agent of a space is linked, and one that reaches it through another.
    pub(crate) fn ways(&self, space: &str) -> Outcome<(usize, usize)> {
        let began = Instant::now();
        while began.elapsed() < BOUND {
            let directly = |n| -> Outcome<Option<bool>> {
                let shown = self.knot(n)?.args(["--json", "space", "show", space]).output()?;
                let shown: Value = serde_json::from_slice(&shown.stdout)?;
                Ok(shown.pointer("/reached/directly").and_then(Value::as_bool))
            };
            let ways =
                (0..self.servers.len()).map(directly).collect::<Outcome<Option<Vec<bool>>>>()?;
            let Some(ways) = ways else { continue };
            // As many as an agent is linked to.
            let linked = ways.iter().filter(|directly| **directly).count();
            let at = |directly| ways.iter().position(|way| *way == directly);
            if let (2, Some(direct), Some(relayed)) = (linked, at(true), at(false)) {
                return Ok((direct, relayed));
            }
        }
        Err(format!("{space} did not come to be linked to two of three servers").into())
    }

    /// Times from asking for a space to the end of a command in it.
    fn shells(&self, template: &str) -> Outcome<Times> {
        let mut times = Times::default();
        for n in 0..SHELLS {
            let space = format!("{template}-{n}");
            let began = Instant::now();
            let create = ["space", "create", &space, "--template", template, "--start"];
            run(self.knot(n)?.args(create))?;
            run(self.knot(n + 1)?.args(["space", "exec", &space, "--", "/bin/busybox", "true"]))?;
            times.add(began);
            run(self.knot(n)?.args(["space", "delete", &space]))?;
        }
        Ok(times)
    }

    /// The ids of all spaces, as one server lists them.
    async fn list(&self, n: usize) -> Outcome<Vec<String>> {
        let request = self.http.get(self.url(n)?).bearer_auth(&self.token);
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let spaces = answer.get("spaces").and_then(Value::as_array).ok_or("no spaces")?;
        let ids = spaces.iter().filter_map(|space| Some(space.get("id")?.as_str()?.to_owned()));
        let mut ids: Vec<_> = ids.collect();
        ids.sort();
        Ok(ids)
    }

    fn resident(&self) -> Outcome<Vec<u64>> {
        let pids = self.servers.iter().filter_map(|server| server.get("pid")?.as_u64());
        pids.map(|pid| usage::resident_of(&pid.to_string())).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.started.iter_mut().chain([&mut self.dev]) {
            Command::new("kill").args(["-INT", &child.id().to_string()]).status().ok();
            child.wait().ok();
        }
    }
}

/// A program that was built beside this one.
pub(crate) fn program(name: &str) -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        return Err(
            format!("{} is missing: cargo build --release -p knot-server", path.display()).into()
        );
    }
    Ok(path)
}

/// An image with nothing in it but busybox, where Docker and a static busybox are here.
struct Image(String);

impl Image {
    fn make() -> Outcome<Option<Self>> {
        let missing = |what: &str| {
            println!("SKIPPED docker: {what}");
            Ok(None)
        };
        let mut info = Command::new("docker");
        info.arg("info").stdout(Stdio::null()).stderr(Stdio::null());
        if !info.status().is_ok_and(|status| status.success()) {
            return missing("no Docker engine answers");
        }
        let tar = Command::new("tar").args(["-C", "/", "-c", "bin/busybox"]).output()?;
        if !tar.status.success() {
            return missing("/bin/busybox is not here (Debian: busybox-static)");
        }
        let image = Self(format!("knot-bench-{}:1", uuid::Uuid::new_v4().simple()));
        let mut import = Command::new("docker")
            .args(["import", "-", &image.0])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        import.stdin.take().ok_or("no input")?.write_all(&tar.stdout)?;
        match import.wait()?.success() {
            true => Ok(Some(image)),
            false => Err("the image could not be imported".into()),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut remove = Command::new("docker");
        remove.args(["rmi", "--force", &self.0]).stdout(Stdio::null()).status().ok();
    }
}

pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{command:?} failed: {said}").into());
    }
    Ok(())
}
