//! The schedules of one name each: a world, what happens, what must then be true.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    wait::eventually,
    world::{World, knot_server, path},
};

const EMPTY: &str = "empty";

fn one_copy(world: &World, id: &str) -> (String, String) {
    let copies = world.copies(id);
    assert_eq!(copies.len(), 1, "{copies:?}");
    copies.into_iter().next().unwrap()
}

/// Waits until exactly one copy of a space runs, and gives it.
fn until_one_copy(world: &World, id: &str) -> (String, String) {
    eventually("one copy runs", || (world.copies(id).len() == 1).then_some(()));
    one_copy(world, id)
}

/// A stopped space is started on both sides of a cut: it has one home, and one container.
#[test]
fn double_start() {
    let world = World::start();
    let wanted = json!({"name": "dev", "template": "shell", "server": "alpha"});
    let id = world.post(0, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
    world.until_known(1, &id);
    world.isolate(0);
    world.start_space(0, &id).ok();
    let told = world.start_space(1, &id).ok();
    // The other side says that the home cannot be reached, and picks no other.
    assert_eq!((&told["observed"], &told["home"]), (&json!("unreachable"), &json!("alpha")));
    assert!(told["since"].is_string(), "{told}");
    world.until(0, &id, "observed", "running");
    world.heal();
    for n in 0..3 {
        let shown = world.until(n, &id, "observed", "running");
        assert_eq!((&shown["home"], &shown["term"]), (&json!("alpha"), &json!(1)));
        assert_eq!(shown["generation"], "1.1", "one start, whoever asked for it");
    }
    one_copy(&world, &id);
}

/// A space is recovered whose home is alive behind a cut.
#[test]
fn recover_behind_cut() {
    let world = World::start();
    world.try_ask(0, Method::GET, "/me", None).unwrap().ok();
    let id = world.running("dev", 0);
    world.until(2, &id, "observed", "running");
    let home = world.servers[0].data.join(format!("spaces/{id}/home"));
    fs::write(home.join("precious"), "work").unwrap();
    // While the home answers, nothing but force recovers it; and where it keeps something, it is said.
    let to_gamma = format!("/spaces/{id}/recover");
    let said = world.post(2, &to_gamma, json!({"server": "gamma"})).problem("home_answers");
    assert!(said.contains("may still be running"), "{said}");
    world.isolate(0);
    let said = world.post(2, &to_gamma, json!({"server": "gamma"})).problem("volumes_stay");
    assert!(said.contains("its home folder"), "{said}");
    let said = world.post(2, &format!("/spaces/{id}/move"), json!({"server": "gamma"}));
    said.problem("volumes_stay");
    let said =
        world.post(2, &format!("/spaces/{id}/move"), json!({"server": "gamma", "volumes": EMPTY}));
    said.problem("home_unreachable");

    let wanted = json!({"server": "gamma", "volumes": EMPTY});
    let recovered = world.post(2, &to_gamma, wanted).ok();
    assert_eq!((&recovered["home"], &recovered["term"]), (&json!("gamma"), &json!(2)));
    world.until(2, &id, "observed", "running");
    // The old copy may run until its home hears of it: both do, and each side has its own.
    assert_eq!(world.copies(&id).len(), 2);
    assert_eq!(world.shown(0, &id)["generation"], "1.1");

    world.heal();
    let (_, generation) = until_one_copy(&world, &id);
    assert_eq!(generation, "2.1");
    for n in 0..3 {
        world.until(n, &id, "home", "gamma");
        let shown = world.until(n, &id, "observed", "running");
        assert_eq!(shown["generation"], "2.1", "the status is that of the new home");
    }
    // What the old home kept is set aside by name, and neither attached nor deleted.
    let aside = world.servers[0].data.join(format!("aside/{id}-1/precious"));
    eventually("it is set aside", || aside.exists().then_some(()));
    assert_eq!(fs::read_to_string(&aside).unwrap(), "work");
    world.until_healed();
    let moved = json!({"server": "alpha", "volumes": EMPTY});
    world.post(1, &format!("/spaces/{id}/move"), moved).ok();
    eventually("it runs there", || {
        let shown = world.shown(0, &id);
        let moved = shown["generation"].as_str()?.starts_with("3.");
        (moved && shown["observed"] == "running").then_some(())
    });
    assert!(!home.join("precious").exists(), "it was attached unasked");
    assert_eq!(fs::read_to_string(&aside).unwrap(), "work");
    assert_eq!(one_copy(&world, &id).1.split('.').next(), Some("3"));
}

/// The home was down while its space was recovered: it comes back, hears, and starts nothing.
#[test]
fn a_home_that_comes_back_hears_before_it_starts() {
    let mut world = World::start();
    let id = world.running("dev", 0);
    world.until_known(2, &id);
    world.kill(0);
    eventually("the home is missed", || {
        let answer = world.post(
            2,
            &format!("/spaces/{id}/recover"),
            json!({"server": "gamma", "volumes": EMPTY}),
        );
        answer.status.is_success().then_some(())
    });
    world.until(2, &id, "observed", "running");
    world.run(0);
    let (_, generation) = until_one_copy(&world, &id);
    assert_eq!(generation, "2.1");
    assert_eq!(world.until(0, &id, "observed", "running")["home"], "gamma");
}

/// A volume that a template declares is set aside by name too, is shown so, and goes when it is named.
#[test]
fn what_is_set_aside_is_listed_and_goes_when_it_is_named() {
    let world = World::start();
    let file = "name: data\nplatform: local\nvolumes:\n  work: /work\n";
    world.apply(0, file);
    let wanted = json!({"name": "dev", "template": "data", "start": true, "server": "alpha"});
    let id = world.post(0, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
    world.until(0, &id, "observed", "running");
    fs::write(world.servers[0].data.join(format!("spaces/{id}/home/work/kept")), "x").unwrap();
    let volume = eventually("the volume is listed", || row(&world, 1, "present"));
    // A planned move says what cannot follow, and then begins anew.
    let to = format!("/spaces/{id}/move");
    let said = world.post(1, &to, json!({"server": "beta"})).problem("volumes_stay");
    assert!(said.contains("volume work"), "{said}");
    world.post(1, &to, json!({"server": "beta", "volumes": EMPTY})).ok();
    world.until(1, &id, "home", "beta");
    world.until(1, &id, "observed", "running");
    let aside = eventually("what stayed is shown", || row(&world, 2, "aside"));
    assert_eq!((&aside["server"], &aside["engine_id"]), (&json!("alpha"), &volume["engine_id"]));
    let now = eventually("the new one is shown", || {
        row(&world, 2, "present").filter(|now| now["server"] == "beta")
    });
    assert_ne!(now["engine_id"], volume["engine_id"]);
    let old = volume["engine_id"].as_str().unwrap();
    let kept = world.servers[0].data.join(format!("volumes/{old}/data/kept"));
    assert!(kept.exists());
    let discard = format!("/volumes/{}/discard", volume["id"].as_str().unwrap());
    world.post(2, &discard, json!({"engine_id": old})).ok();
    eventually("it is removed", || (!kept.exists()).then_some(()));
    eventually("it is listed no more", || row(&world, 1, "aside").is_none().then_some(()));
}

fn row(world: &World, n: usize, state: &str) -> Option<Value> {
    let listed = world.get(n, "/volumes").ok();
    let rows = listed["volumes"].as_array()?.clone();
    rows.into_iter().find(|row| row["state"] == state)
}

/// Restarts through both sides of a cut: the number never falls, and no restart is done twice.
#[test]
fn generation() {
    let world = World::start();
    let id = world.running("dev", 0);
    world.until(1, &id, "generation", "1.1");
    world.isolate(0);
    world.restart_space(1, &id).ok();
    world.restart_space(1, &id).ok();
    world.restart_space(0, &id).ok();
    world.until(0, &id, "generation", "1.2");
    world.until(0, &id, "observed", "running");
    world.restart_space(0, &id).ok();
    world.until(0, &id, "generation", "1.3");
    world.heal();
    world.until_healed();
    // The restarts of the other side named a generation that has ended.
    for n in 0..3 {
        world.until(n, &id, "generation", "1.3");
        world.until(n, &id, "observed", "running");
    }
    assert_eq!(one_copy(&world, &id).1, "1.3");
}

/// A template is edited at one server, a restart asked for at another, and the home is behind.
#[test]
fn restart_through_other() {
    let world = World::start();
    let id = world.running("dev", 2);
    world.until_known(0, &id);
    world.until(1, &id, "observed", "running");
    let before = world.shown(1, &id)["revision"].clone();
    world.set_cut(0, 2, true);
    world.apply(0, "name: shell\nplatform: local\nenvironment:\n  COLOUR: blue\n");
    eventually("the other holds the edit", || {
        (world.shown(1, &id)["update_available"] == true).then_some(())
    });
    world.restart_space(1, &id).ok();
    let shown = world.until(2, &id, "generation", "1.2");
    assert_ne!(shown["revision"], before);
    world.heal();
    world.until(0, &id, "observed", "running");
}

/// A start cannot win against a deletion.
#[test]
fn delete_against_start() {
    let world = World::start();
    let id = world.running("dev", 0);
    world.until_known(1, &id);
    world.isolate(1);
    world.stop_space(1, &id).ok();
    let edit =
        world.try_ask(1, Method::PATCH, &format!("/spaces/{id}"), Some(json!({"note": "x"})));
    edit.unwrap().ok();
    world.start_space(1, &id).ok();
    world.delete_space(0, &id);
    eventually("nothing runs", || world.copies(&id).is_empty().then_some(()));
    world.heal();
    world.until_healed();
    for n in 0..3 {
        eventually("it is dead everywhere", || {
            (world.get(n, &format!("/spaces/{id}")).status == 404).then_some(())
        });
    }
    assert!(world.copies(&id).is_empty());
}

/// A database that is older than what its engine runs waits; a restored one does nothing at all until
/// it has been level with a peer, or is told that it is alone.
#[test]
fn old_data_fencing() {
    let mut world = World::start();
    let old = world.running("old", 0);
    // The folder as a backup has it: before another space, a restart and a deletion.
    let saved = world.folder.path().join("saved.db");
    world.kill(0);
    copy_database(&world.servers[0].data, &saved);
    world.run(0);
    world.until(0, &old, "observed", "running");
    world.restart_space(0, &old).ok();
    world.until(0, &old, "generation", "1.2");
    world.until(0, &old, "observed", "running");
    let new = world.running("new", 0);
    let (old_copy, new_copy) = (one_copy(&world, &old), one_copy(&world, &new));

    // Restored, with no peer in reach.
    world.kill(0);
    world.set_cut(0, 1, true);
    world.set_cut(0, 2, true);
    restore_database(&saved, &world.servers[0].data);
    fs::write(world.servers[0].data.join("restored"), "").unwrap();
    world.run(0);
    world.stop_space(0, &old).ok();
    // It has asked its engine, and looked at both, when it has published what it has.
    eventually("it has looked at its engine", || {
        let servers = world.get(0, "/servers").ok();
        let own = servers["servers"].as_array()?.iter().find(|one| one["this"] == true)?.clone();
        own["platforms"].as_array()?.contains(&json!("local")).then_some(())
    });
    eventually("it says why nothing happens", || {
        let cause = world.shown(0, &old)["cause"].clone();
        cause.as_str()?.contains("alpha waits: its data was restored").then_some(())
    });
    assert_eq!(one_copy(&world, &old), old_copy, "a restored database stopped what it should not");
    assert_eq!(one_copy(&world, &new), new_copy, "of a space that it never heard of");
    // With a peer it learns what has happened, and acts by that: the stop is newer than the start.
    world.heal();
    let stopped = world.until(0, &old, "observed", "stopped");
    assert!(!stopped["cause"].as_str().unwrap_or_default().contains("waits"), "{stopped}");
    world.until(0, &new, "observed", "running");
    assert_eq!(one_copy(&world, &new), new_copy);
    let note = world.servers[0].data.join("restored");
    eventually("it is trusted from now on", || (!note.exists()).then_some(()));
}

/// The same, and an operator says that it is alone.
#[test]
fn a_restored_server_acts_when_it_is_told_that_it_is_alone() {
    let mut world = World::start();
    let id = world.running("dev", 0);
    world.kill(0);
    world.set_cut(0, 1, true);
    world.set_cut(0, 2, true);
    fs::write(world.servers[0].data.join("restored"), "").unwrap();
    world.run(0);
    world.stop_space(0, &id).ok();
    let copy = one_copy(&world, &id);
    knot_server(&["alone", "--data", path(&world.servers[0].data)]);
    eventually("it acts", || world.copies(&id).is_empty().then_some(()));
    assert_eq!(copy.1, "1.1");
}

fn copy_database(from: &std::path::Path, to: &std::path::Path) {
    for end in ["", "-wal"] {
        let file = from.join(format!("knot.db{end}"));
        if file.exists() {
            fs::copy(file, format!("{}{end}", path(to))).unwrap();
        }
    }
}

fn restore_database(from: &std::path::Path, to: &std::path::Path) {
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(to.join(format!("knot.db{end}"))).ok();
        let saved = format!("{}{end}", path(from));
        if std::path::Path::new(&saved).exists() {
            fs::copy(saved, to.join(format!("knot.db{end}"))).unwrap();
        }
    }
}

/// `dev` clashes; the older is deleted; the client tries the deletion again.
#[test]
fn name_retry() {
    let world = World::start();
    world.isolate(0);
    let wanted = json!({"name": "dev", "template": "shell"});
    let older = world.post(0, "/spaces", wanted.clone()).ok()["id"].as_str().unwrap().to_owned();
    let younger = world.post(1, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
    world.heal();
    for n in 0..3 {
        world.until_known(n, &younger);
    }
    world.until_known(1, &older);
    let deleted = world.delete_space(1, &older);
    // Through a server that may have heard of the older no more than that it is dead.
    let to = "/spaces/dev";
    let again = world.try_ask_having_seen(2, Method::DELETE, to, None, &deleted.seen).unwrap();
    let refused = again.problem("ambiguous_name");
    assert!(refused.contains(&older) && refused.contains(&younger), "{refused}");
    world.until(0, &younger, "name", "dev");
}

/// One request for a space, sent again through another server, before and behind a cut.
#[test]
fn same_natural_key() {
    let world = World::start();
    let wanted = json!({"name": "dev", "template": "shell", "start": true});
    let first = world.create_once(0, "one", &wanted).ok();
    let id = first["id"].as_str().unwrap().to_owned();
    world.until_known(1, &id);
    let again = world.create_once(1, "one", &wanted);
    assert_eq!((again.status.as_u16(), &again.body["id"]), (200, &first["id"]));
    // Both halves are asked for one that neither has: one of them makes it.
    world.isolate(0);
    let other = json!({"name": "other", "template": "shell", "start": true});
    let answers = [world.create_once(0, "two", &other), world.create_once(1, "two", &other)];
    let made: Vec<_> = answers.iter().filter(|answer| answer.status.is_success()).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    let refused = answers.iter().find(|answer| !answer.status.is_success()).unwrap();
    assert_eq!(refused.body["code"], "home_unreachable", "{refused:?}");
    let id = made[0].body["id"].as_str().unwrap().to_owned();
    world.heal();
    for n in 0..3 {
        world.until(n, &id, "observed", "running");
    }
    one_copy(&world, &id);
    let spaces = world.get(2, "/spaces").ok();
    assert_eq!(spaces["spaces"].as_array().unwrap().len(), 2);
}

/// A user's own volume is seen in the space that it is attached to, from its next start on, and one of
/// a template's that is kept outlives its space.
#[test]
fn volumes_are_attached_kept_and_found_when_nobody_knows_them() {
    let world = World::start_with("volume_grace_hours = 0\n[docker]\nenabled = false\n");
    world.apply(1, "name: data\nplatform: local\nvolumes:\n  work: /work\n");
    let wanted = json!({"name": "cache", "server": "alpha", "platform": "local"});
    let cache = eventually("the volume is asked for", || {
        let answer = world.post(2, "/volumes", wanted.clone());
        answer.status.is_success().then(|| answer.body["id"].as_str().unwrap().to_owned())
    });
    let folder = world.servers[0].data.join(format!("volumes/{cache}/data"));
    eventually("it is made", || folder.exists().then_some(()));
    fs::write(folder.join("warm"), "x").unwrap();
    let wanted = json!({"name": "dev", "template": "data", "start": true, "server": "alpha"});
    let id = eventually("the template is there", || {
        let answer = world.post(0, "/spaces", wanted.clone());
        answer.status.is_success().then(|| answer.body["id"].as_str().unwrap().to_owned())
    });
    world.until(0, &id, "observed", "running");
    let attach = format!("/volumes/{cache}/attach");
    let told = json!({"space": id, "path": "/cache"});
    eventually("it is attached", || {
        world.post(1, &attach, told.clone()).status.is_success().then_some(())
    });
    let seen = world.servers[0].data.join(format!("spaces/{id}/home/cache/warm"));
    assert!(!seen.exists(), "not before the next start");
    eventually("the home holds it", || {
        (world.get(0, "/volumes").ok()["volumes"]
            .as_array()?
            .iter()
            .any(|row| row["path"] == "/cache"))
        .then_some(())
    });
    world.restart_space(0, &id).ok();
    world.until(0, &id, "generation", "1.2");
    world.until(0, &id, "observed", "running");
    assert!(seen.exists());
    // One that nobody knows is found, and left alone.
    let stray = uuid::Uuid::new_v4();
    let (known, unknown) =
        (folder.parent().unwrap(), world.servers[0].data.join(format!("volumes/{stray}")));
    fs::create_dir_all(unknown.join("data")).unwrap();
    let labels = fs::read_to_string(known.join("labels.json")).unwrap();
    fs::write(unknown.join("labels.json"), labels.replace(&cache, &stray.to_string())).unwrap();
    let orphans = eventually("the orphan is found", || {
        let orphans = world.get(2, "/volumes").ok()["orphans"].clone();
        (orphans != json!([])).then_some(orphans)
    });
    let expected =
        json!([{"server": "alpha", "platform": "local", "engine_id": format!("volumes/{stray}")}]);
    assert_eq!(orphans, expected);

    let work = row_of(&world, 0, "work").unwrap();
    let engine_id = work["engine_id"].as_str().unwrap().to_owned();
    let edit = format!("/volumes/{}", work["id"].as_str().unwrap());
    world.try_ask(1, Method::PATCH, &edit, Some(json!({"keep": true}))).unwrap().ok();
    eventually("the home has heard", || (row_of(&world, 0, "work")?["keep"] == true).then_some(()));
    world.delete_space(0, &id);
    for name in ["work", "cache"] {
        eventually("both are nobody's space's", || {
            let row = row_of(&world, 2, name)?;
            (row["space"] == "" && row["state"] == "present").then_some(())
        });
    }
    assert_eq!(row_of(&world, 2, "work").unwrap()["engine_id"], engine_id.as_str());
    assert!(folder.join("warm").exists() && unknown.exists());
    world.try_ask(2, Method::DELETE, &format!("/volumes/{cache}"), None).unwrap();
    eventually("it is removed", || (!folder.exists()).then_some(()));
}

fn row_of(world: &World, n: usize, name: &str) -> Option<Value> {
    let listed = world.get(n, "/volumes").ok();
    listed["volumes"].as_array()?.iter().find(|row| row["name"] == name).cloned()
}
