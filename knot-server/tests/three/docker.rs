//! Three servers on one container engine, where one answers.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::{
    engine::{EmptyImage, have_docker},
    wait::eventually,
    world::World,
};

fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn containers(space: &str) -> Vec<String> {
    let filter = format!("label=knot.space={space}");
    let listed =
        docker(&["ps", "--quiet", "--filter", &filter, "--format", "{{.Label \"knot.home\"}}"]);
    listed.unwrap_or_default().lines().map(str::to_owned).collect()
}

fn volume_exists(engine_id: &str) -> bool {
    docker(&["volume", "ls", "--quiet"]).unwrap().lines().any(|name| name.ends_with(engine_id))
}

/// Three servers of one cluster on one engine: none touches another's containers; a space that moves
/// takes its volume along, and its new home removes what the old one made.
#[test]
fn shared_engine_dev() {
    if !have_docker() {
        return;
    }
    let image = EmptyImage::make();
    let mut world = World::start_with("volume_grace_hours = 0\n");
    let template =
        format!("name: box\nplatform: docker\nimage: {}\nvolumes:\n  data: /data\n", image.name());
    eventually("all have the engine", || {
        let servers = world.get(0, "/servers").ok();
        let has = |one: &serde_json::Value| {
            one["platforms"].as_array().unwrap().contains(&json!("docker"))
        };
        servers["servers"].as_array().unwrap().iter().all(has).then_some(())
    });
    world.apply(0, &template);
    let make = |world: &World, name: &str, home: usize| {
        let wanted = json!({
            "name": name, "template": "box", "start": true, "server": world.servers[home].name
        });
        eventually("the template is there", || {
            let answer = world.post(home, "/spaces", wanted.clone());
            answer.status.is_success().then(|| answer.body["id"].as_str().unwrap().to_owned())
        })
    };
    let (one, two) = (make(&world, "one", 0), make(&world, "two", 1));
    world.until(0, &one, "observed", "running");
    world.until(1, &two, "observed", "running");
    // Each knows its own only, and leaves the other's alone, cut off or not.
    world.isolate(0);
    assert_eq!((containers(&one).len(), containers(&two).len()), (1, 1));
    // A home behind the cut: on the shared engine the new one ends the old copy itself, for it holds
    // the document that ended its term, and the volume follows.
    let before = containers(&one);
    world.post(1, &format!("/spaces/{one}/recover"), json!({"server": "beta"})).ok();
    world.until(1, &one, "generation", "2.1");
    world.until(1, &one, "observed", "running");
    let now = containers(&one);
    assert_eq!(now.len(), 1, "{now:?}");
    assert_ne!(now, before);
    world.heal();
    world.until(0, &one, "home", "beta");
    let volumes = world.get(1, "/volumes").ok();
    let volumes = volumes["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|volume| volume["state"] != "aside"), "{volumes:?}");
    assert_eq!((containers(&one).len(), containers(&two).len()), (1, 1));
    // What the old home made goes with the space, at the hands of the new one.
    let row = volumes.iter().find(|volume| volume["space_id"] == one.as_str()).unwrap();
    let engine_id = row["engine_id"].as_str().unwrap().to_owned();
    assert!(volume_exists(&engine_id));
    // Without its maker, even.
    world.kill(0);
    world.delete_space(1, &one);
    world.delete_space(1, &two);
    eventually("containers and volumes are gone", || {
        let gone = containers(&one).is_empty() && containers(&two).is_empty();
        (gone && !volume_exists(&engine_id)).then_some(())
    });
}
