//! What bad input gets: one clear line, a non-zero exit, and nothing changed.

use std::{net::TcpListener, process::Output};

use crate::world::{World, describe, knot_server, path};

/// It failed with this exit code, and one line that says this.
fn refused(output: &Output, code: i32, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}", describe(output));
    assert!(said.contains(says), "not `{says}`: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "more than one line: {said}");
}

#[test]
fn the_client_says_what_was_wrong() {
    let world = World::start(1);
    let before = (world.json(1, &["space", "ls"]), world.json(1, &["template", "ls"]));
    let file = world.folder.path().join("bad.yaml");
    let bad = path(&file);
    let cases: [(&[&str], &str, i32, &str); 9] = [
        (&["space", "show", "nothing"], "", 4, "nothing"),
        (&["space", "start", "nothing"], "", 4, "nothing"),
        (&["space", "exec", "nothing", "--", "true"], "", 125, "nothing"),
        (&["space", "create", "dev", "--template", "nothing"], "", 4, "nothing"),
        (&["space", "create", "Bad Name", "--template", "shell"], "", 1, "Bad Name"),
        (&["template", "apply", bad], "name: x\nplatform: [", 1, "line 2"),
        (&["template", "apply", bad], "name: x\nplatfrom: local\n", 1, "platfrom"),
        (&["template", "apply", bad], "name: x\nplatform: nomad\n", 1, "nomad"),
        (&["template", "apply", "/nonexistent"], "", 1, "/nonexistent"),
    ];
    for (arguments, text, code, says) in cases {
        std::fs::write(&file, text).unwrap();
        let output = world.client(1).args(arguments).output().unwrap();
        refused(&output, code, says);
    }
    let wrong = world.client(1).args(["space", "ls"]).env("KNOT_TOKEN", "knot_wrong").output();
    refused(&wrong.unwrap(), 3, "sign in");
    let nobody =
        world.client(1).args(["space", "ls"]).env("KNOT_URL", "http://127.0.0.1:9").output();
    refused(&nobody.unwrap(), 6, "127.0.0.1:9");
    assert_eq!(before, (world.json(1, &["space", "ls"]), world.json(1, &["template", "ls"])));
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let world = World::start(1);
    let second = knot_server(&["run", "--data", path(&world.data(1))]);
    refused(&last_line(second), 1, "in use by another process");
    let dev = knot_server(&["dev", "--data", path(world.folder.path())]);
    refused(&dev, 1, "another `knot-server dev` runs");
    world.knot(1, &["server", "ls"]);
}

/// A server logs before it fails: only its last line is its answer.
fn last_line(output: Output) -> Output {
    let said = String::from_utf8(output.stderr).unwrap();
    let last = said.trim_end().lines().last().unwrap_or_default().to_owned();
    Output { stderr: last.into_bytes(), ..output }
}

#[test]
fn the_server_says_what_was_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("knot.toml"));
    std::fs::write(&file, "nmae = 'x'\n").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], &str); 9] = [
        (&["run", "--data", path(&data)], "holds no server"),
        (&["token", "--data", path(&data)], "no server runs on"),
        (&["config", "check", "--config", "/nonexistent"], "/nonexistent"),
        (&["init", "--data", path(&data), "--http", "0.0.0.0:3000"], "http.plain"),
        (
            &["init", "--data", path(&data), "--quic-advertise", "localhost:7300"],
            "nobody else reaches it",
        ),
        (&["join", "127.0.0.1:9", "nonsense", "--data", path(&data)], "no join token"),
        (&["dev", "--data", path(&data), "--http", &taken], "in use"),
        (&["dev", "--data", path(&data), "--servers", "0"], "--servers 0"),
        (&["remove", "nobody", "--data", path(&data)], "no server runs on"),
    ];
    for (arguments, says) in cases {
        refused(&knot_server(arguments), 1, says);
    }
    let wrong = knot_server(&["config", "check", "--config", path(&file)]);
    assert!(!wrong.status.success() && describe(&wrong).contains("nmae"), "{}", describe(&wrong));
    let somewhere = folder.path().join("full");
    std::fs::create_dir(&somewhere).unwrap();
    std::fs::write(somewhere.join("thesis.txt"), "").unwrap();
    refused(&knot_server(&["dev", "--data", path(&somewhere)]), 1, "is not empty");
}
