//! Plays schedules without end, or as many as are named, on all cores: the search that continuous
//! integration has no time for.
//!
//!     cargo run --release -p knot-core --example schedules -- 1000000 [FROM]
//!
//! `FROM` is the number of the first, so that a later search goes on where an earlier one ended.
//! It says how far it has come, and stops at the first that fails, which it shows made small.
//! `KNOT_SIM_SEED=N` plays that one alone, here and in the tests.

#[path = "../tests/operations/thing.rs"]
mod thing;

use std::{env, process::ExitCode};

use knot_core::sim::{Played, Search};

fn main() -> ExitCode {
    let mut numbers = env::args().skip(1).map(|text| text.parse::<u64>());
    let (Ok(cases), Ok(from)) =
        (numbers.next().unwrap_or(Ok(u64::MAX)), numbers.next().unwrap_or(Ok(0)))
    else {
        eprintln!("usage: schedules [HOW-MANY [FROM]], both whole numbers");
        return ExitCode::FAILURE;
    };
    let search = Search::new(0)
        .seeds(from..from.saturating_add(cases))
        .known(include_str!("../tests/seeds.txt"))
        .from_environment();
    match search.run::<thing::Op>(tell) {
        Ok(played) => {
            tell(&played);
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
    }
}

fn tell(played: &Played) {
    let Played { schedules, slowest, took } = played;
    let rate = *schedules as f64 / took.as_secs_f64();
    println!("{schedules} schedules, {rate:.0} a second; the slowest was equal after {slowest:?}");
}
