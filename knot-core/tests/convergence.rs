//! Any schedule of edits and faults ends with all replicas equal and no acknowledged edit lost.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

/// How many schedules are played where nobody asks for more; `.ci/run` does.
const CASES: u64 = 1_000;

#[path = "operations/thing.rs"]
mod thing;

use std::time::{Duration, Instant};

use knot_core::{
    id::Id,
    replica::Replica,
    schema::Schema,
    sim::{self, Action, Operation, Search},
};
use proptest::prelude::*;
use thing::{Op, Thing};

#[test]
fn any_schedule_ends_with_all_equal_and_no_acknowledged_edit_lost() {
    let began = Instant::now();
    let search = Search::new(CASES).known(include_str!("seeds.txt")).from_environment();
    match search.run::<Op>(|_| ()) {
        Ok(played) => {
            let seconds = began.elapsed().as_secs_f64();
            let a_second = played.schedules as f64 / seconds;
            println!("{} schedules, {a_second:.0} a second", played.schedules);
            println!("the slowest was equal {:?} after its last fault", played.slowest);
        }
        Err(failed) => panic!("{failed}"),
    }
}

#[test]
fn a_schedule_plays_the_same_each_time() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    for _ in 0..20 {
        let schedule = sim::schedule::<Op>().new_tree(&mut runner).unwrap().current();
        assert_eq!(sim::run(&schedule), sim::run(&schedule));
    }
}

/// Operations on which a wrong invariant is declared: that nobody ever writes "b" after "a".
#[derive(Clone, Debug)]
enum Broken {
    Name(String),
    Other(u8),
}

fn broken() -> Id<Thing> {
    Id::of_key(&[b"broken"])
}

impl Operation for Broken {
    fn schema() -> Schema {
        Schema::new().with::<Thing>()
    }

    fn strategy() -> BoxedStrategy<Self> {
        prop_oneof!["[ab]".prop_map(Self::Name), any::<u8>().prop_map(Self::Other)].boxed()
    }

    fn action(&self) -> Action {
        let this = self.clone();
        Action::put(broken(), move |thing| {
            match this {
                Self::Name(name) if name == "b" && thing.name == "a" => {
                    thing.set(Thing::on, true);
                    thing.set(Thing::name, name);
                }
                Self::Name(name) => thing.set(Thing::name, name),
                Self::Other(n) => thing.put(Thing::notes, &n.to_string(), String::new()),
            }
            Ok(())
        })
    }

    fn always(replica: &Replica) -> Result<(), String> {
        match replica.get(broken()) {
            Some(thing) if thing.on => Err("b came after a".to_owned()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_schedule_that_fails_is_found_made_small_and_played_again_by_its_seed() {
    let failed = Search::new(100).threads(2).run::<Broken>(|_| ()).unwrap_err();
    assert!(failed.reason.contains("b came after a"), "{failed}");
    let again = Search::new(0).known(&failed.seed.to_string()).run::<Broken>(|_| ()).unwrap_err();
    assert_eq!((&again.reason, &again.schedule), (&failed.reason, &failed.schedule));
    let earlier = Search::new(failed.seed).run::<Broken>(|_| ());
    assert!(earlier.is_ok(), "the first that fails is found, whichever thread is quicker");
    println!("{failed}");
    // Two edits at one server, and hardly more.
    let steps: Vec<_> = failed.schedule.lines().skip(1).collect();
    assert!(steps.len() <= 4, "{failed}");
    assert!(steps.iter().filter(|step| step.contains("Ask")).count() <= 3, "{failed}");
}

#[test]
fn known_seeds_are_played_first_and_remarks_are_not_seeds() {
    let search = Search::new(0).known("# what failed\n3 # lost edits\n\n 17\n");
    assert_eq!(search.run::<Op>(|_| ()).unwrap().schedules, 2);
    assert!(search.run::<Op>(|_| ()).unwrap().took > Duration::ZERO);
}
