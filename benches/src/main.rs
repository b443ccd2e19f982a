//! Measures what knot's replicas cost, each time beside something to compare with, in one run on one machine.
//!
//! `cargo run --release -p knot-benches` prints medians and ratios; with names of parts, only those. A figure without its
//! ratio says more about the machine than about knot: the disk's `fsync` is most of each write.

mod cluster;
mod figures;
mod history;
mod local;
mod many;
mod usage;

use std::error::Error;

/// What any part of a measurement may fail with.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PARTS: [&str; 4] = ["local", "cluster", "history", "many"];

#[tokio::main]
async fn main() -> Outcome<()> {
    if cfg!(debug_assertions) {
        eprintln!("built without --release: these figures compare with nothing");
    }
    let named: Vec<String> = std::env::args().skip(1).collect();
    if let [part, path] = named.as_slice()
        && part == "start"
    {
        return many::start(path.as_ref()).await;
    }
    if let Some(unknown) = named.iter().find(|name| !PARTS.contains(&name.as_str())) {
        return Err(format!("there is no part {unknown}: there are {}", PARTS.join(", ")).into());
    }
    for part in PARTS {
        if !named.is_empty() && !named.iter().any(|name| name == part) {
            continue;
        }
        match part {
            "local" => local::measure().await?,
            "cluster" => cluster::measure().await?,
            "history" => history::measure().await?,
            _ => many::measure().await?,
        }
        println!();
    }
    Ok(())
}
