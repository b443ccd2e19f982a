//! Health, idleness, uptime, scripts, dependencies, logs and usage.

use knot_core::{
    generation::Generation,
    model::{Desired, Observed, Space, Template},
};
use knot_server::spaces::{
    answers::{Answer, Question},
    logs::Kind,
};

use crate::world::{BOUND, world};

fn logs(space: knot_core::id::Id<Space>, n: Option<u64>, kind: Kind, follow: bool) -> Question {
    let generation = n.map(|n| Generation { term: 1, n });
    Question::Logs { space: space.uuid(), generation, kind, follow }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_startup_script_that_fails_is_the_cause_and_its_output_can_be_read() {
    let world = world(|template| {
        let script = "echo preparing; echo no such database >&2; exit 4";
        template.set(Template::startup_script, script.to_owned());
    })
    .await;
    let space = world.space("web", Desired::Running, &[]).await;
    let failed = world.becomes(space, Observed::Failed).await;
    let cause = failed.cause.unwrap();
    assert!(cause.contains("status 4") && cause.contains("no such database"), "{cause}");
    let (answer, log) = world.ask(logs(space, None, Kind::Container, false)).await;
    assert_eq!(answer, Answer::Text(Generation { term: 1, n: 1 }));
    assert!(log.contains("preparing") && log.contains("no such database"), "{log}");
    let (_, log) = world.ask(logs(space, Some(1), Kind::Provision, true)).await;
    assert!(log.contains("the space is running"), "{log}");
    let (answer, _) = world.ask(logs(space, Some(7), Kind::Provision, false)).await;
    let Answer::Missing(why) = answer else { panic!("{answer:?}") };
    assert!(why.contains("there are logs of 1.1"), "{why}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwell_space_is_restarted_after_a_while_and_then_given_up() {
    let world = world(|template| {
        template.set(Template::health, "exec:test -f ok || { echo ill; exit 1; }".to_owned());
        template.set(Template::health_interval, Some(1));
        template.set(Template::health_failures, Some(1));
        template.set(Template::health_restarts, Some(1));
        template.set(Template::startup_script, "touch ok".to_owned());
    })
    .await;
    let space = world.space("web", Desired::Running, &[]).await;
    let well = world
        .until(space, "well", |status| status.health.as_ref().is_some_and(|health| health.well));
    assert_eq!(well.await.generation.n, 1);
    let file = world.data.join("spaces").join(space.to_string()).join("home/ok");
    std::fs::remove_file(&file).unwrap();
    let failed = world.becomes(space, Observed::Failed).await;
    let cause = failed.cause.unwrap();
    assert!(cause.contains("ill") && cause.contains("started again after 10 s"), "{cause}");
    let again = world.until(space, "a restart", |status| {
        status.generation.n == 2 && status.state == Observed::Running
    });
    assert_eq!(again.await.restarts, 1);
    world
        .until(space, "well again", |status| {
            status.health.as_ref().is_some_and(|health| health.well)
        })
        .await;
    std::fs::remove_file(&file).unwrap();
    let failed = world.becomes(space, Observed::Failed).await;
    assert_eq!(failed.retry, None);
    assert!(failed.cause.unwrap().contains("given up"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_that_nobody_uses_is_stopped_by_its_home_which_says_so() {
    let world = world(|template| template.set(Template::idle_stop, Some(2))).await;
    let space = world.space("web", Desired::Running, &[]).await;
    // That it ran is in the note: nobody need have looked while it did.
    let stopped = world.becomes(space, Observed::Stopped).await;
    assert_eq!(stopped.note.as_deref(), Some("stopped after 2 s without use"));
    assert_eq!(world.replica.get(space).unwrap().desired, Desired::Stopped);
    // It can be started again, and says no more why it was stopped.
    world.want(space, Desired::Running).await;
    world
        .until(space, "a second run", |status| status.generation.n == 2 && status.note.is_none())
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_runs_for_as_long_as_it_may_and_its_shutdown_script_is_run() {
    let world = world(|template| {
        template.set(Template::max_uptime, Some(3));
        template.set(Template::shutdown_script, "echo saved > saved".to_owned());
    })
    .await;
    let space = world.space("web", Desired::Running, &[]).await;
    let stopped = world.becomes(space, Observed::Stopped).await;
    assert!(stopped.note.unwrap().contains("stopped after it had run for 3 s"));
    let file = world.data.join("spaces").join(space.to_string()).join("home/saved");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "saved\n");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_what_it_depends_on() {
    let world = world(|_| ()).await;
    let db = world.space("db", Desired::Stopped, &[]).await;
    let web = world.space("web", Desired::Running, &[db]).await;
    let waits = world.until(web, "a word about it", |status| status.note.is_some()).await;
    assert_eq!((waits.state, waits.note.as_deref()), (Observed::Created, Some("waits for db")));
    // Nobody wants it any more: it waits for nothing.
    world.want(web, Desired::Stopped).await;
    world.until(web, "no word about it", |status| status.note.is_none()).await;
    world.want(web, Desired::Running).await;
    world.want(db, Desired::Running).await;
    let (db, web) =
        (world.becomes(db, Observed::Running).await, world.becomes(web, Observed::Running).await);
    assert!(db.since <= web.started, "{db:?} {web:?}");
    assert_eq!(web.note, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_space_takes_up_can_be_asked() {
    let world = world(|_| ()).await;
    let space = world.space("web", Desired::Running, &[]).await;
    world.becomes(space, Observed::Running).await;
    let mut changes = world.replica.watch(&[]);
    loop {
        let (answer, _) = world.ask(Question::Usage(space.uuid())).await;
        let Answer::Usage(now, _) = answer else { panic!("{answer:?}") };
        if now.is_some_and(|usage| usage.memory > 0) {
            break;
        }
        tokio::time::timeout(BOUND, changes.next()).await.expect("never reported");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_filled_in_makes_no_other_revision() {
    let name = "NAME".to_owned();
    let world = world(move |template| {
        template.put(Template::environment, &name, "${{ .space.name }}".to_owned());
    })
    .await;
    let revision = world.replica.get(world.template).unwrap().revision();
    let space = world.space("web", Desired::Running, &[]).await;
    let status = world.becomes(space, Observed::Running).await;
    let found = world.engine.list().await.unwrap();
    let on_engine: Vec<_> = found.iter().map(|one| one.labels.revision.as_str()).collect();
    assert_eq!((status.revision.as_str(), on_engine), (revision.as_str(), vec![&*revision]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_under_way_ends_with_its_home() {
    let world = world(|_| ()).await;
    let mut spaces = Vec::new();
    for n in 0..6 {
        spaces.push(world.space(&format!("web-{n}"), Desired::Running, &[]).await);
    }
    let begun = |status: &knot_core::model::SpaceStatus| status.state != Observed::default();
    world.until(spaces[0], "its start has begun", begun).await;
    world.stop().await;
}
