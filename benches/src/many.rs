//! Many documents: how much memory they take, and how soon a start has them.

use std::time::Instant;

use knot_core::{
    model::{self, Space},
    replica::{Replica, Service},
    store::{Store as _, sqlite::SqliteStore},
};
use tokio::task::JoinSet;

use crate::{
    Outcome,
    local::{SERVER, create_space},
    usage,
};

const WRITERS: usize = 64;

pub(crate) async fn measure() -> Outcome<()> {
    println!("Many documents, each a space of eight fields");
    for count in [10_000, 100_000] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("knot.db");
        let (service, replica) =
            Service::start(SERVER, model::schema(), Box::new(SqliteStore::open(&path)?))?;
        let began = Instant::now();
        create(&replica, count).await?;
        let seconds = began.elapsed().as_secs_f64();
        service.stop().await;
        SqliteStore::open(&path)?.maintain()?;
        drop(replica);
        // What making them left behind is given back to the system before it is looked at.
        let status = std::process::Command::new(std::env::current_exe()?)
            .args(["start", &path.display().to_string()])
            .status()?;
        if !status.success() {
            return Err("the start that was to be measured failed".into());
        }
        println!(
            "{:58} {:.0} a second",
            format!("  {count} creates, 64 at once, durable"),
            count as f64 / seconds
        );
    }
    Ok(())
}

/// A start on a database, in a process of its own.
pub(crate) async fn start(path: &std::path::Path) -> Outcome<()> {
    let before = usage::resident()?;
    let began = Instant::now();
    let store = SqliteStore::open(path)?;
    let (service, replica) = Service::start(SERVER, model::schema(), Box::new(store))?;
    let ready = began.elapsed();
    let resident = usage::resident()? - before;
    let began = Instant::now();
    let all = replica.list::<Space>();
    let listed = began.elapsed();
    let count = all.len();
    drop(all);
    println!(
        "{:58} {:.0} ms",
        format!("  start with {count} documents, ready to read"),
        ready.as_secs_f64() * 1e3
    );
    println!("{:58} {:.0} ms", "    all of them listed", listed.as_secs_f64() * 1e3);
    println!("{:58} {}", "    resident after the start", usage::megabytes(resident));
    println!(
        "{:58} {}",
        "    resident after the list",
        usage::megabytes(usage::resident()? - before)
    );
    service.stop().await;
    Ok(())
}

async fn create(replica: &Replica, count: usize) -> Outcome<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let replica = replica.clone();
        writers.spawn(async move {
            for n in (writer..count).step_by(WRITERS) {
                create_space(&replica, n).await?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}
