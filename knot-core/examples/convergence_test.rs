//! A convergence test of one's own document kinds: schedules of edits, cuts, crashes and restores on
//! simulated servers, each from a seed; at the end all are equal and no acknowledged edit is lost.
//!
//! `cargo run -p knot-core --features sim --example convergence_test`

use std::{error::Error, time::Duration};

use knot_core::{
    entity,
    id::Id,
    schema::Schema,
    sim::{self, Action, Network, Operation, Outcome, World},
};
use proptest::prelude::*;
use uuid::Uuid;

entity! {
    /// A list of things to buy.
    pub struct Shopping("shopping", 1) {
        /// Where to go.
        shop: Field<String>,
        /// What to bring; what was struck off stays off.
        things: Set<String> [RemovalWins],
    }
}

/// What users do.
#[derive(Clone, Debug)]
enum Op {
    Go(u8, String),
    Add(u8, String),
    Strike(u8, String),
    Discard(u8),
}

fn id(n: u8) -> Id<Shopping> {
    Id::from_uuid(Uuid::from_u128(n.into()))
}

impl Operation for Op {
    fn schema() -> Schema {
        Schema::new().with::<Shopping>()
    }

    fn strategy() -> BoxedStrategy<Self> {
        // Few lists and few words make many conflicts.
        let (list, word) = (|| 0_u8..3, || "[ab]");
        prop_oneof![
            4 => (list(), word()).prop_map(|(list, shop)| Self::Go(list, shop)),
            4 => (list(), word()).prop_map(|(list, thing)| Self::Add(list, thing)),
            4 => (list(), word()).prop_map(|(list, thing)| Self::Strike(list, thing)),
            1 => list().prop_map(Self::Discard),
        ]
        .boxed()
    }

    fn action(&self) -> Action {
        match self.clone() {
            Self::Go(list, shop) => Action::put(id(list), move |list| {
                list.set(Shopping::shop, shop);
                Ok(())
            }),
            Self::Add(list, thing) => Action::put(id(list), move |list| {
                list.insert(Shopping::things, &thing);
                Ok(())
            }),
            Self::Strike(list, thing) => Action::put(id(list), move |list| {
                list.remove(Shopping::things, &thing);
                Ok(())
            }),
            Self::Discard(list) => Action::delete(id(list)),
        }
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // Any schedule. One that fails is made small, and printed with the seed that plays it again.
    let played = sim::check::<Op>(30)?;
    println!("{} schedules ended with all servers equal", played.schedules);
    println!("the slowest was equal {:?} after its last fault", played.slowest);

    // One schedule, written by hand: what is said to be on two servers survives the loss of one.
    let mut world = World::new(1, 3, Op::schema(), Network::default())?;
    world.run(Duration::from_secs(1))?;
    let new_disk = world.backup(0).ok_or("there is no server 0")?;
    let add = Op::Add(0, "bread".to_owned()).action();
    let ticket = world.ask_durable(0, add, 2, Duration::from_secs(5));
    while world.outcome(ticket) == Outcome::Waiting {
        world.run(Duration::from_millis(1))?;
    }
    println!("after {:?}: {:?}", world.now(), world.outcome(ticket));
    world.restore(0, new_disk)?;
    world.settle()?;
    let list = world.replica(0).and_then(|replica| replica.get(id(0))).ok_or("it is lost")?;
    println!("after a new disk, server 0 reads: {:?}", list.things);
    Ok(())
}
