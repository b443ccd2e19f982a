//! How an agent starts and ends.

use std::process::Stdio;

use knot_core::agent::{COMMAND_VARIABLE, Exit, LAUNCH_VARIABLE, Launch};
use rustix::process::Signal;
use tokio::process::Command;

use crate::world::{Agent, Server, Session, run, runs, shell, until, within, world};

#[tokio::test]
async fn without_a_launch_it_says_so_and_exits_with_2() {
    for launch in [None, Some("{"), Some("{\"space\":1}")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knot-agent"));
        command.env_remove(LAUNCH_VARIABLE).stdin(Stdio::null());
        command.envs(launch.map(|launch| (LAUNCH_VARIABLE, launch)));
        let ended = within("the agent to end", command.output()).await.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2));
        assert!(said.contains(LAUNCH_VARIABLE) && said.lines().count() == 1, "{said}");
    }
}

#[tokio::test]
async fn it_knows_its_version() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_knot-agent"));
    let ended = within("the version", command.arg("--version").output()).await.unwrap();
    let wanted = format!("knot-agent {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), wanted);
}

#[tokio::test]
async fn told_to_end_it_hangs_up_what_runs() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_server, mut agent, link) = world().await;
        let script = "sh -c \"trap '' HUP; echo \\$\\$; while :; do sleep 1000; done\"; true";
        let mut stubborn = Session::open(&link.connection, &shell(script)).await;
        // It forks nothing while it waits: dash loses a signal that comes within its vfork.
        let polite = "trap 'echo bye; exit 3' HUP; sleep 1000 & echo on; wait";
        let mut polite = Session::open(&link.connection, &shell(polite)).await;
        polite.output_up_to("on\n").await;
        let process = stubborn.output_up_to("\n").await.trim().parse().unwrap();
        agent.signal(signal);
        let told = polite.rest().await;
        assert_eq!((told.output.as_slice(), told.exit), (&b"bye\n"[..], Some(Exit::Code(3))));
        let status = within("the agent to end", agent.0.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0));
        until("what ignored the hang-up to end", || !runs(process)).await;
    }
}

#[tokio::test]
async fn the_main_command_runs_beside_the_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said");
    let script = format!("echo $KNOT_SPACE \"$KNOT_AGENT_LAUNCH\" >{}; exit 1", file.display());
    let main = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    let mut server = Server::start(1, "a");
    let _agent = Agent::with(vec![server.address.clone()], &[(COMMAND_VARIABLE, &main)]);
    let link = server.link().await;
    let said = || std::fs::read_to_string(&file).unwrap_or_default();
    until("the main command", || said() == "calm-otter \n").await;
    // It has ended; the space goes on.
    assert_eq!(run(&link, &shell("exit 9")).await.exit, Some(Exit::Code(9)));
}

#[tokio::test]
async fn a_main_command_that_goes_on_ends_with_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("process");
    let script = format!("echo $$ >{}; exec sleep 1000", file.display());
    let main = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    let mut agent = Agent::with(Vec::new(), &[(COMMAND_VARIABLE, &main)]);
    let process = || std::fs::read_to_string(&file).ok()?.trim().parse().ok();
    until("the main command", || process().is_some()).await;
    agent.signal(Signal::TERM);
    let status = within("the agent to end", agent.0.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    until("the main command to end", || !runs(process().unwrap())).await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
    let launch = Launch { startup_script: "exec yes".to_owned(), ..Launch::default() };
    let (log, write) = std::io::pipe().unwrap();
    // What it would log itself it would wait for, as any program does.
    let mut agent = Agent::logging(launch, &[("KNOT_LOG", "off")], write);
    let full = || rustix::io::ioctl_fionread(&log).unwrap() >= 60 << 10;
    until("the log to be full", full).await;
    agent.signal(Signal::TERM);
    assert!(within("the end", agent.0.wait()).await.unwrap().success());
}
