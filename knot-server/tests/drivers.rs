//! What every driver must do, run against each: real processes, and a real Docker engine where one
//! answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/block.rs"]
mod block;
#[path = "drivers/faults.rs"]
mod faults;
#[path = "drivers/fetch.rs"]
mod fetch;
#[path = "drivers/nomad.rs"]
mod nomad;
#[path = "drivers/podman.rs"]
mod podman;
#[path = "drivers/registry.rs"]
mod registry;
#[path = "support/wait.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod wait;
#[path = "drivers/world.rs"]
mod world;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use knot_core::generation::Generation;
use knot_server::spaces::drivers::{
    Docker, Driver, Ended, Error, ForgetError, Instance, InstanceId, Labels, MilliCpus, Platform,
    Progress, Run, StartError, State, StopError, Stopped, VolumeError,
};
use uuid::Uuid;

use self::{
    wait::BOUND,
    world::{GRACE, World, check},
};

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[test] fn $name() { super::check(super::Platform::Local, super::$name); })*
        }
        mod docker {
            $(#[test] fn $name() { super::check(super::Platform::Docker, super::$name); })*
        }
        mod podman_service {
            $(#[test] fn $name() { super::check(super::Platform::Podman, super::$name); })*
        }
        mod fake_nomad {
            $(#[test] fn $name() { super::check(super::Platform::Nomad, super::$name); })*
        }
    };
}

conformance!(
    an_engine_says_who_it_is,
    a_space_is_started_listed_and_stopped,
    starting_twice_is_starting_once,
    two_starts_at_once_make_one_instance,
    stopping_twice_is_stopping_once,
    a_crash_is_seen_with_its_status,
    a_generation_that_ended_is_not_run_again,
    other_generations_are_left_alone,
    another_revision_of_a_running_generation_is_refused,
    a_server_killed_at_any_step_is_resumed,
    a_server_killed_at_any_step_leaves_what_a_stop_takes_away,
    a_start_that_is_dropped_at_any_step_is_finished_by_the_next,
    a_space_outlives_its_server,
    volumes_outlive_stops_and_go_when_told,
    a_volume_in_use_is_kept,
    another_servers_instances_and_volumes_are_left_alone,
    the_agent_gets_its_settings_and_what_it_writes_is_kept,
    a_stop_waits_no_longer_than_the_grace,
    what_can_run_nowhere_is_refused_before_anything_is_touched,
    a_space_is_forgotten_once_it_is_stopped,
);

/// Of the suite, what means something where a person starts the agent: there is no process to be
/// seen, and no volume.
macro_rules! conformance_by_hand {
    ($($name:ident),* $(,)?) => {
        mod manual {
            $(#[test] fn $name() { super::check(super::Platform::Manual, super::$name); })*
        }
    };
}

conformance_by_hand!(
    an_engine_says_who_it_is,
    a_space_is_started_listed_and_stopped,
    starting_twice_is_starting_once,
    two_starts_at_once_make_one_instance,
    stopping_twice_is_stopping_once,
    other_generations_are_left_alone,
    another_revision_of_a_running_generation_is_refused,
    a_server_killed_at_any_step_is_resumed,
    a_server_killed_at_any_step_leaves_what_a_stop_takes_away,
    a_start_that_is_dropped_at_any_step_is_finished_by_the_next,
    a_space_is_forgotten_once_it_is_stopped,
);

async fn an_engine_says_who_it_is(world: &World) {
    let engine = world.driver.probe().await.unwrap();
    assert!(!engine.name.is_empty() && !engine.version.is_empty());
    assert_eq!(world.driver.platform(), world.platform);
}

async fn a_space_is_started_listed_and_stopped(world: &World) {
    assert_eq!(world.list().await, []);
    let started = world.start(&world.run(1)).await.unwrap();
    let labels = Labels {
        owner: world.owner,
        space: world.space,
        generation: Generation { term: 1, n: 1 },
        revision: "first".to_owned(),
    };
    assert_eq!((&started.labels, &started.state), (&labels, &State::Running));
    assert_eq!(world.list().await, std::slice::from_ref(&started));
    assert!(matches!(stop(world, &started).await, Stopped::Ended(_)));
    assert_eq!(world.list().await, []);
    let next = world.start(&world.run(2)).await.unwrap();
    assert_eq!(next.labels.generation, Generation { term: 1, n: 2 });
}

async fn starting_twice_is_starting_once(world: &World) {
    let first = world.start(&world.run(1)).await.unwrap();
    let before = world.running(&first).await;
    let second = world.start(&world.run(1)).await.unwrap();
    assert_eq!((&second, world.running(&second).await), (&first, before));
    assert_eq!(world.list().await, [first]);
}

async fn two_starts_at_once_make_one_instance(world: &World) {
    let (run, unheard) = (world.run(1), Progress::unheard());
    let (first, second) = (world.driver.start(&run, &unheard), world.driver.start(&run, &unheard));
    let (one, other) = tokio::join!(first, second);
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(world.list().await.len(), 1);
}

async fn stopping_twice_is_stopping_once(world: &World) {
    let started = world.start(&world.run(1)).await.unwrap();
    assert!(matches!(stop(world, &started).await, Stopped::Ended(_)));
    assert_eq!(stop(world, &started).await, Stopped::Gone);
}

async fn a_crash_is_seen_with_its_status(world: &World) {
    let started = world.start(&world.run(1)).await.unwrap();
    world.kill_agent(&started).await;
    let killed = Ended { status: Some(137), ..Ended::default() };
    let found = until_ended(world).await;
    assert_eq!(found, Instance { state: State::Ended(killed.clone()), ..started.clone() });
    // What a server saw, the next one knows.
    assert_eq!(world.restarted().list().await.unwrap(), [found]);
    assert_eq!(stop(world, &started).await, Stopped::Ended(killed));
    assert_eq!(world.list().await, []);
}

async fn a_generation_that_ended_is_not_run_again(world: &World) {
    let started = world.start(&world.run(1)).await.unwrap();
    world.kill_agent(&started).await;
    until_ended(world).await;
    let refused = world.start(&world.run(1)).await.unwrap_err();
    assert!(
        matches!(&refused, StartError::Ended { ended } if ended.status == Some(137)),
        "{refused}"
    );
    let refused = world.start(&world.run(2)).await.unwrap_err();
    assert!(matches!(&refused, StartError::Older(older) if older.id == started.id), "{refused}");
}

async fn other_generations_are_left_alone(world: &World) {
    let started = world.start(&world.run(5)).await.unwrap();
    let before = world.running(&started).await;
    let later = world.start(&world.run(6)).await.unwrap_err();
    assert!(matches!(&later, StartError::Older(found) if **found == started), "{later}");
    let earlier = world.start(&world.run(4)).await.unwrap_err();
    assert!(matches!(&earlier, StartError::Newer(found) if **found == started), "{earlier}");
    assert_eq!(world.running(&started).await, before);
}

async fn another_revision_of_a_running_generation_is_refused(world: &World) {
    let mut run = world.run(1);
    world.start(&run).await.unwrap();
    run.revision = "second".to_owned();
    let refused = world.start(&run).await.unwrap_err();
    assert_eq!(refused.code(), "revision", "{refused}");
}

async fn a_server_killed_at_any_step_is_resumed(world: &World) {
    for step in 0.. {
        let n = step as u64 + 1;
        let killed_at = world.start_in_a_server_killed_at(n, step);
        let driver = world.restarted();
        let found = driver.start(&world.run(n), &Progress::unheard()).await;
        let found = found.unwrap_or_else(|error| panic!("killed at {killed_at:?}: {error}"));
        assert_eq!(found.state, State::Running, "killed at {killed_at:?}");
        assert_eq!(
            driver.list().await.unwrap(),
            std::slice::from_ref(&found),
            "killed at {killed_at:?}"
        );
        if world.platform != Platform::Manual {
            assert_eq!(world.running(&found).await.len(), 1, "killed at {killed_at:?}");
        }
        driver.stop(&found, Duration::ZERO).await.unwrap();
        if killed_at.is_none() {
            assert!(step > 3 || world.platform == Platform::Manual, "a start reports its steps");
            break;
        }
    }
}

async fn a_server_killed_at_any_step_leaves_what_a_stop_takes_away(world: &World) {
    for step in 0.. {
        let killed_at = world.start_in_a_server_killed_at(step as u64 + 1, step);
        let driver = world.restarted();
        for found in driver.list().await.unwrap() {
            driver.stop(&found, Duration::ZERO).await.unwrap();
            if world.platform == Platform::Local {
                assert_eq!(world.processes(&found).await, [0; 0], "killed at {killed_at:?}");
            }
        }
        assert_eq!(driver.list().await.unwrap(), [], "killed at {killed_at:?}");
        driver.forget(world.space).await.unwrap();
        driver.remove_volume(world.volume).await.unwrap();
        if killed_at.is_none() {
            break;
        }
    }
}

async fn a_start_that_is_dropped_at_any_step_is_finished_by_the_next(world: &World) {
    for step in 0.. {
        let n = step as u64 + 1;
        let run = world.run(n);
        let dropped = start_dropped_at(world, &run, step).await;
        let found = world.start(&run).await.unwrap_or_else(|error| panic!("at {step}: {error}"));
        assert_eq!(found.state, State::Running, "dropped at {step}");
        assert_eq!(world.list().await, std::slice::from_ref(&found), "dropped at {step}");
        stop(world, &found).await;
        if !dropped {
            break;
        }
    }
}

/// Begins a start, and drops it when it reports its line number `step`; whether it got that far.
async fn start_dropped_at(world: &World, run: &Run, step: usize) -> bool {
    let seen = Arc::new(Mutex::new(0));
    let reached = Arc::new(tokio::sync::Notify::new());
    let tell = Arc::clone(&reached);
    let progress = Progress::new(move |_| {
        let mut seen = seen.lock().unwrap();
        if *seen == step {
            tell.notify_one();
        }
        *seen += 1;
    });
    tokio::select! {
        biased;
        () = reached.notified() => true,
        started = world.driver.start(run, &progress) => {
            started.unwrap();
            false
        }
    }
}

async fn a_space_outlives_its_server(world: &World) {
    assert_eq!(world.start_in_a_server_killed_at(1, usize::MAX), None);
    let found = world.list().await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].state, State::Running);
    let before = world.running(&found[0]).await;
    assert_eq!(world.start(&world.run(1)).await.unwrap(), found[0]);
    assert_eq!(world.running(&found[0]).await, before);
    world.kill_agent(&found[0]).await;
    until_ended(world).await;
    assert!(matches!(stop(world, &found[0]).await, Stopped::Ended(_)));
}

async fn volumes_outlive_stops_and_go_when_told(world: &World) {
    let driver = &world.driver;
    driver.ensure_volume(&world.volume_spec()).await.unwrap();
    driver.ensure_volume(&world.volume_spec()).await.unwrap();
    let first = world.start(&world.run(1)).await.unwrap();
    world.write_work(&first, "kept").await;
    stop(world, &first).await;
    let second = world.start(&world.run(2)).await.unwrap();
    assert_eq!(world.read_work(&second).await.as_deref(), Some("kept"));
    stop(world, &second).await;
    driver.remove_volume(world.volume).await.unwrap();
    driver.remove_volume(world.volume).await.unwrap();
    let third = world.start(&world.run(3)).await.unwrap();
    assert_eq!(world.read_work(&third).await, None);
}

async fn a_volume_in_use_is_kept(world: &World) {
    let started = world.start(&world.run(1)).await.unwrap();
    world.write_work(&started, "kept").await;
    for ended in [false, true] {
        if ended {
            world.kill_agent(&started).await;
            until_ended(world).await;
        }
        let refused = world.driver.remove_volume(world.volume).await.unwrap_err();
        assert!(matches!(refused, VolumeError::InUse { .. }), "{refused}");
    }
    stop(world, &started).await;
    world.driver.remove_volume(world.volume).await.unwrap();
}

async fn another_servers_instances_and_volumes_are_left_alone(world: &World) {
    let started = world.start(&world.run(1)).await.unwrap();
    for stranger in [world.other_home(), world.other_cluster()] {
        assert_eq!(stranger.list().await.unwrap(), []);
        // It takes the instance for its own.
        let mut mistaken = started.clone();
        mistaken.labels.owner.home = Uuid::from_u128(7);
        match stranger.stop(&mistaken, GRACE).await {
            Err(StopError::Foreign { .. }) => {}
            // Another cluster's jobs have other names.
            Ok(Stopped::Gone) if world.platform == Platform::Nomad => {}
            other => panic!("{other:?}"),
        }
    }
    if world.platform == Platform::Nomad {
        // One space is one job there: see the tests of who may change it.
        assert_eq!(world.list().await, [started]);
        return;
    }
    let mut run = world.run(1);
    run.launch.generation = Generation { term: 2, n: 1 };
    let refused = world.other_home().start(&run, &Progress::unheard()).await.unwrap_err();
    assert!(matches!(&refused, StartError::Elsewhere(found) if **found == started), "{refused}");
    assert_eq!(world.list().await, std::slice::from_ref(&started));
    stop(world, &started).await;
    // The data belongs to the space, and follows it to another server on the same engine.
    let ids = async || {
        let found = world.driver.list_volumes().await.unwrap().unwrap_or_default();
        found.iter().filter(|found| found.id == world.volume).count()
    };
    assert_eq!(ids().await, 1);
    world.other_home().ensure_volume(&world.volume_spec()).await.unwrap();
    world.other_home().remove_volume(world.volume).await.unwrap();
    assert_eq!(ids().await, 0);
}

async fn the_agent_gets_its_settings_and_what_it_writes_is_kept(world: &World) {
    let run = world.run(1);
    let started = world.start(&run).await.unwrap();
    let environment = world.environment(&started).await;
    assert_eq!(environment["GREETING"], "good morning");
    assert_eq!(environment["KNOT_AGENT_COMMAND"], "[]");
    let launch =
        serde_json::from_str::<knot_core::agent::Launch>(&environment["KNOT_AGENT_LAUNCH"]);
    assert_eq!(launch.unwrap(), run.launch);
    assert!(!environment.contains_key("CARGO_MANIFEST_DIR"), "the server's own stay its own");
    let log = until(async || {
        let log = world.driver.logs(&started, 1000).await.unwrap();
        (!log.is_empty()).then_some(log)
    })
    .await;
    let end = world.driver.logs(&started, 4).await.unwrap();
    assert_eq!(end, log[log.len() - 4..]);
    stop(world, &started).await;
    assert_eq!(world.driver.logs(&started, 1000).await.unwrap(), b"");
}

async fn a_stop_waits_no_longer_than_the_grace(world: &World) {
    let mut run = world.run(1);
    if world.platform == Platform::Local {
        run.command = vec!["sleep".to_owned(), "1000".to_owned()];
    }
    let started = world.start(&run).await.unwrap();
    if world.platform == Platform::Local {
        until(async || (world.processes(&started).await.len() == 2).then_some(())).await;
    }
    // Nothing of it ends by being asked to: that the stop comes to its end is the grace.
    let stopped = tokio::time::timeout(BOUND, stop(world, &started)).await.expect("in time");
    assert!(matches!(stopped, Stopped::Ended(_)));
    if world.platform == Platform::Local {
        assert_eq!(world.processes(&started).await, [0; 0], "all of it has ended");
    }
}

async fn what_can_run_nowhere_is_refused_before_anything_is_touched(world: &World) {
    let mut run = world.run(1);
    run.memory = Some(1);
    assert_eq!(world.start(&run).await.unwrap_err().code(), "invalid");
    let mut run = world.run(1);
    run.mounts[0].path = "/../etc".to_owned();
    assert_eq!(world.start(&run).await.unwrap_err().code(), "invalid");
    assert_eq!(world.list().await, []);
}

async fn a_space_is_forgotten_once_it_is_stopped(world: &World) {
    let started = world.start(&world.run(1)).await.unwrap();
    let refused = world.driver.forget(world.space).await.unwrap_err();
    assert!(matches!(refused, ForgetError::InUse(_)), "{refused}");
    stop(world, &started).await;
    world.driver.forget(world.space).await.unwrap();
    world.driver.forget(world.space).await.unwrap();
    assert!(!world.home_folder().exists());
}

#[test]
fn docker_takes_up_what_it_still_creates_for_a_server_that_was_killed() {
    check(Platform::Docker, async |world| {
        let (run, unheard, server) = (world.run(1), Progress::unheard(), world.restarted());
        let (one, other) =
            tokio::join!(world.driver.start(&run, &unheard), server.start(&run, &unheard));
        assert_eq!(one.unwrap(), other.unwrap());
        assert_eq!(world.list().await.len(), 1);
    });
}

#[test]
fn docker_tells_the_causes_of_a_failed_start_apart() {
    check(Platform::Docker, async |world| {
        let with = |change: &dyn Fn(&mut Run)| {
            let mut run = world.run(1);
            change(&mut run);
            run
        };
        for (run, code) in [
            (with(&|run| run.image = "localhost:1/nothing:1".to_owned()), "image"),
            (with(&|run| run.image = "Not A Name".to_owned()), "image"),
            // The image has a tag, and a name without one means another.
            (with(&|run| run.image = run.image.replace(":1", "")), "image"),
            (with(&|run| run.cpus = Some(MilliCpus(10_000_000))), "limits"),
            (with(&|run| run.network = Some("bridge".to_owned())), "network"),
            (with(&|run| run.network = Some("none".to_owned())), "network"),
            (
                with(&|run| {
                    run.launch.servers[0].address = ([192, 0, 2, 1], 1).into();
                    run.network = Some("knot-no-such-network".to_owned());
                }),
                "network",
            ),
        ] {
            let refused = world.start(&run).await.unwrap_err();
            assert_eq!(refused.code(), code, "{run:?}: {refused}");
            assert_eq!(world.list().await, [], "nothing is left of {run:?}");
        }
    });
}

#[test]
fn docker_applies_limits_labels_network_and_no_restart_policy() {
    check(Platform::Docker, async |world| {
        let engine = world.engine.as_ref().unwrap();
        let mut run = world.run(1);
        run.memory = Some(64 << 20);
        run.cpus = Some(MilliCpus(500));
        let started = world.start(&run).await.unwrap();
        let found = engine.inspect_container(&started.id.0, None).await.unwrap();
        let (config, host) = (found.config.unwrap(), found.host_config.unwrap());
        assert_eq!((host.memory, host.nano_cpus), (Some(64 << 20), Some(500_000_000)));
        assert_eq!(host.network_mode.as_deref(), Some("host"), "the servers are on loopback");
        assert_eq!(host.restart_policy.unwrap().name.unwrap().to_string(), "no");
        assert_eq!(config.hostname.as_deref(), Some("data-lab"));
        let labels = config.labels.unwrap();
        assert_eq!(labels["knot.cluster"], world.owner.cluster.to_string());
        assert_eq!(labels["knot.home"], world.owner.home.to_string());
        assert_eq!(labels["knot.space"], world.space.to_string());
        assert_eq!(labels["knot.generation"], "1.1");
        assert_eq!(labels["knot.revision"], "first");
        assert!(found.name.unwrap().starts_with("/knot-data-lab-"));
        stop(world, &started).await;

        let mut run = world.run(2);
        run.launch.servers[0].address = ([192, 0, 2, 1], 1).into();
        let started = world.start(&run).await.unwrap();
        let found = engine.inspect_container(&started.id.0, None).await.unwrap();
        assert_eq!(found.host_config.unwrap().network_mode.as_deref(), Some("default"));
    });
}

/// A start that was dropped goes on where it may block: nobody may take it for gone before it is.
#[test]
fn what_a_dropped_start_leaves_is_listed_once_it_has_settled() {
    check(Platform::Local, async |world| {
        for step in 0.. {
            let run = world.run(step as u64 + 1);
            let dropped = start_dropped_at(world, &run, step).await;
            world.driver.settled(world.space).await;
            let left = world.list().await;
            for found in &left {
                stop(world, found).await;
            }
            let (id, state) = (InstanceId(String::new()), State::Running);
            let any = Instance { id, labels: run.labels(world.owner), state };
            assert_eq!(world.processes(&any).await, [0; 0], "dropped at {step}: {left:?}");
            if !dropped {
                break;
            }
        }
    });
}

#[test]
fn docker_leaves_alone_what_has_the_name_and_not_the_labels() {
    check(Platform::Docker, async |world| {
        let engine = world.engine.as_ref().unwrap();
        let started = world.start(&world.run(1)).await.unwrap();
        let details = engine.inspect_container(&started.id.0, None).await.unwrap();
        let name = details.name.unwrap().trim_start_matches('/').to_owned();
        stop(world, &started).await;
        let options =
            bollard::query_parameters::CreateContainerOptionsBuilder::new().name(&name).build();
        let body = bollard::models::ContainerCreateBody {
            image: Some(world.run(1).image),
            cmd: Some(vec!["/x".to_owned()]),
            ..Default::default()
        };
        let stranger = engine.create_container(Some(options), body).await.unwrap().id;
        let refused = world.start(&world.run(1)).await.unwrap_err();
        let left = engine.inspect_container(&stranger, None).await;
        engine.remove_container(&stranger, None).await.unwrap();
        assert!(
            matches!(&refused, StartError::NameTaken { name: taken } if *taken == name),
            "{refused}"
        );
        assert!(left.is_ok());
    });
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_named_so() {
    let owner = knot_server::spaces::drivers::Owner { cluster: Uuid::nil(), home: Uuid::nil() };
    for host in ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"] {
        let driver = Docker::new(owner, Some(host.to_owned()), b"");
        let refused = driver.list().await.unwrap_err();
        assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
    }
}

/// See [`world::killed_server`].
#[test]
fn killed_server() {
    world::killed_server();
}

async fn stop(world: &World, instance: &Instance) -> Stopped {
    world.driver.stop(instance, GRACE).await.unwrap()
}

async fn until_ended(world: &World) -> Instance {
    until(async || {
        let found = world.list().await.pop()?;
        matches!(found.state, State::Ended(_)).then_some(found)
    })
    .await
}

/// Asks until there is an answer, with a bound.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, asking).await.expect("in time")
}
