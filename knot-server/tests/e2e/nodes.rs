//! Real nodes: `init`, `token`, `join`, `run`, `admin`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    block::port,
    wait::eventually,
    world::{Running, SERVER, coming_up, describe, knot_server, path},
};

const CLIENT: &str = env!("CARGO_BIN_EXE_knot");

/// Flags of one server on loopback.
fn flags(data: &Path, name: &str, http: u16, quic: u16) -> Vec<String> {
    let pairs = [
        ("--data", path(data).to_owned()),
        ("--name", name.to_owned()),
        ("--http", format!("127.0.0.1:{http}")),
        ("--quic", format!("127.0.0.1:{quic}")),
    ];
    pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

fn run(command: &[&str], flags: &[String]) -> std::process::Output {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    knot_server(&[command, &flags].concat())
}

fn serve(flags: &[String]) -> Running {
    let child = Command::new(SERVER)
        .arg("run")
        .args(flags)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Running(child)
}

fn succeed(output: std::process::Output) -> String {
    assert!(output.status.success(), "{}", describe(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until the server of a folder is up, and gives a token to join it with.
fn until_up(flags: &[String]) -> String {
    eventually("it is up", || {
        let token = run(&["token"], &flags[..2]);
        token.status.success().then(|| String::from_utf8(token.stdout).unwrap())
    })
}

/// Signs `admin` in, and gives the token that the client keeps.
fn sign_in(home: &Path, url: &str, password: &str) -> String {
    let mut login = Command::new(CLIENT)
        .args(["login", url, "--user", "admin", "--password-stdin"])
        .env("HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut login.stdin.take().unwrap(), password.as_bytes()).unwrap();
    assert!(login.wait().unwrap().success(), "the sign-in failed");
    let kept = std::fs::read_to_string(home.join(".config/knot/config.toml")).unwrap();
    let kept: toml::Table = kept.parse().unwrap();
    kept["tokens"][url].as_str().unwrap().to_owned()
}

#[test]
fn two_nodes_found_join_and_work_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let turn = coming_up();
    let [http, quic] = [(); 2].map(|()| [port(), port()]);
    let one = flags(&folder.path().join("one"), "one", http[0], quic[0]);
    let two = flags(&folder.path().join("two"), "two", http[1], quic[1]);
    let said = succeed(run(&["init"], &one));
    assert!(said.contains("Account `admin`"), "{said}");
    // `run` goes by what `init` and `join` have written down.
    let _one = serve(&one[..2]);
    let token = until_up(&one);
    let address = format!("127.0.0.1:{}", quic[0]);
    succeed(run(&["join", &address, token.trim()], &two));
    let _two = serve(&two[..2]);
    drop(turn);

    // Who signs in at the second node is signed in at the first.
    until_up(&two);
    let password = succeed(run(&["admin", "admin"], &two[..2]));
    let signed_in = sign_in(folder.path(), &format!("http://127.0.0.1:{}", http[1]), &password);
    eventually("the first node lists both as live", || {
        let servers = Command::new(CLIENT)
            .args(["server", "ls", "--json"])
            .env("HOME", folder.path())
            .env("KNOT_URL", format!("http://127.0.0.1:{}", http[0]))
            .env("KNOT_TOKEN", &signed_in)
            .output()
            .unwrap();
        let servers: serde_json::Value = serde_json::from_slice(&servers.stdout).ok()?;
        let servers = servers["servers"].as_array()?.clone();
        let live = servers.iter().filter(|server| server["state"] == "live").count();
        (live == 2).then_some(())
    });

    // The token has been used.
    let three = flags(&folder.path().join("three"), "three", 9, 0);
    let refused = run(&["join", &address, token.trim()], &three);
    assert!(!refused.status.success());
    assert!(describe(&refused).contains("refused the token"), "{}", describe(&refused));
}

#[test]
fn an_admin_can_be_made_while_no_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let flags = flags(folder.path(), "one", 9, 0);
    // `--quic` with port 0 is of no use to a server, and enough for a database.
    succeed(run(&["init"], &flags));
    let password = succeed(run(&["admin", "somebody"], &flags));
    assert_eq!(password.trim().len(), 24);
}
