//! A schedule's edge passes, by this machine's clock.

use std::time::Duration;

use knot_core::{
    clock::Millis,
    id::Id,
    model::{Desired, Hours, Observed, Space, SpaceStatus, Template, User},
    schema::Edit,
};
use uuid::Uuid;

use crate::world::{make_template, world};

const WEEK: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTE: i64 = 60_000;
/// Hours that somebody writes may take so long to be seen.
const AHEAD: Duration = Duration::from_secs(20);

/// Hours of each day.
fn hours(template: &mut Edit<'_, Template>, from: i64, to: i64) {
    let minute = |minute: i64| u16::try_from(minute.rem_euclid(24 * 60)).unwrap();
    for day in WEEK {
        let hours = Hours { from: minute(from), to: minute(to) };
        template.put(Template::schedule, &day.to_owned(), hours);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_starts_and_stops_at_an_edge_that_passes() {
    let world = world(|_| ()).await;
    let begins = make_template(&world.replica, |template| {
        template.set(Template::schedule_starts, true);
    });
    let begins = begins.await;
    let day = world.space("day", Desired::Running, &[]).await;
    let night = world.space("night", Desired::Stopped, &[]).await;
    let edit = world.replica.edit(night, world.author, move |space| {
        space.set(Space::template, begins);
        Ok(())
    });
    edit.await.unwrap();
    world.becomes(day, Observed::Running).await;
    // The end of this minute, or of the next, at which one space's hours end and another's begin.
    let edge = Millis::now().plus(AHEAD).0.div_euclid(MINUTE) + 1;
    for (template, from, to) in [(world.template, edge - 60, edge), (begins, edge, edge + 60)] {
        let edit = world.replica.edit(template, world.author, move |template| {
            hours(template, from, to);
            Ok(())
        });
        edit.await.unwrap();
    }
    let edge = Millis(edge * MINUTE);
    for space in [day, night] {
        let told = world.until(space, "its hours are known", |status| status.schedule.is_some());
        let seen = told.await.schedule.unwrap().seen;
        assert!(seen < edge, "this machine is too slow for the test");
    }
    assert_eq!(world.status(night).generation.n, 0);

    let stopped = world.becomes(day, Observed::Stopped).await;
    let started = world.becomes(night, Observed::Running).await;
    assert_eq!(stopped.note.as_deref(), Some("stopped by its schedule"));
    assert!(stopped.since >= edge && started.started >= edge, "{stopped:?} {started:?}");
    let desired = |space: Id<Space>| world.replica.get(space).unwrap().desired;
    assert_eq!((desired(day), desired(night)), (Desired::Stopped, Desired::Running));
    // What somebody wants after the edge holds: out of hours too.
    world.want(day, Desired::Running).await;
    world
        .until(day, "a second run", |status| {
            status.generation.n == 2 && status.state == Observed::Running
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schedule_or_time_zone_is_followed_while_the_space_is_stopped() {
    let world = world(|template| hours(template, 0, 60)).await;
    let owner = Id::<User>::from_uuid(Uuid::now_v7());
    let made = world.replica.put(owner, world.author, |user| {
        user.set(User::name, "anna".to_owned());
        Ok(())
    });
    made.await.unwrap();
    let space = world.space("dev", Desired::Stopped, &[]).await;
    let owned = world.replica.edit(space, world.author, move |space| {
        space.set(Space::owner, owner);
        Ok(())
    });
    owned.await.unwrap();
    let rule = async |what| {
        let told = world.until(space, what, |status| status.schedule.is_some()).await;
        told.schedule.unwrap().rule
    };
    let first = rule("its schedule is known").await;

    let moved = world.replica.edit(owner, world.author, |user| {
        user.set(User::time_zone, "Asia/Tokyo".to_owned());
        Ok(())
    });
    moved.await.unwrap();
    let is_other = |before: &str, status: &SpaceStatus| {
        status.schedule.as_ref().is_some_and(|schedule| schedule.rule != before)
    };
    world.until(space, "the time zone is followed", |status| is_other(&first, status)).await;

    let second = rule("its schedule is known").await;
    let changed = world.replica.edit(world.template, world.author, |template| {
        hours(template, 60, 120);
        Ok(())
    });
    changed.await.unwrap();
    world.until(space, "the other hours are followed", |status| is_other(&second, status)).await;
    world.stop().await;
}
