//! What goes wrong on each engine: the space fails with the cause, and the next try works once that
//! is mended. And, where servers share an engine, who may change what is on it.

use std::{net::TcpListener, os::unix::fs::symlink, process::Command, sync::Arc, time::Duration};

use knot_core::{
    generation::Generation,
    id::ChangeHash,
    model::{Port, Protocol},
};
use knot_server::spaces::drivers::{
    Archive, Docker, Driver, Error, Instance, Local, Nomad, NomadSettings, Owner, Platform,
    Progress, Run, StartError, State, StopError, Stopped, VolumeError,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    GRACE,
    block::port,
    nomad::{Fake, Release},
    podman,
    wait::BOUND,
    world::{Documents, World, agent_bytes, check, nomad_settings},
};

macro_rules! on {
    ($module:ident, $platform:ident: $($name:ident),* $(,)?) => {
        mod $module {
            $(#[test] fn $name() { super::check(super::Platform::$platform, super::$name); })*
        }
    };
}

on!(docker, Docker: a_missing_image_is_named, a_taken_port_is_named, an_engine_that_is_down_is_named,
    what_an_engine_has_to_be_given_is_given);
on!(podman_service, Podman: a_missing_image_is_named, a_taken_port_is_named,
    an_engine_that_is_down_is_named, what_an_engine_has_to_be_given_is_given);
on!(fake_nomad, Nomad: a_missing_image_is_named, a_taken_port_is_named, a_nomad_without_a_leader_is_named,
    a_claim_that_is_stuck_is_named, a_claim_that_is_let_go_of_late_is_waited_for,
    no_room_and_a_full_disk_are_named, what_is_not_found_may_be_a_404_too,
    a_lost_race_is_run_again_and_not_for_ever, what_serves_unknown_changes_is_left_alone,
    a_stop_names_the_change_that_it_serves, every_server_sees_every_job,
    servers_of_one_nomad_know_it, a_nomad_that_keeps_no_variables_is_used_all_the_same,
    a_job_is_taken_over_by_whoever_holds_what_it_serves, a_server_with_old_data_starts_nothing,
    each_user_may_have_a_namespace, a_job_in_hcl_gets_the_agent, a_job_that_cannot_be_used_is_named,
    an_agent_that_cannot_be_fetched_is_named);

async fn fails(world: &World, run: &Run, code: &str) -> StartError {
    let refused = world.start(run).await.expect_err(code);
    assert_eq!(refused.code(), code, "{refused}");
    assert_eq!(world.list().await, [], "nothing is left: {refused}");
    refused
}

async fn starts(world: &World, run: &Run) -> Instance {
    let started = world.start(run).await.unwrap();
    assert_eq!(started.state, State::Running);
    started
}

async fn a_missing_image_is_named(world: &World) {
    let mut run = world.run(1);
    run.image = "localhost:1/nothing:1".to_owned();
    let refused = fails(world, &run, "image").await;
    assert!(refused.to_string().contains("localhost:1/nothing:1"), "{refused}");
    starts(world, &world.run(2)).await;
}

/// What takes the port is a program of the machine, or on Nomad another space.
async fn a_taken_port_is_named(world: &World) {
    let port = port();
    let taken = TcpListener::bind(("0.0.0.0", port)).unwrap();
    let with_port = |n| {
        let mut run = world.run(n);
        run.launch.servers[0].address = ([192, 0, 2, 1], 1).into();
        run.published = vec![Port { number: 80, protocol: Protocol::Tcp, published: Some(port) }];
        run
    };
    let mut other = with_port(1);
    other.launch.space = Uuid::now_v7();
    other.mounts.clear();
    let other = match world.platform {
        Platform::Nomad => Some(starts(world, &other).await),
        _ => None,
    };
    let refused = world.start(&with_port(1)).await.unwrap_err();
    assert_eq!(refused.code(), "port-taken", "{refused}");
    drop(taken);
    if let Some(other) = other {
        world.driver.stop(&other, GRACE).await.unwrap();
    }
    assert_eq!(world.list().await, []);
    starts(world, &with_port(2)).await;
}

/// A socket that nobody listens on, and then the engine does.
async fn an_engine_that_is_down_is_named(world: &World) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let host = Some(format!("unix://{}", socket.display()));
    let (real, driver) = match world.platform {
        Platform::Podman => (podman::address(), Docker::podman(world.owner, host, agent_bytes())),
        _ => (
            "unix:///var/run/docker.sock".to_owned(),
            Docker::new(world.owner, host, agent_bytes()),
        ),
    };
    let refused = driver.start(&world.run(1), &Progress::unheard()).await.unwrap_err();
    assert_eq!(refused.code(), "engine-unreachable", "{refused}");
    assert!(matches!(driver.list().await, Err(Error::Unreachable { .. })));
    symlink(real.trim_start_matches("unix://"), socket).unwrap();
    let started = driver.start(&world.run(1), &Progress::unheard()).await.unwrap();
    assert_eq!(world.list().await, [started]);
}

async fn what_an_engine_has_to_be_given_is_given(world: &World) {
    let engine = world.engine.as_ref().unwrap();
    let (folder, port) = (tempfile::tempdir().unwrap(), port());
    let mut run = world.run(1);
    run.launch.servers[0].address = ([192, 0, 2, 1], 1).into();
    run.memory = Some(64 << 20);
    run.folders = vec![knot_server::spaces::drivers::Folder {
        source: folder.path().to_str().unwrap().to_owned(),
        path: "/srv/data".to_owned(),
        read_only: true,
    }];
    run.published = vec![Port { number: 80, protocol: Protocol::Http, published: Some(port) }];
    run.capabilities = vec!["NET_ADMIN".to_owned(), "-MKNOD".to_owned()];
    run.devices = vec!["/dev/null:/dev/nothing:r".to_owned()];
    let started = starts(world, &run).await;
    let found = engine.inspect_container(&started.id.0, None).await.unwrap();
    let labels = found.config.as_ref().unwrap().labels.clone().unwrap();
    assert_eq!(labels["knot.space"], world.space.to_string());
    assert_eq!(labels["knot.generation"], "1.1");
    let host = found.host_config.unwrap();
    assert_eq!(host.memory, Some(64 << 20));
    assert_eq!(host.restart_policy.unwrap().name.unwrap().to_string(), "no");
    let published = host.port_bindings.unwrap()["80/tcp"].clone().unwrap();
    assert_eq!(published[0].host_port, Some(port.to_string()));
    let all = |list: Option<Vec<String>>| list.unwrap_or_default().join(" ");
    assert!(all(host.cap_add).contains("NET_ADMIN"));
    assert!(all(host.cap_drop).contains("MKNOD"));
    let devices = host.devices.unwrap_or_default();
    assert!(
        devices.iter().any(|one| one.path_in_container.as_deref() == Some("/dev/nothing"))
            // Podman shows none of what it was given, and has it.
            || world.platform == Platform::Podman
    );
    let mounts = found.mounts.unwrap();
    let data = mounts.iter().find(|one| one.destination.as_deref() == Some("/srv/data")).unwrap();
    assert_eq!(data.rw, Some(false));
    if world.platform == Platform::Podman {
        // Podman makes a folder that is not there.
        return;
    }
    run.folders[0].source = "/nowhere/at/all".to_owned();
    run.launch.generation = Generation { term: 1, n: 2 };
    world.driver.stop(&started, GRACE).await.unwrap();
    fails(world, &run, "mount").await;
}

#[test]
fn local_names_a_full_disk_and_goes_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "knot"]).arg(folder.path());
        mount.status().is_ok_and(|status| status.success())
    };
    if !mount("size=64k") {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "a file system is mounted in CI");
        eprintln!("SKIPPED: only root mounts a small disk");
        return;
    }
    let done = std::panic::catch_unwind(|| {
        check(Platform::Local, async |world| {
            let owner = world.owner;
            let local = Local::new(owner, folder.path().to_owned(), agent_bytes());
            let refused = local.start(&world.run(1), &Progress::unheard()).await.unwrap_err();
            assert_eq!(refused.code(), "disk-full", "{refused}");
            assert_eq!(local.list().await.unwrap(), []);
            assert!(mount("remount,size=64m"));
            let started = local.start(&world.run(1), &Progress::unheard()).await.unwrap();
            assert_eq!(started.state, State::Running);
            local.stop(&started, Duration::ZERO).await.unwrap();
        });
    });
    Command::new("umount").arg(folder.path()).status().unwrap();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn local_refuses_what_needs_an_engine() {
    check(Platform::Local, async |world| {
        let mut run = world.run(1);
        run.mounts[0].volume.kind = Some("csi:disks".to_owned());
        fails(world, &run, "volume").await;
    });
}

#[test]
fn manual_gives_a_line_to_start_the_agent_with_until_it_is_stopped() {
    check(Platform::Manual, async |world| {
        assert_eq!(world.driver.launch_line(world.space).await.unwrap(), None);
        let started = starts(world, &world.run(1)).await;
        let line = world.restarted().launch_line(world.space).await.unwrap().unwrap();
        let printed = Command::new("sh")
            .arg("-c")
            .arg(line.replace("./knot-agent", "printenv KNOT_AGENT_LAUNCH GREETING"))
            .output()
            .unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let (launch, greeting) = printed.trim().split_once('\n').unwrap();
        let launch: knot_core::agent::Launch = serde_json::from_str(launch).unwrap();
        assert_eq!((launch, greeting), (world.run(1).launch, "good morning"));
        let volume = world.volume_spec();
        assert!(matches!(world.driver.ensure_volume(&volume).await, Err(VolumeError::Kind { .. })));
        world.driver.stop(&started, GRACE).await.unwrap();
        assert_eq!(world.driver.launch_line(world.space).await.unwrap(), None);
    });
}

async fn a_nomad_without_a_leader_is_named(world: &World) {
    world.nomad().fault(|faults| faults.down = true);
    let refused = world.start(&world.run(1)).await.unwrap_err();
    assert_eq!(refused.code(), "engine-unreachable", "{refused}");
    assert!(matches!(world.driver.probe().await, Err(Error::Unreachable { .. })));
    world.nomad().fault(|faults| faults.down = false);
    starts(world, &world.run(1)).await;
}

fn with_csi(world: &World, n: u64) -> Run {
    let mut run = world.run(n);
    run.mounts[0].volume.kind = Some("csi:disks".to_owned());
    run.mounts[0].volume.size = Some(1 << 30);
    run
}

async fn a_claim_that_is_stuck_is_named(world: &World) {
    world.nomad().fault(|faults| faults.release = Release::Never);
    let first = starts(world, &with_csi(world, 1)).await;
    world.write_work(&first, "kept").await;
    world.driver.stop(&first, GRACE).await.unwrap();
    fails(world, &with_csi(world, 2), "volume-claimed").await;
    let refused = world.driver.remove_volume(world.volume).await.unwrap_err();
    assert!(matches!(refused, VolumeError::Claimed { .. }), "{refused}");
    world.nomad().release_all();
    let second = starts(world, &with_csi(world, 3)).await;
    assert_eq!(world.read_work(&second).await.as_deref(), Some("kept"));
    world.driver.stop(&second, GRACE).await.unwrap();
    world.nomad().release_all();
    world.driver.remove_volume(world.volume).await.unwrap();
}

async fn a_claim_that_is_let_go_of_late_is_waited_for(world: &World) {
    world.nomad().fault(|faults| faults.release = Release::After(Duration::from_millis(700)));
    let driver = driver_with(world, |settings| settings.release = BOUND);
    let first = starts(world, &with_csi(world, 1)).await;
    driver.stop(&first, GRACE).await.unwrap();
    let second = driver.start(&with_csi(world, 2), &Progress::unheard()).await.unwrap();
    driver.stop(&second, GRACE).await.unwrap();
    driver.remove_volume(world.volume).await.unwrap();
    assert_eq!(world.nomad().volume(&world.volume.to_string()), None);
}

async fn no_room_and_a_full_disk_are_named(world: &World) {
    world.nomad().fault(|faults| faults.no_room = true);
    let refused = fails(world, &world.run(1), "no-room").await;
    assert!(refused.to_string().contains("memory"), "{refused}");
    let full = "failed to create container: no space left on device";
    world.nomad().fault(|faults| {
        faults.no_room = false;
        faults.driver_error = Some(full.to_owned());
    });
    let mut run = world.run(2);
    let started = world.start(&run).await.unwrap_err();
    assert_eq!(started.code(), "disk-full", "{started}");
    world.nomad().fault(|faults| faults.driver_error = None);
    run.launch.generation = Generation { term: 1, n: 3 };
    starts(world, &run).await;
}

async fn what_is_not_found_may_be_a_404_too(world: &World) {
    world.nomad().fault(|faults| faults.not_found_is_500 = false);
    let started = starts(world, &world.run(1)).await;
    world.driver.stop(&started, GRACE).await.unwrap();
    world.driver.forget(world.space).await.unwrap();
    assert_eq!(world.driver.stop(&started, GRACE).await.unwrap(), Stopped::Gone);
    world.driver.remove_volume(world.volume).await.unwrap();
    world.driver.remove_volume(world.volume).await.unwrap();
}

async fn a_lost_race_is_run_again_and_not_for_ever(world: &World) {
    world.nomad().fault(|faults| faults.lost_races = 2);
    let started = starts(world, &world.run(1)).await;
    world.nomad().fault(|faults| faults.lost_races = 2);
    world.driver.stop(&started, GRACE).await.unwrap();
    world.nomad().fault(|faults| faults.lost_races = u32::MAX);
    let refused = world.start(&world.run(2)).await.unwrap_err();
    assert_eq!(refused.code(), "driven-elsewhere", "{refused}");
    world.nomad().fault(|faults| faults.lost_races = 0);
    starts(world, &world.run(2)).await;
}

async fn what_serves_unknown_changes_is_left_alone(world: &World) {
    let change = ChangeHash([7; 32]);
    let mut run = world.run(1);
    run.serves = Some(change);
    let started = starts(world, &run).await;
    let id = world.space.to_string();
    let before = world.nomad().job(&id);
    // As seen by a server in another part of the cluster.
    world.documents.missing.lock().unwrap().insert(change);
    let refused = world.driver.stop(&started, GRACE).await.unwrap_err();
    assert!(matches!(refused, StopError::Driven { .. }), "{refused}");
    run.launch.generation = Generation { term: 2, n: 1 };
    let refused = world.other_home().start(&run, &Progress::unheard()).await.unwrap_err();
    assert_eq!(refused.code(), "driven-elsewhere", "{refused}");
    assert_eq!(world.nomad().job(&id), before);
    // Both parts have joined again.
    world.documents.missing.lock().unwrap().clear();
    assert!(matches!(world.driver.stop(&started, GRACE).await, Ok(Stopped::Ended(_))));
}

async fn a_stop_names_the_change_that_it_serves(world: &World) {
    let (started_for, stopped_for) = (ChangeHash([7; 32]), ChangeHash([8; 32]));
    let serves = || world.nomad().registered().pop().unwrap().serves;
    let mut run = world.run(1);
    run.serves = Some(started_for);
    let started = starts(world, &run).await;
    assert_eq!(serves(), started_for.to_string());
    *world.documents.newest.lock().unwrap() = Some(stopped_for);
    world.driver.stop(&started, GRACE).await.unwrap();
    assert_eq!((serves(), world.nomad().running()), (stopped_for.to_string(), 0));
    // Who has not heard of that starts nothing.
    world.documents.missing.lock().unwrap().insert(stopped_for);
    run.launch.generation.n = 2;
    let refused = world.start(&run).await.unwrap_err();
    assert_eq!(refused.code(), "driven-elsewhere", "{refused}");
}

async fn every_server_sees_every_job(world: &World) {
    let mut run = world.run(1);
    run.serves = Some(ChangeHash([7; 32]));
    let started = starts(world, &run).await;
    let other = world.other_home();
    let seen = async || other.survey().await.unwrap();
    let before = seen().await;
    assert_eq!(before.instances, [], "they are not its own");
    let [job] = &before.jobs[..] else { panic!("{before:?}") };
    assert_eq!((job.instance(), job.serves), (Some(started.clone()), run.serves));
    // Whoever holds what it serves may end it, too.
    assert!(matches!(other.stop(&started, GRACE).await, Ok(Stopped::Ended(_))));
    let after = seen().await;
    let [job_after] = &after.jobs[..] else { panic!("{after:?}") };
    assert_eq!(job_after.state, None);
    assert!(job_after.index > job.index, "{} {}", job_after.index, job.index);
    assert_eq!(world.other_cluster().survey().await.unwrap().jobs, []);
}

async fn servers_of_one_nomad_know_it(world: &World) {
    let other = world.other_home();
    let (one, two) = tokio::join!(world.driver.identity(), other.identity());
    let known = one.unwrap();
    assert!(known.is_some());
    assert_eq!(two.unwrap(), known);
    let folder = tempfile::tempdir().unwrap();
    let another = Fake::start(folder.path(), agent_bytes()).await;
    let settings = nomad_settings(another.address);
    let documents = Arc::<Documents>::default();
    let archive = Archive::pack(agent_bytes()).unwrap();
    let elsewhere = Nomad::new(world.owner, settings, archive, documents).unwrap();
    assert_ne!(elsewhere.identity().await.unwrap(), known);
}

async fn a_nomad_that_keeps_no_variables_is_used_all_the_same(world: &World) {
    world.nomad().fault(|faults| faults.no_variables = true);
    assert_eq!(world.driver.identity().await.unwrap(), None);
    starts(world, &world.run(1)).await;
}

async fn a_job_is_taken_over_by_whoever_holds_what_it_serves(world: &World) {
    let first = starts(world, &world.run(1)).await;
    world.write_work(&first, "kept").await;
    let mut run = world.run(1);
    run.launch.generation = Generation { term: 2, n: 1 };
    let other = world.other_home();
    let second = other.start(&run, &Progress::unheard()).await.unwrap();
    assert_eq!(world.list().await, [], "it is not the old home's any more");
    assert_eq!(other.list().await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(world.processes(&first).await, [0; 0], "one space runs once");
    assert_eq!(world.read_work(&second).await.as_deref(), Some("kept"));
    let refused = world.start(&world.run(2)).await.unwrap_err();
    assert_eq!(refused.code(), "newer-generation", "{refused}");
}

async fn a_server_with_old_data_starts_nothing(world: &World) {
    let fifth = starts(world, &world.run(5)).await;
    world.driver.stop(&fifth, GRACE).await.unwrap();
    // Nothing runs, and the job says still which generation there was.
    let refused = world.start(&world.run(4)).await.unwrap_err();
    assert_eq!(refused.code(), "newer-generation", "{refused}");
}

fn driver_with(world: &World, change: impl FnOnce(&mut NomadSettings)) -> Nomad {
    let mut settings = nomad_settings(world.nomad().address);
    change(&mut settings);
    let documents = Arc::<Documents>::default();
    Nomad::new(world.owner, settings, Archive::pack(agent_bytes()).unwrap(), documents).unwrap()
}

async fn each_user_may_have_a_namespace(world: &World) {
    let driver = driver_with(world, |settings| settings.namespace_per_user = true);
    let user = Uuid::now_v7();
    let mut run = with_csi(world, 1);
    run.user = Some(user);
    driver.ensure_volume(&run.mounts[0].volume).await.unwrap();
    let started = driver.start(&run, &Progress::unheard()).await.unwrap();
    assert!(world.nomad().namespaces().contains(&format!("knot-{user}")));
    let (namespace, _) = world.nomad().job(&world.space.to_string()).unwrap();
    assert_eq!(namespace, format!("knot-{user}"));
    assert_eq!(driver.list().await.unwrap(), std::slice::from_ref(&started));
    driver.stop(&started, GRACE).await.unwrap();
    driver.forget(world.space).await.unwrap();
    driver.remove_volume(world.volume).await.unwrap();
    assert_eq!(world.nomad().job(&world.space.to_string()), None);
}

async fn a_job_in_hcl_gets_the_agent(world: &World) {
    let hcl = "job \"mine\" { … }";
    world.nomad().knows_hcl(
        hcl,
        json!({
            "ID": "mine", "Name": "mine", "Type": "service", "Datacenters": ["dc1"],
            "TaskGroups": [{
                "Name": "web", "Count": 3,
                "Tasks": [{
                    "Name": "site", "Driver": "raw_exec", "Env": { "OWN": "kept" },
                    "Config": { "command": "sleep", "args": ["1000"] },
                }],
            }],
        }),
    );
    let mut run = world.run(1);
    run.job = Some(hcl.to_owned());
    let started = starts(world, &run).await;
    let environment = world.environment(&started).await;
    assert_eq!(environment["OWN"], "kept");
    assert_eq!(environment["GREETING"], "good morning");
    assert_eq!(environment["KNOT_AGENT_COMMAND"], r#"["sleep","1000"]"#);
    let (_, job) = world.nomad().job(&world.space.to_string()).unwrap();
    assert_eq!(job["TaskGroups"][0]["Count"], 1);
    assert_eq!(job["TaskGroups"][0]["RestartPolicy"]["Attempts"], 0);
    assert_eq!(job["Datacenters"], json!(["dc1"]));
    assert_eq!(job["Meta"]["knot_space"], world.space.to_string());
    world.write_work(&started, "mounted").await;
    assert_eq!(world.read_work(&started).await.as_deref(), Some("mounted"));
}

async fn a_job_that_cannot_be_used_is_named(world: &World) {
    let mut run = world.run(1);
    run.job = Some("nonsense".to_owned());
    let refused = fails(world, &run, "job").await;
    assert!(refused.to_string().contains("input.hcl:1"), "Nomad's own words: {refused}");
    let job = json!({ "TaskGroups": [{ "Tasks": [{ "Name": "vm", "Driver": "qemu" }] }] });
    world.nomad().knows_hcl("a machine", job);
    run.job = Some("a machine".to_owned());
    let refused = fails(world, &run, "job").await;
    assert!(refused.to_string().contains("qemu"), "{refused}");
}

async fn an_agent_that_cannot_be_fetched_is_named(world: &World) {
    let driver =
        driver_with(world, |settings| settings.agent_url = "http://127.0.0.1:1".to_owned());
    let refused = driver.start(&world.run(1), &Progress::unheard()).await.unwrap_err();
    assert_eq!(refused.code(), "agent", "{refused}");
    assert!(refused.to_string().contains("nomad.agent_url"), "{refused}");
    starts(world, &world.run(2)).await;
}

#[tokio::test]
async fn a_nomad_that_is_not_there_is_named_so() {
    let owner = Owner { cluster: Uuid::nil(), home: Uuid::nil() };
    let documents = Arc::<Documents>::default();
    let settings = nomad_settings(([127, 0, 0, 1], 1).into());
    let driver = Nomad::new(owner, settings, Archive::pack(b"").unwrap(), documents).unwrap();
    let refused = driver.list().await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
}
