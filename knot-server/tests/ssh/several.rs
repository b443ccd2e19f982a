//! A cluster of three: which server somebody comes through makes no difference, and the end of one ends no more than
//! the connections through it.

use std::{
    io::Read as _,
    net::TcpStream,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    block::port,
    client::{Client, Piped, said},
    forwards::{connect, echo_server, exchange, try_exchange},
    wait::eventually,
    world::{describe, knot_server, path},
};

/// How servers reach the space `dev`.
struct Ways {
    /// Those that its agent is linked to.
    direct: Vec<usize>,
    /// The one that reaches it through another.
    relayed: usize,
    home: usize,
}

impl Ways {
    fn of(client: &Client) -> Self {
        eventually("its agent is linked to two servers", || {
            let shown = |n| client.world.json(n, &["space", "show", "dev"]);
            let direct: Vec<usize> =
                (1..=3).filter(|n| shown(*n)["reached"]["directly"] == true).collect();
            let relayed = (1..=3).find(|n| !direct.contains(n))?;
            let through = &shown(relayed)["reached"]["through"];
            let server = shown(1)["home"].clone();
            let home = (1..=3).find(|n| server == client.world.name(*n))?;
            let ready = direct.len() == 2 && through.as_array().is_some_and(|all| !all.is_empty());
            ready.then_some(Self { direct, relayed, home })
        })
    }
}

fn through(client: &Client, n: usize, line: &str) -> (String, Duration) {
    let began = Instant::now();
    let ran = client.ssh(&[&format!("dev@gate{n}"), line]).output().unwrap();
    (said(&ran, &format!("through {n}: {line}")), began.elapsed())
}

/// A session through a server, and what it ends with.
fn session(client: &Client, n: usize) -> Piped {
    let to = format!("dev@gate{n}");
    let mut command = client.ssh(&["-o", "ServerAliveInterval=2", &to, "echo up; exec cat"]);
    let mut session = Piped::start(command.stderr(Stdio::piped()));
    assert_eq!(session.line(), "up");
    session
}

fn last_words(mut session: Piped) -> String {
    let _input = session.0.stdin.take();
    let mut told = String::new();
    session.0.stderr.as_mut().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(session.0.wait().unwrap().code(), Some(255), "{told}");
    told
}

#[test]
fn an_ssh_through_a_killed_server_ends_and_a_new_one_through_another_works_at_once() {
    let Some(client) = Client::among(3, "shell", true) else { return };
    let ways = Ways::of(&client);
    // The key that is pinned is that of each, or the client would not go on.
    let (process, _) = through(&client, ways.direct[0], "sleep 100000 >/dev/null 2>&1 & echo $!");
    let process = process.trim().to_owned();
    let lives = format!("kill -0 {process} && echo lives");
    for n in 1..=3 {
        let (told, took) = through(&client, n, &lives);
        let way = if n == ways.relayed { "relayed" } else { "directly" };
        println!("through {n}, {way}: {took:?}");
        assert_eq!(told, "lives\n");
    }
    // What is relayed goes through the first of these.
    let shown = client.world.json(ways.relayed, &["space", "show", "dev"]);
    let first = shown["reached"]["through"][0].as_str().unwrap().to_owned();
    let victim = (1..=3).find(|n| client.world.name(*n) == first).unwrap();
    println!(
        "killed: {victim}, which is{} the home",
        if victim == ways.home { "" } else { " not" }
    );
    let doomed = session(&client, victim);
    let (_server, at) = echo_server();
    let out = port();
    let outof = format!("{out}:127.0.0.1:{}", at.port());
    let relayed = format!("dev@gate{}", ways.relayed);
    let _outward = Piped::start(&mut client.ssh(&["-N", "-R", &outof, &relayed]));
    assert_eq!(exchange(connect(out), b"before"), b"before");
    let began = Instant::now();
    client.world.kill(victim);
    let (told, took) = through(&client, ways.relayed, &lives);
    assert_eq!(told, "lives\n");
    println!("a new one through {}, which relayed over the dead one: {took:?}", ways.relayed);
    let other = (1..=3).find(|n| *n != victim && *n != ways.relayed).unwrap();
    let (told, took) = through(&client, other, &lives);
    assert_eq!(told, "lives\n");
    println!("a new one through {other}: {took:?}");
    // A port of the space that leads out through the relaying server does so again, by the other way.
    let began_again = Instant::now();
    eventually("the port leads out again", || {
        let stream = TcpStream::connect(("127.0.0.1", out)).ok()?;
        (try_exchange(stream, b"after")? == b"after").then_some(())
    });
    println!("a port that leads out was there again after {:?}", began_again.elapsed());
    last_words(doomed);
    println!("the one through the dead server was over after at most {:?}", began.elapsed());
    through(&client, other, &format!("kill {process}"));
}

#[test]
fn the_configuration_that_is_written_works_at_each_server() {
    let Some(client) = Client::among(3, "shell", true) else { return };
    let home = client.folder.join("home");
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    let wrote = client.world.client(2).env("HOME", &home).args(["ssh-config", "--write"]).output();
    said(&wrote.unwrap(), "ssh-config");
    let written = std::fs::read_to_string(home.join(".ssh/knot_config")).unwrap();
    let hosts = written.lines().filter(|line| line.starts_with("Host ")).count();
    assert_eq!(hosts, 5, "three servers, whichever answers, and the spaces: {written}");
    assert_eq!(written.matches("StrictHostKeyChecking yes").count(), hosts, "{written}");
    assert_eq!(
        std::fs::read_to_string(home.join(".ssh/knot_known_hosts")).unwrap().lines().count(),
        1
    );
    let config = client.folder.join("written.config");
    let include = format!(
        "Include {}\nHost *\n  IdentityFile {}\n  IdentitiesOnly yes\n  BatchMode yes\n",
        home.join(".ssh/knot_config").display(),
        client.folder.join("key").display()
    );
    std::fs::write(&config, include).unwrap();
    for n in 1..=3 {
        let host = format!("dev@{}.knot-server", client.world.name(n));
        let ran = client.program("ssh", "written", &[&host, "echo $KNOT_SPACE"]).output().unwrap();
        assert_eq!(said(&ran, &host), "dev\n");
    }
    // Whoever shows another key is not spoken to.
    client.keygen("other", &["-t", "ed25519"]);
    let other = std::fs::read_to_string(client.folder.join("other.pub")).unwrap();
    let known = home.join(".ssh/knot_known_hosts");
    let pinned = std::fs::read_to_string(&known).unwrap();
    let alias = pinned.split(' ').next().unwrap();
    let key: Vec<&str> = other.split(' ').take(2).collect();
    std::fs::write(&known, format!("{alias} {}\n", key.join(" "))).unwrap();
    let named = |n| format!("dev@{}.knot-server", client.world.name(n));
    for host in [named(1), named(2), named(3), "dev@knot-servers".to_owned()] {
        let ran = client.program("ssh", "written", &[&host, "true"]).output().unwrap();
        assert_eq!(ran.status.code(), Some(255));
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(told.contains("Host key verification failed"), "{told}");
    }
    std::fs::write(&known, pinned).unwrap();
    // The first that it names is away: the next one answers.
    Ways::of(&client);
    let command = written.lines().find(|line| line.contains("ProxyCommand")).unwrap();
    let place = |n: &usize| command.find(&client.address(*n).1).unwrap();
    client.world.kill((1..=3).min_by_key(place).unwrap());
    for host in ["dev.knot", "dev@knot-servers"] {
        let began = Instant::now();
        let ran = client.program("ssh", "written", &[host, "echo $KNOT_SPACE"]).output().unwrap();
        assert_eq!(said(&ran, host), "dev\n");
        println!("{host} without the first server: {:?}", began.elapsed());
    }
}

#[test]
fn a_server_that_is_removed_lets_go_of_everybody_and_takes_nobody_in() {
    let Some(client) = Client::among(3, "shell", true) else { return };
    let ways = Ways::of(&client);
    let removed = (1..=3).rev().find(|n| *n != ways.home).unwrap();
    let stays = (1..=3).find(|n| *n != removed && *n != ways.home).unwrap();
    let ssh = session(&client, removed);
    let exec = |n| {
        let mut command = client.world.client(n);
        command.args(["space", "exec", "dev", "--", "sh", "-c", "echo up; exec sleep 1000"]);
        command.stderr(Stdio::piped());
        command
    };
    let mut run = Piped::start(&mut exec(removed));
    assert_eq!(run.line(), "up");
    let mut terminal =
        crate::person::Person::at(client.world.client(removed).args(["space", "terminal", "dev"]));
    terminal.types("echo here-$((1 + 1))\n");
    terminal.sees("here-2");

    let name = client.world.name(removed);
    let began = Instant::now();
    let done = knot_server(&["remove", name, "--data", path(&client.world.data(stays))]);
    assert!(done.status.success(), "{}", describe(&done));
    let told = last_words(ssh);
    assert!(told.contains("knot: this server was removed from its cluster"), "{told}");
    let mut told = String::new();
    run.0.stderr.as_mut().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("this server was removed from its cluster"), "{told}");
    terminal.sees("this server was removed from its cluster");
    println!("all were told after {:?}", began.elapsed());

    let again = client.ssh(&[&format!("dev@gate{removed}"), "true"]).output().unwrap();
    assert_eq!(again.status.code(), Some(255));
    let refused = exec(removed).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("was removed from its cluster"), "{told}");
    let (told, _) = through(&client, stays, "echo here");
    assert_eq!(told, "here\n");
}
