//! Sixty whole replicas: news spreads along a tree, and what that misses reconciliation brings.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use knot_core::{
    entity,
    id::Id,
    schema::Schema,
    sim::{Action, Carriage, Network, Outcome, World},
};
use uuid::Uuid;

entity! {
    /// A document with a field of two sorts.
    pub struct Thing("thing", 1) {
        /// A register.
        name: Field<String>,
        /// Notes, each a register.
        notes: Map<String, String>,
    }
}

const SERVERS: usize = 60;
/// As many courses as are judged together.
const SEEDS: u64 = 3;
const SECOND: Duration = Duration::from_secs(1);

fn id(n: u64) -> Id<Thing> {
    Id::from_uuid(Uuid::from_u128(n.into()))
}

fn note(n: u64, topic: &str, text: &str) -> Action {
    let (topic, text) = (topic.to_owned(), text.to_owned());
    Action::put(id(n), move |thing| {
        thing.put(Thing::notes, &topic, text);
        Ok(())
    })
}

fn world(seed: u64, carriage: Carriage) -> World {
    let schema = Schema::new().with::<Thing>();
    World::new(seed, SERVERS, schema, Network { delay: 1..=20, carriage }).unwrap()
}

/// How many servers hold the document.
fn holders(world: &World, n: u64) -> usize {
    let holds = |at: &usize| world.replica(*at).is_some_and(|replica| replica.get(id(n)).is_some());
    (0..world.len()).filter(holds).count()
}

/// What sixty changes cost once the tree has its form.
struct Spread {
    /// Receptions of a change at a server, on average.
    receptions: f64,
    /// Questions of reconciliation for what news had not brought yet.
    pulls: u64,
}

fn spread(seed: u64) -> Spread {
    let mut world = world(seed, Carriage::Ordered);
    world.run(SECOND).unwrap();
    let edit = |world: &mut World, n: u64| {
        let at = usize::try_from(n * 7).unwrap() % SERVERS;
        let ticket = world.ask(at, note(n, "a", "b"));
        world.run(Duration::from_millis(100)).unwrap();
        assert_eq!(world.outcome(ticket), Outcome::Done, "seed {seed}");
    };
    (0..60).for_each(|n| edit(&mut world, n));
    world.run(SECOND).unwrap();
    let before = world.traffic().clone();
    (100..160).for_each(|n| edit(&mut world, n));
    world.run(SECOND).unwrap();
    assert!((100..160).all(|n| holders(&world, n) == SERVERS), "seed {seed}");
    let after = world.traffic();
    let sent = |name| after.messages(name) - before.messages(name);
    let spread = Spread {
        receptions: sent("News") as f64 / (60 * (SERVERS - 1)) as f64,
        pulls: sent("Pull"),
    };
    println!(
        "seed {seed}: {:.2} receptions a change and server; {} names, {} grafts, {} prunes, {} pulls",
        spread.receptions,
        sent("IHave"),
        sent("Graft"),
        sent("Prune"),
        spread.pulls,
    );
    world.settle().unwrap();
    spread
}

#[test]
fn news_reaches_sixty_servers_with_few_duplicates() {
    let spreads: Vec<_> = (1..=SEEDS).map(spread).collect();
    for (seed, spread) in (1..).zip(&spreads) {
        let receptions = spread.receptions;
        assert!(receptions <= 2.5, "seed {seed}: {receptions} receptions of each change");
    }
    // It never gets quiet here, so that a walk now and then meets news on its way: chance says in which course how often.
    let pulls: u64 = spreads.iter().map(|spread| spread.pulls).sum();
    assert!(
        pulls <= 6 * SEEDS,
        "{pulls} pulls in {SEEDS} courses: reconciliation does what news should"
    );
}

#[test]
fn sixty_servers_lose_nothing_to_loss_crashes_and_a_cut() {
    let mut world = world(2, Carriage::Loose { loss: 2, twice: 2 });
    world.run(SECOND).unwrap();
    let (left, right): (Vec<_>, Vec<_>) = (0..SERVERS).partition(|at| at % 3 == 0);
    for n in 0..120_u64 {
        let at = usize::try_from(n * 11).unwrap() % SERVERS;
        // Few documents: many servers edit one at the same time.
        world.ask(at, note(n % 12, &(n % 5).to_string(), &n.to_string()));
        world.ask(at / 2, note(n % 12, &(n % 5).to_string(), &(n + 1_000).to_string()));
        match n {
            30 => (0..6).for_each(|nth| world.crash(nth * 10)),
            50 => world.cut(&[&left, &right]),
            70 => (0..6).for_each(|nth| world.start(nth * 10).unwrap()),
            80 => {
                world.ask(7, Action::delete(id(3)));
            }
            90 => world.heal(),
            _ => {}
        }
        world.run(Duration::from_millis(60)).unwrap();
    }
    let took = world.settle().unwrap();
    println!("equal {took:?} after the last fault");
    assert!((0..SERVERS).all(|at| world.replica(at).unwrap().grave(id(3)).is_some()));
}
