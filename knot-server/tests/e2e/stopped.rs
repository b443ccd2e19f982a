//! What comes into a space has it started, where its template says so.

use crate::world::{World, describe};

/// A stopped space of each kind: `lazy`, which a connection starts, and `strict`, which none does.
pub(crate) fn two_stopped() -> World {
    let world = World::start(2);
    for (name, more) in [("lazy", "start_on_connect: true\n"), ("strict", "")] {
        world.apply(1, &format!("name: {name}\nplatform: local\nany_port: true\n{more}"));
        world.json(1, &["space", "create", name, "--template", name]);
    }
    world
}

fn desired(world: &World, space: &str) -> String {
    world.json(2, &["space", "show", space])["desired"].as_str().unwrap().to_owned()
}

#[test]
fn a_command_starts_a_stopped_space_and_then_runs_in_it() {
    let world = two_stopped();
    let refused =
        world.client(2).args(["space", "exec", "strict", "--", "echo", "in"]).output().unwrap();
    let said = describe(&refused);
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("knot space start strict") && said.contains("its template"), "{said}");
    assert_eq!(desired(&world, "strict"), "stopped");

    let ran = world.client(2).args(["space", "exec", "lazy", "--", "echo", "in"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "in\n", "{}", describe(&ran));
    assert_eq!(desired(&world, "lazy"), "running");
}

#[test]
fn a_copy_starts_a_stopped_space() {
    let world = two_stopped();
    let file = world.folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    world.knot(2, &["cp", file.to_str().unwrap(), "lazy:file"]);
    assert_eq!(world.knot(1, &["space", "exec", "lazy", "--", "cat", "file"]), "text");
}
