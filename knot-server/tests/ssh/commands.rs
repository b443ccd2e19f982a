//! Commands: how they end, what they say and hear.

use std::{
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
};

use crate::client::{Client, Piped, said};

#[test]
fn a_command_ends_as_it_ended() {
    let Some(client) = Client::start() else { return };
    let ran = client.run("echo out; echo err >&2; exit 7");
    assert_eq!(
        (ran.status.code(), &*ran.stdout, &*ran.stderr),
        (Some(7), &b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(client.run("true").status.code(), Some(0));
    assert_eq!(client.run("exit 255").status.code(), Some(255));
    // Of a signal OpenSSH's client says no more than that there was no status.
    let killed = client.ssh(&["-v", "dev@gate", "kill -TERM $$"]).output().unwrap();
    assert_eq!(killed.status.code(), Some(255));
    let told = String::from_utf8_lossy(&killed.stderr);
    assert!(told.contains("exit-signal"), "{told}");

    // Input to its end, output to its last byte, nothing changed on the way.
    let text: Vec<u8> = (0..=255_u8).cycle().take(1_000_003).collect();
    let mut cat = client
        .ssh(&["dev@gate", "cat; echo end >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = cat.stdin.take().unwrap();
    let sent = text.clone();
    let writing = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let ran = cat.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(ran.stdout == text, "{} bytes came back", ran.stdout.len());
    assert_eq!((ran.status.code(), &*ran.stderr), (Some(0), &b"end\n"[..]));

    // A reader that goes away ends the command.
    let mut endless = Piped::start(&mut client.ssh(&["dev@gate", "echo $$; exec yes"]));
    let process = endless.line();
    drop(endless);
    let gone = || (!std::path::Path::new(&format!("/proc/{process}")).exists()).then_some(());
    crate::wait::eventually("the command is gone", gone);
}

#[test]
fn the_environment_is_what_may_be_sent() {
    let Some(client) = Client::start() else { return };
    let mut command = client.ssh(&[
        "-o",
        "SendEnv=LC_TEST GIT_AUTHOR_NAME COLORTERM SECRET_THING",
        "-o",
        "SetEnv=LD_PRELOAD=/none TZ=UTC",
        "dev@gate",
        "echo $LC_TEST-$GIT_AUTHOR_NAME-$COLORTERM-$SECRET_THING-$LD_PRELOAD-$TZ-$KNOT_SPACE; echo $SSH_CONNECTION",
    ]);
    command.env("LC_TEST", "a").env("GIT_AUTHOR_NAME", "b").env("COLORTERM", "c");
    command.env("SECRET_THING", "d");
    let told = said(&command.output().unwrap(), "echo");
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("a-b-c---UTC-dev"));
    assert!(lines.next().unwrap().starts_with("127.0.0.1 "), "{told}");
}

#[test]
fn what_cannot_be_reached_is_said() {
    let Some(client) = Client::start() else { return };
    let nobody = client.ssh(&["nothing@gate", "true"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(255));
    let told = String::from_utf8_lossy(&nobody.stderr);
    assert!(told.contains("there is no space `nothing`"), "{told}");

    client.world.knot(1, &["space", "stop", "dev"]);
    let stopped = client.run("true");
    assert_eq!(stopped.status.code(), Some(255));
    let told = String::from_utf8_lossy(&stopped.stderr);
    assert!(told.contains("dev does not run: start it with `knot space start dev`"), "{told}");
}

#[test]
fn a_stopped_space_starts_where_its_template_says_so() {
    let template = "name: lazy\nplatform: local\nstart_on_connect: true\n";
    let Some(client) = Client::before(template, false) else { return };
    let ran = client.run("echo here");
    assert_eq!(said(&ran, "echo"), "here\n");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(told.contains("knot: dev is stopped: starting it\n"), "{told}");
    assert_eq!(client.world.json(1, &["space", "show", "dev"])["observed"], "running");

    // A template that turns SSH off keeps everybody out, at once.
    client
        .world
        .apply(1, "name: lazy\nplatform: local\nstart_on_connect: true\nfeatures: {ssh: false}\n");
    let off = client.run("true");
    assert_eq!(off.status.code(), Some(255));
    let told = String::from_utf8_lossy(&off.stderr);
    assert!(told.contains("turns ssh off"), "{told}");
}

#[test]
fn the_gateway_tells_people_when_its_server_stops() {
    let Some(client) = Client::start() else { return };
    let mut command = client.ssh(&["dev@gate", "echo up; exec sleep 100"]);
    command.stderr(Stdio::piped());
    let mut session = Piped::start(&mut command);
    assert_eq!(session.line(), "up");
    let Client { world, folder: _ } = client;
    let _folder = world.stop();
    let mut told = String::new();
    std::io::Read::read_to_string(session.0.stderr.as_mut().unwrap(), &mut told).unwrap();
    assert!(told.contains("knot: this server is stopping"), "{told}");
    let status = session.0.wait().unwrap();
    assert!(!status.success() && status.signal().is_none(), "{status}");
}

#[test]
fn a_remote_editors_bootstrap_works() {
    // What VS Code's Remote-SSH does: a script on the input of a shell, a SOCKS port beside it, and then
    // connections to a server that the script left behind, by port or by socket.
    let Some(client) = Client::start() else { return };
    let port = crate::block::port();
    let mut shell = Piped::start(&mut client.ssh(&[
        "-T",
        "-D",
        &port.to_string(),
        "-o",
        "ExitOnForwardFailure=yes",
        "dev@gate",
        "bash --login -c bash",
    ]));
    let script = "echo \"start-$(uname -s)\"\n\
        rm -f /tmp/knot-ssh-$$.sock; echo \"pid-$$\"\n\
        read -r greeting; echo \"got-$greeting\"\nhello\n";
    shell.types(script);
    assert_eq!(shell.line(), "start-Linux");
    assert!(shell.line().starts_with("pid-"));
    assert_eq!(shell.line(), "got-hello");
    let (listener, at) = crate::forwards::echo_server();
    let told = crate::forwards::through_socks(port, at, b"over the socks port");
    assert_eq!(told, b"over the socks port");
    drop(listener);
    shell.types("exit 3\n");
    drop(shell.0.stdin.take());
    assert_eq!(shell.0.wait().unwrap().code(), Some(3));
}

#[test]
fn git_and_rsync_work() {
    let Some(client) = Client::start() else { return };
    let ssh = format!("ssh -F {}", client.folder.join("key.config").display());
    let home = client.good("pwd").trim().to_owned();
    if crate::engine::have("git", crate::client::runs("git", "--version")) {
        client.good("git init -q --bare repo.git");
        let work = client.folder.join("work");
        let git = |arguments: &[&str]| {
            let ran = Command::new("git")
                .current_dir(&work)
                .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
                .args(arguments)
                .env("GIT_SSH_COMMAND", &ssh)
                .output()
                .unwrap();
            said(&ran, "git")
        };
        std::fs::create_dir(&work).unwrap();
        git(&["init", "-q", "-b", "main"]);
        git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        git(&["push", "-q", &format!("dev@gate:{home}/repo.git"), "main"]);
        assert!(client.good("git --git-dir repo.git log --format=%s main").contains("one"));
    }
    if crate::engine::have("rsync", crate::client::runs("rsync", "--version")) {
        let tree = client.folder.join("tree");
        std::fs::create_dir_all(tree.join("deep")).unwrap();
        crate::client::file_of(&tree.join("deep/file"), 300_000);
        let ran = Command::new("rsync")
            .args(["-a", "-e", &ssh])
            .arg(&tree)
            .arg(format!("dev@gate:{home}/"))
            .output()
            .unwrap();
        said(&ran, "rsync");
        let there = client.good("cksum < tree/deep/file");
        let here = std::fs::File::open(tree.join("deep/file")).unwrap();
        assert_eq!(there, crate::client::sum_of(here));
    }
}
