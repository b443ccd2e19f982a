//! What is asked of a space through servers that are not its home.

use std::process::Command;

use serde_json::{Value, json};

use crate::{wait::eventually, world::World};

/// A space's logs are its home's, and every server has them from there.
#[test]
fn logs_are_read_through_any_server() {
    let world = World::start();
    let file = "name: loud\nplatform: local\nstartup_script: echo good morning\n";
    world.apply(0, file);
    let wanted = json!({"name": "dev", "template": "loud", "start": true, "server": "alpha"});
    let id = world.post(0, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
    for n in 0..3 {
        world.until(n, &id, "observed", "running");
        let log = world.text(n, &format!("/spaces/{id}/logs?kind=provision"));
        assert!(log.contains("the space is running"), "{}: {log}", world.servers[n].name);
    }
    // What its container wrote is kept when it has ended.
    world.stop_space(1, &id).ok();
    for n in 0..3 {
        world.until(n, &id, "observed", "stopped");
        let log = world.text(n, &format!("/spaces/{id}/logs?generation=1.1"));
        assert!(log.contains("good morning"), "{}: {log}", world.servers[n].name);
    }
    world.isolate(0);
    let refused = world.get(1, &format!("/spaces/{id}/logs")).problem("no_agent");
    assert!(refused.contains("its home cannot be reached"), "{refused}");
}

/// What a command in the space says, if it runs.
fn said(mut client: Command, space: &str) -> Option<String> {
    let run = client.args(["space", "exec", space, "--", "cat", "mark"]).output().unwrap();
    run.status.success().then(|| String::from_utf8(run.stdout).unwrap())
}

/// Whoever has heard of a recovery lets nobody into the old copy any more, though that runs on, and
/// its agent is linked to a server that has heard.
#[test]
fn who_has_heard_of_a_recovery_leads_to_the_new_copy_only() {
    let world = World::start();
    // Else its agent may be linked to the two others alone, and nobody comes to it at its home.
    world.apply(0, "name: linked\nplatform: local\nlinks: 3\n");
    let wanted = json!({"name": "dev", "template": "linked", "start": true, "server": "alpha"});
    let id = world.post(0, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
    for n in 0..3 {
        eventually("the agent is linked to it", || {
            (world.shown(n, &id)["reached"]["directly"] == true).then_some(())
        });
    }
    let mark = |n: usize, text: &str| {
        let home = world.servers[n].data.join(format!("spaces/{id}/home"));
        std::fs::write(home.join("mark"), text).unwrap();
    };
    mark(0, "old");
    world.until(1, &id, "observed", "running");
    world.isolate(0);
    let old = eventually("it is used at its home", || said(world.client(0), &id));
    assert_eq!(old, "old");
    let recover = json!({"server": "gamma", "volumes": "empty"});
    world.post(2, &format!("/spaces/{id}/recover"), recover).ok();
    world.until(1, &id, "generation", "2.1");
    world.until(1, &id, "observed", "running");
    mark(2, "new");
    assert_eq!(world.copies(&id).len(), 2, "both run");
    // The old copy's agent tries the servers that it knows again and again: those that have heard let
    // it in no more, and its own does.
    for n in [1, 2] {
        for _ in 0..5 {
            let new = eventually("it is used", || said(world.client(n), &id));
            assert_eq!(new, "new", "{}", world.servers[n].name);
        }
    }
    let old = eventually("the old one is used at its home", || said(world.client(0), &id));
    assert_eq!(old, "old");
    world.heal();
    eventually("the old copy is gone", || (world.copies(&id).len() == 1).then_some(()));
    let new = eventually("it is used there too", || said(world.client(0), &id));
    assert_eq!(new, "new");
}

/// Two template edits in two parts of the cluster, each valid, that merge to what no space can be made
/// from: every server starts the same one revision.
#[test]
fn last_valid() {
    let world = World::start();
    let base = "name: pair\nplatform: local\n";
    world.apply(0, base);
    for n in 1..3 {
        eventually("the template is there", || revision(&world, n));
    }
    world.isolate(0);
    world.apply(0, &format!("{base}volumes:\n  a: /data\n"));
    world.apply(1, &format!("{base}volumes:\n  b: /data\n"));
    let valid = [revision(&world, 0).unwrap(), revision(&world, 1).unwrap()];
    world.heal();
    world.until_healed();
    let used: Vec<Value> = (0..3)
        .map(|n| {
            eventually("the merge is found out", || {
                let template = world.get(n, "/templates/pair").ok();
                template["invalid"]["used"].is_string().then(|| template["revision"].clone())
            })
        })
        .collect();
    assert!(used.iter().all(|one| *one == used[0]) && valid.contains(&used[0]), "{used:?}");
    for n in 0..3 {
        let name = &world.servers[n].name;
        let wanted = json!({"name": name, "template": "pair", "start": true, "server": name});
        let id = world.post(n, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
        world.until(n, &id, "observed", "running");
        assert_eq!(world.shown(n, &id)["revision"], used[0], "{name}");
    }
}

fn revision(world: &World, n: usize) -> Option<Value> {
    let template = world.get(n, "/templates/pair");
    template.status.is_success().then(|| template.body["revision"].clone())
}
