//! What becomes of a command whose server cannot be reached, where the cluster has others.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use super::{TOKEN, knot, run};
use crate::server::{Script, World};

/// The program, at one server's address with the files of this folder.
fn at(world: &World, address: &str, files: &Path, arguments: &[&str]) -> Command {
    let mut command = knot(world, arguments);
    command.env("KNOT_URL", address).env("XDG_CONFIG_HOME", files);
    command
}

/// A server that has told of another one, and is gone then: its address, and the other.
fn told_of_another(files: &Path) -> (String, World) {
    let (first, other) = (World::start(Script::default()), World::start(Script::default()));
    first.tells(&[format!("http://{}", other.address)]);
    // The first command has it tell, whichever that is; the next ones do not.
    for _ in 0..2 {
        assert_eq!(run(at(&first, &first.address, files, &["template", "ls"])).0, 0);
    }
    let asked = first.requests().iter().filter(|one| one.ends_with("/servers")).count();
    assert_eq!(asked, 1, "{:?}", first.requests());
    (first.address.clone(), other)
}

#[test]
fn another_server_of_the_cluster_is_asked_in_the_place_of_one_that_is_gone() {
    let files = tempfile::tempdir().unwrap();
    let (gone, other) = told_of_another(files.path());
    let ask = |arguments: &[&str]| run(at(&other, &gone, files.path(), arguments));
    let (status, output, errors) = ask(&["whoami"]);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(output, format!("anna at http://{}\n", other.address));
    // Nothing of it had come to the first: what changes something is sent to the other, once.
    assert_eq!(ask(&["space", "stop", "dev", "--no-wait"]).0, 0);
    let stops = other.requests().iter().filter(|one| one.ends_with("/stop")).count();
    assert_eq!(stops, 1);
    // Whoever wants that one, and no other, says so.
    assert_eq!(ask(&["whoami", "--one-server"]).0, 6);
    let mut alone = at(&other, &gone, files.path(), &["whoami"]);
    alone.env("KNOT_ONE_SERVER", "1");
    assert_eq!(run(alone).0, 6);
    // With another token it is another cluster.
    let mut stranger = at(&other, &gone, files.path(), &["whoami"]);
    stranger.env("KNOT_TOKEN", "other-token");
    let before = other.requests().len();
    assert_eq!(run(stranger).0, 6);
    assert_eq!(other.requests().len(), before);
}

/// A server that takes each request, and never answers: how many came.
fn silent() -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let taken = std::thread::spawn(move || {
        let mut taken = Vec::new();
        for stream in listener.incoming() {
            let (mut stream, mut buffer) = (stream.unwrap(), [0; 4_096]);
            let count = stream.read(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let line = text.lines().next().unwrap_or_default().to_owned();
            if line == "over" {
                break;
            }
            taken.push(line);
        }
        taken
    });
    (address, taken)
}

#[test]
fn what_a_server_may_have_done_is_not_asked_of_another() {
    let other = World::start(Script::default());
    let (lost, taken) = silent();
    let both = format!("{lost},{}", other.address);
    let ask = |arguments: &[&str]| run(at(&other, &both, other.config.path(), arguments));
    // It takes the request and is gone: reading goes on with the other, and so does what has a key.
    assert_eq!(ask(&["template", "ls"]).0, 0);
    let keyed = ["space", "create", "new", "--template", "rust", "--key", "k1"];
    assert_eq!(ask(&keyed).0, 0);
    let before = other.requests().len();
    let (status, _, errors) = ask(&["space", "create", "new", "--template", "rust"]);
    assert_eq!(status, 6, "{errors}");
    assert!(errors.contains("cannot be reached"), "{errors}");
    assert_eq!(other.requests().len(), before);
    TcpStream::connect(&lost).unwrap().write_all(b"over\n").unwrap();
    let taken = taken.join().unwrap();
    let posts = taken.iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(posts, 2, "{taken:?}");
}

#[test]
fn a_token_is_sent_to_no_address_that_no_server_has_told() {
    let files = tempfile::tempdir().unwrap();
    let (gone, other) = told_of_another(files.path());
    // What is told over HTTP on this machine counts for this machine only.
    let kept = std::fs::read_to_string(files.path().join("knot/servers.json")).unwrap();
    assert!(kept.contains(&other.address) && !kept.contains("alpha.example"), "{kept}");
    assert!(!kept.contains(TOKEN), "{kept}");
    std::fs::remove_file(files.path().join("knot/servers.json")).unwrap();
    assert_eq!(run(at(&other, &gone, files.path(), &["whoami"])).0, 6);
    assert_eq!(other.requests(), Vec::<String>::new());
}

#[test]
fn signing_in_learns_of_the_others_and_signing_out_forgets_them() {
    let (first, other) = (World::start(Script::default()), World::start(Script::default()));
    first.tells(&[format!("http://{}", other.address)]);
    let with = |world: &World, arguments: &[&str]| {
        let mut command = knot(world, arguments);
        command.env_remove("KNOT_TOKEN").env_remove("KNOT_URL");
        command.env("XDG_CONFIG_HOME", other.config.path());
        run(command)
    };
    assert_eq!(with(&first, &["login", &first.address, "--token", TOKEN]).0, 0);
    drop(first);
    assert_eq!(with(&other, &["whoami"]).1, format!("anna at http://{}\n", other.address));
    assert_eq!(with(&other, &["logout"]).0, 0);
    let kept = std::fs::read_to_string(other.config.path().join("knot/servers.json")).unwrap();
    assert!(!kept.contains(&other.address), "{kept}");
}
