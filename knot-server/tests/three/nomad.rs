//! Three servers that use one Nomad, cut off from each other and not from that.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    fake_nomad::{Fake, Registered},
    wait::eventually,
    world::World,
};

/// How a server says that another part of the cluster drives a space.
const DRIVEN: &str = "cannot be reached from here drives it";
const TEMPLATE: &str =
    "name: box\nplatform: nomad\nimage: knot-conformance-three:1\nvolumes:\n  data: /data\n";

/// A Nomad of the tests.
struct Shared {
    nomad: Fake,
    _folder: TempDir,
    _runtime: Runtime,
}

impl Shared {
    fn start() -> Self {
        let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
        let nomad = runtime.block_on(Fake::start(folder.path(), b"each server has its own agent"));
        Self { nomad, _folder: folder, _runtime: runtime }
    }

    fn settings(&self) -> String {
        let address = self.nomad.address;
        format!("[docker]\nenabled = false\n[nomad]\naddress = \"http://{address}\"\n")
    }

    /// Three servers that use it, and a template for it.
    fn world(&self) -> World {
        let world = World::start_with(&self.settings());
        until_all_see_nomad(&world);
        world.apply(0, TEMPLATE);
        world
    }

    /// What was registered of the space: its generation, and whether it was stopped.
    fn done(&self) -> Vec<(String, bool)> {
        let all = self.nomad.registered().into_iter();
        all.map(|Registered { generation, stop, .. }| (generation, stop)).collect()
    }

    fn serves(&self) -> Vec<String> {
        self.nomad.registered().into_iter().map(|one| one.serves).collect()
    }
}

fn until_all_see_nomad(world: &World) {
    eventually("all have the engine", || {
        let has = |n: usize| {
            let servers = world.get(n, "/servers").ok();
            let has = |one: &Value| one["platforms"].as_array().unwrap().contains(&json!("nomad"));
            servers["servers"].as_array().unwrap().iter().all(has)
        };
        (0..3).all(has).then_some(())
    });
}

/// A space that runs at alpha, and all know it.
fn running(world: &World, name: &str) -> String {
    let wanted = json!({"name": name, "template": "box", "start": true, "server": "alpha"});
    let id = world.post(0, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
    for n in 0..3 {
        world.until_known(n, &id);
        world.until(n, &id, "observed", "running");
    }
    id
}

/// Waits until a server shows a state, and words with it.
#[track_caller]
fn until_said(world: &World, n: usize, id: &str, observed: &str, words: &str) {
    eventually(words, || {
        let shown = world.shown(n, id);
        let says = shown["cause"].as_str().is_some_and(|cause| cause.contains(words));
        (says && shown["observed"] == observed).then_some(())
    });
}

fn steps(all: &[(&str, bool)]) -> Vec<(String, bool)> {
    all.iter().map(|(generation, stop)| ((*generation).to_owned(), *stop)).collect()
}

/// The half without the home stops; the half with it has running, and asks for more of that.
#[test]
fn nomad_tug() {
    let shared = Shared::start();
    let world = shared.world();
    let id = running(&world, "dev");
    world.isolate(0);
    world.stop_space(1, &id).ok();
    for n in [1, 2] {
        until_said(&world, n, &id, "stopped", "another server that uses the same engine");
        assert_eq!(world.shown(n, &id)["home_reachable"], false);
    }
    until_said(&world, 0, &id, "stopped", DRIVEN);
    world.restart_space(0, &id).ok();
    until_said(&world, 0, &id, "stopped", DRIVEN);
    assert_eq!(shared.nomad.running(), 0);
    world.heal();
    world.until_healed();
    for n in 0..3 {
        world.until(n, &id, "desired", "stopped");
        eventually("nobody else drives it", || {
            let shown = world.shown(n, &id);
            (shown["cause"].is_null() && shown["observed"] == "stopped").then_some(())
        });
    }
    // It was registered twice in all, each time for a change of its own.
    assert_eq!(shared.done(), steps(&[("1.1", false), ("1.1", true)]));
    let serves = shared.serves();
    assert!(serves[0] != serves[1] && !serves[0].is_empty(), "{serves:?}");
    world.start_space(2, &id).ok();
    for n in 0..3 {
        let shown = world.until(n, &id, "observed", "running");
        assert_eq!(shown["generation"], "1.2");
    }
    assert_eq!(shared.nomad.running(), 1);
}

/// The half with the home has written the last word, which nobody else has heard.
#[test]
fn nomad_tug_with_the_last_word_at_home() {
    let shared = Shared::start();
    let world = shared.world();
    let id = running(&world, "dev");
    world.isolate(0);
    world.stop_space(1, &id).ok();
    until_said(&world, 0, &id, "stopped", DRIVEN);
    world.stop_space(0, &id).ok();
    world.start_space(0, &id).ok();
    until_said(&world, 0, &id, "stopped", DRIVEN);
    world.heal();
    world.until_healed();
    for n in 0..3 {
        world.until(n, &id, "generation", "1.2");
        let shown = world.until(n, &id, "observed", "running");
        assert_eq!(shown["desired"], "running");
    }
    assert_eq!(shared.done(), steps(&[("1.1", false), ("1.1", true), ("1.2", false)]));
    let serves = shared.serves();
    assert!(serves[2] != serves[0] && serves[2] != serves[1], "{serves:?}");
}

/// The home stops; the half without it has running, and says that it is not heard.
#[test]
fn nomad_tug_where_the_home_stops() {
    let shared = Shared::start();
    let world = shared.world();
    let id = running(&world, "dev");
    world.isolate(0);
    world.stop_space(0, &id).ok();
    world.until(0, &id, "observed", "stopped");
    world.restart_space(2, &id).ok();
    for n in [1, 2] {
        until_said(&world, n, &id, "stopped", DRIVEN);
    }
    assert_eq!(shared.done(), steps(&[("1.1", false), ("1.1", true)]));
    world.heal();
    world.until_healed();
    for n in 0..3 {
        eventually("nobody else drives it", || {
            let shown = world.shown(n, &id);
            (shown["cause"].is_null() && shown["observed"] == "stopped").then_some(())
        });
    }
    assert_eq!(shared.done(), steps(&[("1.1", false), ("1.1", true)]));
}

/// A space is deleted where its home is not heard: what runs is ended, and the home does the rest.
#[test]
fn what_is_deleted_out_of_its_homes_reach_is_ended() {
    let shared = Shared::start();
    let world = shared.world();
    let id = running(&world, "dev");
    world.isolate(0);
    world.delete_space(1, &id);
    eventually("it is ended", || (shared.nomad.running() == 0).then_some(()));
    until_said(&world, 0, &id, "stopped", DRIVEN);
    world.heal();
    eventually("the job is gone", || shared.nomad.job(&id).is_none().then_some(()));
    assert_eq!(shared.done(), steps(&[("1.1", false), ("1.1", true)]));
}

/// A space whose home burned is recovered, and stopped before its new home could do anything.
#[test]
fn what_a_lost_home_left_running_is_ended_by_the_next_one() {
    let shared = Shared::start();
    let mut world = shared.world();
    let id = running(&world, "dev");
    shared.nomad.fault(|faults| faults.lost_races = u32::MAX);
    world.kill(0);
    eventually("the home is missed", || {
        let answer = world.post(1, &format!("/spaces/{id}/recover"), json!({"server": "beta"}));
        answer.status.is_success().then_some(())
    });
    world.stop_space(1, &id).ok();
    world.until(1, &id, "desired", "stopped");
    assert_eq!(shared.nomad.running(), 1);
    shared.nomad.fault(|faults| faults.lost_races = 0);
    eventually("it is ended", || (shared.nomad.running() == 0).then_some(()));
    world.until(1, &id, "observed", "stopped");
    assert_eq!(shared.done(), steps(&[("1.1", false), ("1.1", true)]));
}

/// A space is recovered whose home is alive behind a cut, and sees the same Nomad: it never runs twice.
#[test]
fn a_recovery_within_one_nomad_runs_the_space_once() {
    let shared = Shared::start();
    let world = shared.world();
    let id = running(&world, "dev");
    world.isolate(0);
    world.post(1, &format!("/spaces/{id}/recover"), json!({"server": "beta"})).ok();
    world.until(1, &id, "generation", "2.1");
    world.until(1, &id, "observed", "running");
    assert_eq!(shared.nomad.running(), 1);
    // What the old home is asked for meanwhile it keeps, and touches nothing of a term it does not know.
    until_said(&world, 0, &id, "running", DRIVEN);
    world.stop_space(0, &id).ok();
    until_said(&world, 0, &id, "running", DRIVEN);
    assert_eq!(shared.nomad.running(), 1);
    world.heal();
    world.until_healed();
    for n in 0..3 {
        world.until(n, &id, "home", "beta");
        world.until(n, &id, "desired", "stopped");
        let shown = world.until(n, &id, "observed", "stopped");
        assert_eq!(shown["generation"], "2.1");
    }
    let done = [("1.1", false), ("1.1", true), ("2.1", false), ("2.1", true)];
    assert_eq!(shared.done(), steps(&done));
}

/// What a space keeps is Nomad's: between servers of one Nomad it goes along, and to a server of another
/// one it stays, which is said.
#[test]
fn volumes_follow_a_space_within_one_nomad() {
    let (shared, another) = (Shared::start(), Shared::start());
    let world = World::start_each(|name| match name {
        "gamma" => another.settings(),
        _ => shared.settings(),
    });
    until_all_see_nomad(&world);
    world.apply(0, TEMPLATE);
    let id = running(&world, "dev");
    let volumes = |shared: &Shared| {
        let (_, job) = shared.nomad.job(&id).unwrap();
        job["Meta"]["knot_volumes"].as_str().unwrap().to_owned()
    };
    let volume = volumes(&shared);
    let file = shared.nomad.volume(&volume).unwrap().join("precious");
    std::fs::write(&file, "work").unwrap();
    let move_to =
        |server: &str| world.post(1, &format!("/spaces/{id}/move"), json!({"server": server}));
    let said = move_to("gamma").problem("volumes_stay");
    assert!(said.contains("whose engine is another"), "{said}");
    assert_eq!(move_to("beta").ok()["empty_volumes"], false);
    for n in 0..3 {
        world.until(n, &id, "home", "beta");
        world.until(n, &id, "observed", "running");
    }
    assert_eq!(volumes(&shared), volume);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "work");
    assert_eq!(shared.done().last().unwrap(), &("2.1".to_owned(), false));
}
