//! A home whose database may be older than what has happened: it waits, says so, and rests meanwhile.

use std::{sync::mpsc, time::Duration};

use knot_core::{
    agent::Launch,
    generation::Generation,
    model::{Desired, Observed, SpaceStatus},
    net::KeyPair,
};
use knot_server::spaces::{
    drivers::{Labels, Progress, Run},
    trust::note_restored,
};

use crate::world::{BOUND, world, world_in};

/// Time leaps here whenever there is nothing to do, and stands still while there always is something.
#[test]
fn a_restored_home_rests_while_it_waits() {
    let (done, waited) = mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            note_restored(folder.path()).unwrap();
            let world = world_in(folder, |_| ()).await;
            // A space that this home had, and that is dead and not yet forgotten.
            let space = world.space("dev", Desired::Stopped, &[]).await;
            let status = SpaceStatus {
                state: Observed::Stopped,
                generation: Generation { term: 1, n: 1 },
                ..SpaceStatus::default()
            };
            world.replica.observe(space, &status).await.unwrap();
            world.replica.delete(space, world.author).await.unwrap();
            tokio::time::pause();
            tokio::time::sleep(Duration::from_secs(60)).await;
            tokio::time::resume();
            assert_eq!(world.status(space).state, Observed::Stopped, "it acted");
            assert!(world.server().restored, "it does not say that it waits");
            world.trusted.confirm().unwrap();
            world.becomes(space, Observed::Gone).await;
            world.when("it waits no more", || (!world.server().restored).then_some(())).await;
            world.stop().await;
        });
        done.send(()).unwrap();
    });
    waited.recv_timeout(BOUND).expect("it failed, or time stands still: it never rests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_whose_engine_knows_better_says_which_space_waits() {
    let world = world(|_| ()).await;
    let (space, other) = (
        world.space("dev", Desired::Stopped, &[]).await,
        world.space("other", Desired::Stopped, &[]).await,
    );
    // As an engine has it whose server was set back: a generation that nobody here knows of.
    let generation = Generation { term: 1, n: 7 };
    let launch = Launch {
        space: space.uuid(),
        name: "dev".to_owned(),
        generation,
        key: KeyPair::generate().unwrap().to_base64(),
        ..Launch::default()
    };
    let run = Run { launch, revision: "r".to_owned(), ..Run::default() };
    let running = world.engine.start(&run, &Progress::unheard()).await.unwrap();
    assert_eq!(running.labels, Labels { generation, ..run.labels(world.owner) });
    let waits = world.when("it says that it waits", || {
        Some(world.server().outdated).filter(|waits| !waits.is_empty())
    });
    assert_eq!(waits.await, [space.uuid()].into());
    assert_eq!(world.status(other).state, Observed::Created);
    assert_eq!(world.engine.list().await.unwrap().len(), 1, "it was stopped");
    // Told that it is alone, it does what it knows: nobody wants it to run.
    world.trusted.confirm().unwrap();
    world.becomes(space, Observed::Stopped).await;
    assert!(world.engine.list().await.unwrap().is_empty());
    world.when("nothing waits any more", || world.server().outdated.is_empty().then_some(())).await;
    world.stop().await;
}
