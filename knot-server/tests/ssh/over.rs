//! What a space's end does to those who are in it.

use std::{io::Read as _, process::Stdio};

use crate::{
    block::port,
    client::{Client, Piped, said},
    forwards::{connect, echo_server},
    person::Person,
};

/// A connection with a port each way and no session.
fn forwarding(client: &Client) -> Piped {
    let (_, at) = echo_server();
    let (local, out) = (port(), port());
    let (into, outof) =
        (format!("{local}:127.0.0.1:{}", at.port()), format!("{out}:127.0.0.1:{}", at.port()));
    let mut command = client.ssh(&["-N", "-L", &into, "-R", &outof, "dev@gate"]);
    command.stderr(Stdio::piped()).env("LC_ALL", "C");
    let held = Piped::start(&mut command);
    drop(connect(out));
    held
}

/// What a connection that is over has said, and that it ended as one that was lost.
fn last_words(mut held: Piped) -> String {
    let _input = held.0.stdin.take();
    let mut told = String::new();
    held.0.stderr.as_mut().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(held.0.wait().unwrap().code(), Some(255), "{told}");
    told
}

#[test]
fn people_are_told_when_their_space_stops() {
    let Some(client) = Client::start() else { return };
    let mut person = Person::at(&mut client.ssh(&["dev@gate"]));
    person.types("echo here-$((1 + 1)); exec sleep 1000\n");
    person.sees("here-2");
    let held = forwarding(&client);
    let mut quiet =
        Piped::start(client.ssh(&["dev@gate", "echo up; exec sleep 1000"]).stderr(Stdio::piped()));
    assert_eq!(quiet.line(), "up");
    client.world.knot(1, &["space", "stop", "dev"]);
    person.sees("knot: dev is being stopped");
    assert!(!person.child.wait().unwrap().success());
    let told = last_words(held);
    assert!(told.contains("dev was stopped"), "{told}");
    let _input = quiet.0.stdin.take();
    let mut told = String::new();
    quiet.0.stderr.as_mut().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("knot: dev is being stopped"), "{told}");
    assert!(!told.contains("lost"), "{told}");
    assert!(!quiet.0.wait().unwrap().success());
}

#[test]
fn people_are_told_when_their_space_is_started_again_or_deleted() {
    let Some(client) = Client::start() else { return };
    let sit = || {
        let mut command =
            client.ssh(&["dev@gate", "trap '' HUP TERM; echo up; sleep 1000; exit 9"]);
        let mut session = Piped::start(command.stderr(Stdio::piped()));
        assert_eq!(session.line(), "up");
        session
    };
    let told = |mut session: Piped| {
        let _input = session.0.stdin.take();
        let mut told = String::new();
        session.0.stderr.as_mut().unwrap().read_to_string(&mut told).unwrap();
        assert!(!session.0.wait().unwrap().success());
        told
    };
    let (session, held) = (sit(), forwarding(&client));
    client.world.knot(1, &["space", "restart", "dev"]);
    let heard = told(session);
    assert!(
        heard.contains("knot: dev is being restarted") || heard.contains("started again"),
        "{heard}"
    );
    let heard = last_words(held);
    assert!(
        heard.contains("dev was started again") || heard.contains("dev was stopped"),
        "{heard}"
    );

    // Whoever only jumps through a space's connection keeps that.
    client.world.json(1, &["space", "create", "other", "--template", "shell", "--start"]);
    assert_eq!(said(&client.run("echo again"), "again"), "again\n");
    let mut jumped =
        Piped::start(&mut client.ssh(&["-J", "dev@gate", "other", "echo up; exec cat"]));
    assert_eq!(jumped.line(), "up");
    let session = sit();
    client.world.knot(1, &["space", "delete", "dev"]);
    let heard = told(session);
    assert!(heard.contains("knot: dev was deleted"), "{heard}");
    jumped.types("still here\n");
    assert_eq!(jumped.line(), "still here");
}
