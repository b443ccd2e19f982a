//! What spaces take up, over the last day: kept by their home, in memory and in files of its own.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use knot_core::{
    agent,
    clock::Millis,
    id::Id,
    model::{Observed, Space, SpaceStatus},
    wire,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::worker::Home;

/// How often a sample is kept.
const PERIOD: Duration = Duration::from_secs(60);
/// How many are: those of a day.
const SAMPLES: usize = 24 * 60;
/// How many periods lie between two times that all is written to files.
const SAVE: u32 = 10;

/// What a space took up at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When, by the home's clock.
    pub at: Millis,
    /// What its agent reported.
    pub usage: agent::Usage,
}

/// The samples of all spaces of a home; clones share it.
#[derive(Clone, Debug)]
pub struct Usages {
    folder: PathBuf,
    days: Arc<Mutex<HashMap<Uuid, VecDeque<Sample>>>>,
}

impl Usages {
    /// Those that were saved in this folder.
    pub fn load(folder: PathBuf) -> Self {
        let mut days = HashMap::new();
        for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let space = file.file_name().to_str().and_then(|name| name.parse().ok());
            let samples = fs::read(file.path()).ok().and_then(|bytes| wire::decode(&bytes).ok());
            // A file that cannot be read is of no day: the next save replaces it.
            if let (Some(space), Some(samples)) = (space, samples) {
                days.insert(space, samples);
            }
        }
        Self { folder, days: Arc::new(Mutex::new(days)) }
    }

    /// The samples of the last day, oldest first.
    pub fn day(&self, space: Uuid, now: Millis) -> Vec<Sample> {
        let since = now.minus(PERIOD.saturating_mul(u32::try_from(SAMPLES).unwrap_or(u32::MAX)));
        self.with(|days| {
            let samples = days.get(&space).into_iter().flatten();
            samples.filter(|sample| sample.at >= since).copied().collect()
        })
    }

    /// Adds one; the oldest beyond a day go.
    pub fn add(&self, space: Uuid, sample: Sample) {
        self.with(|days| {
            let samples = days.entry(space).or_default();
            samples.push_back(sample);
            let beyond = samples.len().saturating_sub(SAMPLES);
            samples.drain(..beyond);
        });
    }

    /// Forgets a space.
    pub fn forget(&self, space: Uuid) {
        self.with(|days| days.remove(&space));
        // It may never have been saved.
        let _ = fs::remove_file(self.folder.join(space.to_string()));
    }

    /// Writes all to files.
    ///
    /// # Errors
    /// One could not be written; those before it were.
    pub fn save(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        for (space, samples) in self.with(|days| days.clone()) {
            let bytes = wire::encode(&samples).map_err(io::Error::other)?;
            let path = self.folder.join(space.to_string());
            let new = path.with_extension("new");
            fs::write(&new, bytes)?;
            fs::rename(&new, &path)?;
        }
        Ok(())
    }

    fn with<T>(&self, access: impl FnOnce(&mut HashMap<Uuid, VecDeque<Sample>>) -> T) -> T {
        access(&mut self.days.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps a sample of each running space of this home every minute, until the home stops.
pub(super) async fn keep(home: Arc<Home>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0_u32;
    while home.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let ours = home.replica.list::<Space>();
        for space in ours.iter().filter(|space| space.placement.server == home.me) {
            if let Some(usage) = usage_now(&home, space.id()) {
                home.usages.add(space.id().uuid(), Sample { at: Millis::now(), usage });
            }
        }
        count = count.wrapping_add(1);
        if count.is_multiple_of(SAVE) {
            save(&home).await;
        }
    }
    save(&home).await;
}

/// What the agent of a running space last reported.
pub(super) fn usage_now(home: &Home, space: Id<Space>) -> Option<agent::Usage> {
    let status: SpaceStatus = home.replica.observed(space, home.me)?;
    let runs = matches!(status.state, Observed::Starting | Observed::Running);
    let report = home.net.agents().report(space, status.generation).filter(|_| runs)?;
    Some(report.usage)
}

async fn save(home: &Home) {
    let usages = home.usages.clone();
    let saved = tokio::task::spawn_blocking(move || usages.save()).await;
    if let Ok(Err(error)) = saved {
        tracing::warn!(%error, "what spaces take up could not be saved");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_and_outlives_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let usages = Usages::load(folder.path().join("usage"));
        let space = Uuid::from_u128(7);
        let minute = 60_000;
        for n in 0..2_000 {
            let usage = agent::Usage { memory: n, ..agent::Usage::default() };
            usages.add(space, Sample { at: Millis(minute * n as i64), usage });
        }
        let now = Millis(minute * 2_000);
        let day = usages.day(space, now);
        assert_eq!((day.len(), day[0].usage.memory), (SAMPLES, 560));
        assert!(usages.day(space, Millis(minute * 9_000)).is_empty(), "of another day");
        usages.save().unwrap();
        let again = Usages::load(folder.path().join("usage"));
        assert_eq!(again.day(space, now), day);
        again.forget(space);
        assert!(Usages::load(folder.path().join("usage")).day(space, now).is_empty());
    }
}
