//! Measures what knot's replicas cost, each time beside something to compare with, in one run on one machine.
//!
//! `cargo run --release -p knot-benches` prints medians and ratios; with names of parts, only those; with `gossip 200`, what
//! so many simulated servers do. A figure without its ratio says more about the machine than about knot: the disk's
//! `fsync` is most of each write.

mod catch_up;
mod cluster;
mod etcd;
mod failover;
mod figures;
mod gossip;
mod history;
mod local;
mod many;
mod spaces;
mod ssh;
mod terminals;
mod usage;

use std::{env, error::Error};

/// What any part of a measurement may fail with.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PARTS: [&str; 9] =
    ["local", "cluster", "history", "catch-up", "many", "spaces", "ssh", "terminals", "failover"];

#[tokio::main]
async fn main() -> Outcome<()> {
    if cfg!(debug_assertions) {
        eprintln!("built without --release: these figures compare with nothing");
    }
    // What the HTTP client takes; a second installation changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
    let named: Vec<String> = env::args().skip(1).collect();
    match named.as_slice() {
        [part, path] if part == "start" => return many::start(path.as_ref()).await,
        [part, servers] if part == "gossip" => return gossip::measure(servers.parse()?, 199),
        _ => {}
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
            "catch-up" => catch_up::measure().await?,
            "many" => many::measure().await?,
            "spaces" => spaces::measure().await?,
            "ssh" => ssh::measure()?,
            "terminals" => terminals::measure().await?,
            _ => failover::measure().await?,
        }
        println!();
    }
    Ok(())
}
