//! Measures what knot's replicas cost, each time beside something to compare with, in one run on one machine.
//!
//! `cargo run --release -p knot-benches` prints medians and ratios; with `gossip 200`, what so many simulated servers do,
//! and with `catch-up`, how fast an empty server takes documents. A figure without its ratio says more about the
//! machine than about knot: the disk's `fsync` is most of each write.

mod catch_up;
mod cluster;
mod figures;
mod gossip;
mod local;

use std::{env, error::Error};

/// What any part of a measurement may fail with.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    if cfg!(debug_assertions) {
        eprintln!("built without --release: these figures compare with nothing");
    }
    match env::args().nth(1).as_deref() {
        Some("gossip") => {
            let servers = env::args().nth(2).map_or(Ok(200), |text| text.parse())?;
            gossip::measure(servers, 199)
        }
        Some("catch-up") => catch_up::measure().await,
        _ => {
            local::measure().await?;
            cluster::measure().await
        }
    }
}
