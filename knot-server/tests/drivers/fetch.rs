//! Images that are fetched from a registry, by each engine that has images.

use std::sync::{Arc, Mutex};

use bollard::{
    auth::DockerCredentials,
    query_parameters::{PushImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder},
};
use futures_util::StreamExt;
use knot_server::spaces::drivers::{Instance, Platform, Progress, RegistryAuth, Run, StartError};

use crate::{
    GRACE,
    registry::{PASSWORD, USER, address, layer, start},
    world::{World, check, import},
};

/// The image of this world.
fn image(world: &World) -> String {
    format!("localhost:{}/{}/{}:1", address().port(), world.platform, world.owner.cluster)
}

/// Puts the image into the registry, and leaves nothing of it on the engine.
async fn publish(world: &World) -> String {
    let (engine, image) = (world.engine.as_ref().unwrap(), image(world));
    let local = format!("knot-published-{}:1", world.owner.cluster);
    let local =
        if world.platform == Platform::Podman { format!("localhost/{local}") } else { local };
    import(engine, world.platform, &local, layer()).await;
    let (repo, tag) = image.rsplit_once(':').unwrap();
    let tagged = TagImageOptionsBuilder::new().repo(repo).tag(tag).build();
    engine.tag_image(&local, Some(tagged)).await.unwrap();
    let options = PushImageOptionsBuilder::new().tag(tag).build();
    let credentials = DockerCredentials {
        username: Some(USER.to_owned()),
        password: Some(PASSWORD.to_owned()),
        ..DockerCredentials::default()
    };
    let mut steps = Box::pin(engine.push_image(repo, Some(options), Some(credentials)));
    while let Some(step) = steps.next().await {
        step.unwrap();
    }
    remove(world, &image).await;
    remove(world, &local).await;
    assert!(engine.inspect_image(&image).await.is_err(), "it has to be fetched");
    image
}

async fn remove(world: &World, image: &str) {
    let engine = world.engine.as_ref().unwrap();
    engine.remove_image(image, None::<RemoveImageOptions>, None).await.unwrap();
}

fn run_of(world: &World, n: u64, image: &str, password: &str) -> Run {
    let (user, password) = (USER.to_owned(), password.to_owned());
    let registry = Some(RegistryAuth { user, password });
    Run { image: image.to_owned(), registry, ..world.run(n) }
}

/// Starts a run, and gives what it said on the way.
async fn start_heard(world: &World, run: &Run) -> (Result<Instance, StartError>, Vec<String>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    let progress = Progress::new(move |line| heard.lock().unwrap().push(line.to_owned()));
    let started = world.driver.start(run, &progress).await;
    let lines = lines.lock().unwrap().clone();
    (started, lines)
}

/// A start that must fail for its image, with these words.
async fn fails(world: &World, run: &Run, words: &[&str]) {
    let (refused, _) = start_heard(world, run).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "image", "{refused}");
    let said = refused.to_string().to_lowercase();
    assert!(said.contains(&run.image.to_lowercase()), "{said}");
    assert!(words.iter().any(|word| said.contains(word)), "{said}");
    assert_eq!(world.list().await, [], "nothing is left");
}

async fn an_image_is_fetched_from_a_registry(world: &World) {
    let image = publish(world).await;
    let unauthorized = ["unauthorized", "authentication required", "no basic auth credentials"];
    fails(world, &run_of(world, 1, &image, "close sesame"), &unauthorized).await;
    let without = Run { registry: None, ..run_of(world, 2, &image, "") };
    fails(world, &without, &unauthorized).await;
    let missing = format!("{}:2", image.rsplit_once(':').unwrap().0);
    let unknown = ["not found", "manifest unknown"];
    fails(world, &run_of(world, 3, &missing, PASSWORD), &unknown).await;

    let (started, lines) = start_heard(world, &run_of(world, 4, &image, PASSWORD)).await;
    let started = started.unwrap();
    assert_eq!(lines[0], format!("fetching the image {image}"));
    let end = lines.iter().position(|line| *line == format!("fetched the image {image}"));
    let end = end.unwrap_or_else(|| panic!("{lines:?}"));
    assert!(lines[1..end].iter().any(|line| line.contains("0 of 1 layers")), "{lines:?}");
    let last = lines[..end].iter().rfind(|line| line.contains(" layers")).unwrap();
    match world.platform {
        // Podman counts the image's settings, too, and names no bytes.
        Platform::Podman => assert_eq!(last, "2 of 2 layers"),
        // Of how much there is: what is fetched is packed.
        _ => assert!(last.starts_with("1 of 1 layers, ") && last.ends_with(" MB"), "{last}"),
    }
    world.driver.stop(&started, GRACE).await.unwrap();
    // It is there now, and nobody is asked again.
    let (started, lines) = start_heard(world, &run_of(world, 5, &image, "close sesame")).await;
    world.driver.stop(&started.unwrap(), GRACE).await.unwrap();
    assert!(!lines.iter().any(|line| line.contains("fetch")), "{lines:?}");
    remove(world, &image).await;
}

fn on(platform: Platform) {
    if start() {
        check(platform, an_image_is_fetched_from_a_registry);
    }
}

#[test]
fn docker_fetches_from_a_registry() {
    on(Platform::Docker);
}

#[test]
fn podman_service_fetches_from_a_registry() {
    on(Platform::Podman);
}
