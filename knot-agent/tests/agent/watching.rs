//! What an agent sees of its space: health, use, and how the startup script went.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use knot_core::agent::{HealthCheck, Launch, Startup, ToAgent, Watching};
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use crate::world::{Agent, Link, Server, Session, run, shell, until, within, world};

fn check(probe: &str, failures: u64) -> Watching {
    let probe = probe.parse().unwrap();
    let health = HealthCheck::new(probe, Some(1), Some(5), Some(failures));
    Watching { health: Some(health), ..Watching::default() }
}

async fn healthy(link: &Link, well: bool) -> String {
    let wanted = |health: &knot_core::agent::Health| health.well == well;
    let report = link.report("health", |one| one.health.as_ref().is_some_and(wanted)).await;
    report.health.unwrap().words
}

async fn started(script: &str, environment: &[(&str, &str)]) -> (Server, Agent, Link) {
    let mut server = Server::start(1, "a");
    let servers = vec![server.address.clone()];
    let launch = Launch { servers, startup_script: script.to_owned(), ..Launch::default() };
    let agent = Agent::launched(launch, environment);
    let link = server.link().await;
    (server, agent, link)
}

/// Answers every connection with these bytes.
async fn answering(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 1_024];
            let read = stream.read(&mut asked).await.unwrap_or(0);
            assert!(read == 0 || asked.starts_with(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n"));
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    port
}

#[tokio::test]
async fn a_command_that_fails_makes_a_space_unwell_until_it_succeeds() {
    let (server, _agent, link) = world().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("well");
    let command = format!("exec:cat {} || {{ echo gone >&2; exit 3; }}", file.display());
    server.watch(check(&command, 2));
    let words = healthy(&link, false).await;
    assert!(words.contains("status 3") && words.contains("gone"), "{words}");
    std::fs::write(&file, "all is well").unwrap();
    assert_eq!(healthy(&link, true).await, "all is well");
    std::fs::remove_file(&file).unwrap();
    healthy(&link, false).await;
    // Without a check nothing is said of it.
    server.watch(Watching::default());
    link.report("no health", |report| report.health.is_none()).await;
}

#[tokio::test]
async fn a_port_and_a_page_are_asked() {
    let (server, _agent, link) = world().await;
    let port = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    server.watch(check(&format!("tcp:{port}"), 1));
    healthy(&link, true).await;
    server.watch(check("tcp:1", 1));
    assert!(healthy(&link, false).await.starts_with("port 1 takes no connection"));
    server.watch(check(&format!("http://localhost:{port}/ready"), 1));
    assert_eq!(healthy(&link, true).await, "HTTP/1.1 204 No Content");
    let broken = answering("HTTP/1.1 500 Oh No\r\n\r\n").await;
    server.watch(check(&format!("http://localhost:{broken}/ready"), 1));
    assert_eq!(healthy(&link, false).await, "it answered HTTP/1.1 500 Oh No");
    // What speaks no TLS is not well over TLS.
    server.watch(check("tcp:1", 1));
    server.watch(check(&format!("https://localhost:{port}/ready"), 1));
    link.report("no TLS", |report| {
        report.health.as_ref().is_some_and(|health| health.words.contains("TLS"))
    })
    .await;
}

#[tokio::test]
async fn idleness_is_reported_once_it_is_long_enough_and_use_ends_it() {
    let begun = Instant::now();
    let (server, _agent, link) = world().await;
    server.watch(Watching { idle_stop: Some(2), ..Watching::default() });
    let mut session = Session::open(&link.connection, &shell("cat")).await;
    // Between two uses of it no more time has passed than from before the one to after the other.
    let (mut used, mut unused) = (begun, Duration::ZERO);
    while begun.elapsed().as_secs() < 3 {
        let before = Instant::now();
        session.input("x\n").await;
        session.output_up_to("x\n").await;
        unused = unused.max(used.elapsed());
        used = before;
        let idle = link.reports.borrow().idle;
        assert!(Duration::from_secs(idle) <= unused.max(Duration::from_secs(1)), "it is used");
        tokio::task::yield_now().await;
    }
    // An open session that nobody uses does not count.
    link.report("idleness", |report| report.idle >= 2).await;
    session.tell(ToAgent::EndOfInput).await;
    session.rest().await;
}

#[tokio::test]
async fn what_a_space_takes_up_is_reported() {
    let (_server, _agent, link) = world().await;
    let usage = link.report("memory", |report| report.usage.memory > 0).await.usage;
    assert!(usage.memory < 1 << 30, "{usage:?}");
}

#[tokio::test]
async fn a_startup_script_runs_before_the_command_and_its_end_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let script = format!("echo from the script; echo $KNOT_SPACE > {}", first.display());
    let command = format!("cat {} > {}; exec sleep 1000", first.display(), second.display());
    let command = serde_json::to_string(&["sh", "-c", &command]).unwrap();
    let (_server, _agent, link) =
        started(&script, &[(knot_core::agent::COMMAND_VARIABLE, &command)]).await;
    link.report("the script's end", |report| report.startup == Startup::Done).await;
    let written = || std::fs::read_to_string(&second).is_ok_and(|text| text == "calm-otter\n");
    until("the command ran after it", written).await;
}

#[tokio::test]
async fn a_startup_script_that_fails_is_quoted_and_the_command_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let command = serde_json::to_string(&["touch", mark.to_str().unwrap()]).unwrap();
    let (_server, _agent, link) = started(
        "echo no such database >&2; exit 9",
        &[(knot_core::agent::COMMAND_VARIABLE, &command)],
    )
    .await;
    let report = link.report("a failure", |report| report.startup != Startup::Running).await;
    let wanted = "it ended with status 9: no such database";
    assert_eq!(report.startup, Startup::Failed(wanted.to_owned()));
    // The space can still be looked into.
    assert!(run(&link, &shell("true")).await.exit.is_some());
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_shutdown_script_runs_before_sessions_end() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let mut server = Server::start(1, "a");
    let launch = Launch {
        servers: vec![server.address.clone()],
        shutdown_script: format!("echo saved > {}", mark.display()),
        ..Launch::default()
    };
    let mut agent = Agent::launched(launch, &[]);
    let link = server.link().await;
    link.report("the start", |report| report.startup == Startup::Done).await;
    agent.signal(Signal::TERM);
    assert!(within("the end", agent.0.wait()).await.unwrap().success());
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "saved\n");
}

#[tokio::test]
async fn a_startup_script_that_still_runs_does_not_hold_up_the_end() {
    let (_server, mut agent, _link) = started("sleep 1000", &[]).await;
    agent.signal(Signal::TERM);
    assert!(within("the end", agent.0.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_startup_script_cut_short_by_the_end_has_not_failed() {
    let (_server, mut agent, mut link) = started("sleep 1000", &[]).await;
    link.report("the first", |report| report.usage.memory > 0).await;
    let mut stubborn = Session::open(&link.connection, &shell("trap '' HUP; echo on; cat")).await;
    stubborn.output_up_to("on\n").await;
    agent.signal(Signal::TERM);
    let mut said = Vec::new();
    while within("a report or the end", link.reports.changed()).await.is_ok() {
        said.push(link.reports.borrow_and_update().startup.clone());
    }
    assert!(said.iter().all(|startup| *startup == Startup::Running), "{said:?}");
    assert!(within("the end", agent.0.wait()).await.unwrap().success());
}

#[tokio::test]
async fn https_is_asked_with_any_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-subj", "/CN=nobody", "-days", "1", "-keyout"])
        .args([key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|made| made.success()) {
        assert!(std::env::var_os("CI").is_none(), "openssl is missing: CI must have it");
        println!("SKIPPED: openssl is missing");
        return;
    }
    let mut openssl = tokio::process::Command::new("openssl")
        .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-key"])
        .args([key.as_os_str(), "-cert".as_ref(), certificate.as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(openssl.stdout.take().unwrap()).lines();
    let port = within("the port it has taken", async {
        loop {
            let line = said.next_line().await.unwrap().expect("it listens");
            if let Some(port) = line.strip_prefix("ACCEPT 127.0.0.1:") {
                return port.to_owned();
            }
        }
    })
    .await;
    let (server, _agent, link) = world().await;
    server.watch(check(&format!("https://localhost:{port}/"), 100));
    assert!(healthy(&link, true).await.starts_with("HTTP/1.0 200"));
}
