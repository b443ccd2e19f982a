//! Measures what knot's replicas cost, each time beside something to compare with, in one run on one machine.
//!
//! `cargo run --release -p knot-benches` prints medians and ratios. A figure without its ratio says more about the
//! machine than about knot: the disk's `fsync` is most of each write.

mod cluster;
mod figures;
mod local;

use std::error::Error;

/// What any part of a measurement may fail with.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    if cfg!(debug_assertions) {
        eprintln!("built without --release: these figures compare with nothing");
    }
    local::measure().await?;
    cluster::measure().await
}
