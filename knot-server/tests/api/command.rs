//! The `knot` command against the API: both keep to one contract.

use std::{path::Path, process::Stdio};

use bytes::Bytes;
use knot_core::{
    agent::{self, Exit, FromAgent, Open, ToAgent},
    generation::Generation,
    model::{Observed, SpaceStatus},
    wire::{self, MAX_AGENT_FRAME},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::world::{PASSWORD, Server, until, within, world};

struct Ran {
    code: Option<i32>,
    output: String,
    errors: String,
}

async fn knot(server: &Server, home: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_knot"))
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("KNOT_URL", server.url(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads no input may have ended.
    stdin.write_all(input.as_bytes()).await.ok();
    drop(stdin);
    let ran = within(child.wait_with_output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: ran.status.code(), output: text(ran.stdout), errors: text(ran.stderr) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_does_its_work_through_the_api() {
    let server = world().await;
    let home = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str], input: &str| {
        let ran = knot(&server, home.path(), arguments, input).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}{}", ran.output, ran.errors);
        ran.output
    };
    run(
        &["login", &server.url(""), "--user", "root", "--password-stdin"],
        &format!("{PASSWORD}\n"),
    )
    .await;
    assert!(run(&["whoami"], "").await.contains("root"));
    let file = "name: rust\nplatform: docker\nimage: busybox\n";
    assert!(run(&["template", "apply", "-"], file).await.contains("created"));
    assert!(run(&["template", "show", "rust", "--yaml"], "").await.contains("image: busybox"));
    run(&["space", "create", "web", "--template", "rust"], "").await;
    assert!(run(&["space", "ls"], "").await.contains("web"));
    assert!(run(&["server", "ls"], "").await.contains("alpha"));

    let refused =
        knot(&server, home.path(), &["template", "apply", "-"], "name: rust\ncolour: red\n").await;
    assert!(refused.code != Some(0) && refused.errors.contains("line 2"), "{}", refused.errors);

    // The home starts it when it is told, and the command waits for that.
    let spaces = server.replica.list::<knot_core::model::Space>();
    let space = spaces.first().unwrap().id();
    let home_starts = async {
        let wanted =
            || server.space(&space.to_string()).desired == knot_core::model::Desired::Running;
        until(&server.replica, wanted).await;
        for state in [Observed::Provisioning, Observed::Running] {
            let generation = Generation { term: 1, n: 1 };
            let status = SpaceStatus { state, generation, ..SpaceStatus::default() };
            server.observe(&space.to_string(), status).await;
        }
    };
    let (started, ()) = tokio::join!(run(&["space", "start", "web"], ""), home_starts);
    assert!(started.contains("running"), "{started}");

    let agent = async {
        let (_, mut agent) = server.agents.session().await;
        let open: Open =
            within(wire::read_frame(&mut agent, MAX_AGENT_FRAME)).await.unwrap().unwrap();
        let mut input = Vec::new();
        while let Some(ToAgent::Input(data)) =
            within(wire::read_frame(&mut agent, MAX_AGENT_FRAME)).await.unwrap()
        {
            input.extend_from_slice(&data);
        }
        for frame in [FromAgent::Output(Bytes::from(input)), FromAgent::Exit(Exit::Code(7))] {
            wire::write_frame(&mut agent, &frame, MAX_AGENT_FRAME).await.unwrap();
        }
        open
    };
    let arguments = ["space", "exec", "web", "--", "cat", "-"];
    let (ran, open) = tokio::join!(knot(&server, home.path(), &arguments, "hello"), agent);
    assert_eq!((ran.code, ran.output.as_str()), (Some(7), "hello"), "{}", ran.errors);
    let Open::Run(wanted) = open else { panic!("{open:?}") };
    assert_eq!(wanted.command, agent::Command::Program(["cat", "-"].map(str::to_owned).to_vec()));

    let home_takes_down = async {
        until(&server.replica, || server.replica.grave(space).is_some()).await;
        let status = SpaceStatus { state: Observed::Gone, ..SpaceStatus::default() };
        server.observe(&space.to_string(), status).await;
    };
    let (deleted, ()) = tokio::join!(run(&["space", "delete", "web"], ""), home_takes_down);
    assert!(deleted.contains("deleted"), "{deleted}");
}
