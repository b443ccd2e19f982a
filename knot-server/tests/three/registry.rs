//! Spaces whose image is in a registry, through real servers: what it is like to wait for one, what goes
//! wrong, and that it works once that is mended.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::json;
use uuid::Uuid;

use crate::{
    podman,
    registry::{self, PASSWORD, USER},
    wait::eventually,
    world::World,
};

fn docker(arguments: &[&str], input: &[u8]) {
    let mut docker = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    docker.stdin.take().unwrap().write_all(input).unwrap();
    assert!(docker.wait().unwrap().success(), "docker {arguments:?}");
}

/// Puts an image into the registry, and leaves nothing of it on this machine. Its name has no tag.
fn publish() -> String {
    let port = registry::address().port();
    let name = format!("localhost:{port}/three/{}", Uuid::new_v4().simple());
    let image = format!("{name}:1");
    let settings = tempfile::tempdir().unwrap();
    let config = settings.path().to_str().unwrap();
    let to = format!("localhost:{port}");
    docker(&["import", "-", &image], &registry::layer());
    let login = ["--config", config, "login", "--username", USER, "--password-stdin", &to];
    docker(&login, PASSWORD.as_bytes());
    docker(&["--config", config, "push", "--quiet", &image], &[]);
    docker(&["rmi", &image], &[]);
    name
}

fn template(platform: &str, image: &str, password: &str) -> String {
    format!(
        "name: box\nplatform: {platform}\nimage: {image}\n\
         registry: {{user: {USER}, password: {password}}}\n"
    )
}

/// A space is made of an image in a registry, on a server that has nothing of it.
fn images_are_fetched(platform: &str) {
    let info = Command::new("docker").arg("info").output();
    if !info.is_ok_and(|info| info.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "a Docker engine is missing: CI must have it");
        println!("SKIPPED: a Docker engine is missing");
        return;
    }
    if !registry::start() {
        return;
    }
    podman::start();
    let socket = podman::address();
    let world = World::start_with(&format!("[podman]\nhost = \"{socket}\"\n"));
    eventually("the engine answers", || {
        let servers = world.get(0, "/servers").ok();
        let of_alpha =
            servers["servers"].as_array().unwrap().iter().find(|one| one["name"] == "alpha");
        of_alpha.unwrap()["platforms"].as_array().unwrap().contains(&json!(platform)).then_some(())
    });
    let name = publish();
    let (first, missing) = (format!("{name}:1"), format!("{name}:2"));

    world.apply(0, &template(platform, &first, "close sesame"));
    let wanted = json!({"name": "dev", "template": "box", "start": true, "server": "alpha"});
    let id = world.post(0, "/spaces", wanted).ok()["id"].as_str().unwrap().to_owned();
    let failed = world.until(0, &id, "observed", "failed")["cause"].as_str().unwrap().to_owned();
    assert!(failed.contains(&first) && failed.contains("check its name"), "{failed}");
    let words = ["unauthorized", "authentication required", "no basic auth credentials"];
    assert!(words.iter().any(|word| failed.contains(word)), "{failed}");

    world.apply(0, &template(platform, &missing, PASSWORD));
    world.start_space(0, &id).ok();
    eventually("the other image is asked for", || {
        let shown = world.shown(0, &id);
        let cause = shown["cause"].as_str()?;
        let unknown = cause.contains("not found") || cause.contains("manifest unknown");
        (shown["observed"] == "failed" && cause.contains(&missing) && unknown).then_some(())
    });

    world.apply(0, &template(platform, &first, PASSWORD));
    world.start_space(0, &id).ok();
    world.until(0, &id, "observed", "running");
    // Through another server, which asks the home.
    world.until_known(1, &id);
    let log = world.text(1, &format!("/spaces/{id}/logs?kind=provision"));
    for line in [
        format!("fetching the image {first}"),
        "0 of 1 layers".to_owned(),
        // Podman counts the image's settings, too.
        (if platform == "podman" { "2 of 2 layers" } else { "1 of 1 layers" }).to_owned(),
        format!("fetched the image {first}"),
        "the container is started".to_owned(),
    ] {
        assert!(log.contains(&line), "{line} is not in {log}");
    }
    println!("{platform}:\n{log}");
    world.delete_space(0, &id);
    eventually("it is gone", || {
        let answer = world.try_ask(0, reqwest::Method::GET, &format!("/spaces/{id}"), None)?;
        (answer.status == reqwest::StatusCode::NOT_FOUND).then_some(())
    });
    if platform == "docker" {
        docker(&["rmi", &first], &[]);
    }
}

#[test]
fn docker_fetches_a_spaces_image() {
    images_are_fetched("docker");
}

#[test]
fn podman_fetches_a_spaces_image() {
    images_are_fetched("podman");
}
