//! The life of spaces on three servers.

use std::process::Command;

use serde_json::Value;

use crate::{
    engine::{EmptyImage, have_docker},
    wait::eventually,
    world::{World, describe, knot_server, path},
};

/// A field of a space as the n-th server shows it.
fn shown(world: &World, n: usize, space: &str, field: &str) -> Value {
    world.json(n, &["space", "show", space])[field].clone()
}

#[test]
fn a_space_is_listed_used_and_updated_through_any_server() {
    let world = World::start(3);
    let created = world.json(1, &["space", "create", "dev", "--template", "shell", "--start"]);
    assert_eq!(created["observed"], "running");
    for field in ["id", "name", "owner", "template", "desired", "home", "update_available"] {
        assert!(!created[field].is_null(), "{field} is not shown");
    }
    assert_eq!(created["conflicts"], serde_json::json!([]));
    // At once: the client carries what it has seen from one server to the next.
    let listed = world.json(3, &["space", "ls"]);
    assert_eq!(listed["spaces"][0]["id"], created["id"]);

    let ran = world
        .client(2)
        .args(["space", "exec", "dev", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])
        .output()
        .unwrap();
    assert_eq!(
        (ran.status.code(), &*ran.stdout, &*ran.stderr),
        (Some(7), &b"out\n"[..], &b"err\n"[..])
    );

    world.apply(2, "name: shell\nplatform: local\nenvironment:\n  COLOUR: blue\n");
    for n in 1..=3 {
        eventually("the mark is on every server", || {
            (shown(&world, n, "dev", "update_available") == true).then_some(())
        });
    }
    world.knot(1, &["space", "restart", "dev"]);
    for n in 1..=3 {
        eventually("the mark is cleared on every server", || {
            (shown(&world, n, "dev", "update_available") == false).then_some(())
        });
        let colour = ["space", "exec", "dev", "--", "sh", "-c", "echo $COLOUR"];
        assert_eq!(world.knot(n, &colour), "blue\n");
    }
    assert_eq!(shown(&world, 3, "dev", "generation"), "1.2");

    world.knot(3, &["space", "stop", "dev"]);
    eventually("it is stopped at another server, too", || {
        (shown(&world, 2, "dev", "observed") == "stopped").then_some(())
    });
    world.knot(2, &["space", "delete", "dev"]);
    assert_eq!(world.json(1, &["space", "ls"])["spaces"], serde_json::json!([]));
}

#[test]
fn a_container_outlives_the_server_that_started_it() {
    if !have_docker() {
        return;
    }
    let image = EmptyImage::make();
    let mut world = World::start(3);
    world.until_all_have("docker");
    world.apply(
        1,
        &format!("name: box\nplatform: docker\nimage: {}\nvolumes:\n  data: /data\n", image.name()),
    );
    let created = world.json(1, &["space", "create", "box", "--template", "box", "--start"]);
    let (id, home) = (created["id"].clone(), created["home"].clone());
    assert_eq!(home, world.name(1));

    world.kill(1);
    for n in [2, 3] {
        assert_eq!(world.json(n, &["space", "show", "box"])["id"], id, "the create is lost");
        let version = world.knot(n, &["space", "exec", "box", "--", "/.knot/agent", "--version"]);
        assert!(version.starts_with("knot-agent "), "{version}");
        eventually("the home is shown as unreachable", || {
            (shown(&world, n, "box", "home_reachable") == false).then_some(())
        });
    }
    world.apply(2, "name: later\nplatform: local\n");

    world.start_again(1);
    eventually("the server has caught up", || {
        let templates = world.json(1, &["template", "ls"]);
        templates["templates"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "later")
            .map(drop)
    });
    eventually("it runs", || (shown(&world, 1, "box", "observed") == "running").then_some(()));
    assert_eq!(shown(&world, 1, "box", "generation"), "1.1", "the container was not adopted");
    world.knot(1, &["space", "exec", "box", "--", "/.knot/agent", "--version"]);
    world.knot(3, &["space", "delete", "box"]);
    let filter = format!("label=knot.space={}", id.as_str().unwrap());
    let left =
        Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &filter]).output();
    assert_eq!(left.unwrap().stdout, b"", "a container was left behind");
    remove_volumes(&created);
}

/// The volume of a deleted space is kept for a day; the test does not wait for that.
fn remove_volumes(space: &Value) {
    let volumes = Command::new("docker")
        .args(["volume", "ls", "--quiet", "--filter", "label=knot.home"])
        .args(["--filter", &format!("label=knot.home={}", space["home_id"].as_str().unwrap())])
        .output()
        .unwrap();
    for volume in String::from_utf8(volumes.stdout).unwrap().lines() {
        Command::new("docker").args(["volume", "rm", volume]).output().unwrap();
    }
}

#[test]
fn a_removed_server_is_cut_off_at_once() {
    let world = World::start(3);
    let removed = world.name(3).to_owned();
    let ran = knot_server(&["remove", &removed, "--data", path(world.folder.path())]);
    assert!(ran.status.success(), "{}", describe(&ran));
    for n in [1, 2] {
        eventually("the others list it no more", || {
            let servers = world.json(n, &["server", "ls"]);
            (servers["servers"].as_array().unwrap().len() == 2).then_some(())
        });
    }
    // It keeps its database, takes no more writes, and hears nothing. What it took before it had heard may be known.
    eventually("it takes no more writes", || {
        let refused = world
            .client(3)
            .args(["--one-server", "space", "create", "x", "--template", "shell"])
            .output();
        let said = String::from_utf8(refused.unwrap().stderr).unwrap();
        said.contains("removed from its cluster").then_some(())
    });
    // A client that has seen nothing newer elsewhere, or the server would say that it is behind.
    let at_removed = |arguments: &[&str]| -> Option<Value> {
        let mut client = world.client(3);
        let client = client.args(["--one-server", "--json"]).args(arguments);
        let output = client.env("HOME", "/nonexistent").output();
        serde_json::from_slice(&output.unwrap().stdout).ok()
    };
    eventually("it has lost its links", || {
        let servers = at_removed(&["server", "ls"])?;
        let live = |server: &&Value| server["state"] == "live" && server["this"] == false;
        (servers["servers"].as_array().unwrap().iter().filter(live).count() == 0).then_some(())
    });
    world.json(1, &["space", "create", "after", "--template", "shell"]);
    let knows = |listed: &Value| {
        listed["spaces"].as_array().unwrap().iter().any(|space| space["name"] == "after")
    };
    assert!(knows(&world.json(2, &["space", "ls"])));
    assert!(!knows(&at_removed(&["space", "ls"]).unwrap()));
}

#[test]
fn dev_goes_on_with_what_its_folder_holds() {
    let world = World::start(2);
    let before = world.json(1, &["space", "create", "dev", "--template", "shell", "--start"]);
    let password = world.up["admin"]["password"].clone();
    let folder = world.stop();
    let world = World::start_in(folder, 2);
    assert_eq!(world.up["admin"]["password"], password);
    let space = eventually("the space runs again", || {
        let space = world.json(2, &["space", "show", "dev"]);
        (space["observed"] == "running" && space["generation"] == "1.2").then_some(space)
    });
    assert_eq!(space["id"], before["id"]);
    assert_eq!(world.knot(2, &["space", "exec", "dev", "--", "echo", "again"]), "again\n");
}

#[test]
fn what_runs_for_a_killed_server_ends_with_dev_and_runs_again_with_it() {
    let world = World::start(2);
    let home = world.name(2).to_owned();
    for name in ["dev", "other"] {
        let create = ["space", "create", name, "--template", "shell", "--server", home.as_str()];
        world.json(2, &create);
    }
    world.json(2, &["space", "start", "dev"]);
    world.kill(2);
    let folder = world.stop();
    let world = World::start_in(folder, 2);
    // The other server may still know of the run before.
    eventually("the space runs again", || {
        let runs = shown(&world, 1, "dev", "observed") == "running";
        (runs && shown(&world, 1, "dev", "generation") == "1.2").then_some(())
    });
    // One that has just been told to start.
    world.json(2, &["space", "start", "other", "--no-wait"]);
    world.stop();
}

#[test]
fn the_container_of_a_killed_server_ends_with_dev() {
    if !have_docker() {
        return;
    }
    let image = EmptyImage::make();
    let world = World::start(2);
    world.until_all_have("docker");
    world.apply(1, &format!("name: box\nplatform: docker\nimage: {}\n", image.name()));
    let home = world.name(2);
    let create = ["space", "create", "box", "--template", "box", "--server", home, "--start"];
    let created = world.json(1, &create);
    let running = || {
        let filter = format!("label=knot.space={}", created["id"].as_str().unwrap());
        let ran = Command::new("docker").args(["ps", "--quiet", "--filter", &filter]).output();
        String::from_utf8(ran.unwrap().stdout).unwrap()
    };
    world.kill(2);
    assert_ne!(running(), "", "a container ends with its server");
    let folder = world.stop();
    assert_eq!(running(), "", "a container stays behind");

    let world = World::start_in(folder, 2);
    eventually("the space runs again", || {
        let runs = shown(&world, 2, "box", "observed") == "running";
        (runs && shown(&world, 2, "box", "generation") == "1.2").then_some(())
    });
    world.knot(2, &["space", "delete", "box"]);
}
