//! The container engines of this server, and what was last seen on them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use knot_core::{
    id::{Id, ServerId},
    model::{Server, ServerStatus},
    replica::Replica,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::drivers::{Driver, Error, Instance, Job, Platform, StartError, Survey};

/// How often each engine is asked for what is on it.
const POLL: Duration = Duration::from_secs(2);
/// How long after a start was given up what it has set going may still appear on the engine.
const HALF_WAY: Duration = Duration::from_secs(2);
/// How long an engine may take, when the server stops, to say what is on it.
const SETTLING: Duration = Duration::from_secs(10);
/// How many spaces are told of that wait for newer data.
const OUTDATED: usize = 1_000;

/// Whether two servers use one engine for a platform, and what is on it is there for both: both say who
/// it is, and the same.
pub(crate) fn are_one(replica: &Replica, platform: &str, a: ServerId, b: ServerId) -> bool {
    let engine = |server: ServerId| {
        let status: ServerStatus = replica.observed(Id::<Server>::from_uuid(server.0), server)?;
        status.engines.get(platform).cloned()
    };
    let engine_of_a = engine(a);
    engine_of_a.is_some() && engine_of_a == engine(b)
}

/// What is on the engines that carries this server's labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// By space.
    pub(super) instances: HashMap<Uuid, Vec<(Platform, Instance)>>,
    /// On an engine that servers share, what there is of each space, whoever made it.
    pub(super) jobs: HashMap<Uuid, Job>,
    /// Engines that answered when last asked.
    pub(super) answering: BTreeSet<Platform>,
    /// Who they are, where they say.
    pub(super) identities: BTreeMap<Platform, String>,
    /// Volumes that no document knows: platform and the engine's name.
    pub(super) strays: BTreeSet<(String, String)>,
    /// Spaces that wait, since an engine has run what the database does not know of.
    pub(super) outdated: BTreeSet<Uuid>,
    /// Spaces of which a start was given up half way, and from when on the engine's answer shows all
    /// that came of it.
    unsure: HashMap<Uuid, (Platform, Instant)>,
}

impl Sight {
    /// Spaces of which it is sure again what there is.
    pub(super) fn sure_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Uuid> + 'a {
        before.unsure.keys().filter(|space| !self.unsure.contains_key(space)).copied()
    }

    /// Everything that is seen of a space.
    pub(super) fn all_of(&self, space: Uuid) -> (&[(Platform, Instance)], Option<&Job>) {
        (self.of(space), self.jobs.get(&space))
    }

    pub(super) fn of(&self, space: Uuid) -> &[(Platform, Instance)] {
        self.instances.get(&space).map_or(&[], Vec::as_slice)
    }
}

/// The drivers of this server and what they see; clones share it.
#[derive(Clone)]
pub struct Engines {
    drivers: Arc<BTreeMap<Platform, Arc<dyn Driver>>>,
    sight: Arc<watch::Sender<Sight>>,
    /// What a worker did to a space's instances later than an answer that is still on its way.
    touched: Arc<Mutex<HashMap<(Platform, Uuid), Instant>>>,
}

impl Engines {
    /// The engines of these drivers, one for each platform.
    pub fn new(drivers: impl IntoIterator<Item = Arc<dyn Driver>>) -> Self {
        let drivers = drivers.into_iter().map(|driver| (driver.platform(), driver)).collect();
        Self { drivers: Arc::new(drivers), sight: Arc::default(), touched: Arc::default() }
    }

    pub(super) fn driver(&self, platform: Platform) -> Option<&Arc<dyn Driver>> {
        self.drivers.get(&platform)
    }

    /// Asks the engine that runs jobs whether it can read one. An engine that does not answer, or that
    /// is not here, has nothing against it: the start asks again.
    ///
    /// # Errors
    /// What the engine says of the job.
    pub async fn check_job(&self, job: &str) -> Result<(), String> {
        let Some(driver) = self.driver(Platform::Nomad) else { return Ok(()) };
        match driver.check_job(job).await {
            Err(error @ StartError::Job { .. }) => Err(error.to_string()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn drivers(&self) -> impl Iterator<Item = (&Platform, &Arc<dyn Driver>)> {
        self.drivers.iter()
    }

    /// Notes which volumes no document knows.
    pub(super) fn note_strays(&self, strays: BTreeSet<(String, String)>) {
        self.sight.send_if_modified(|sight| {
            let news = sight.strays != strays;
            sight.strays = strays;
            news
        });
    }

    /// Notes whether a space waits, since an engine has run what the database does not know of.
    pub(super) fn note_outdated(&self, space: Uuid, waits: bool) {
        self.sight.send_if_modified(|sight| match waits {
            true => sight.outdated.len() < OUTDATED && sight.outdated.insert(space),
            false => sight.outdated.remove(&space),
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<Sight> {
        self.sight.subscribe()
    }

    /// What was last seen of a space; `None` while an engine that may have something of it has not
    /// answered, or not since a start was given up.
    pub(super) fn see(
        &self,
        space: Uuid,
        on: Option<Platform>,
    ) -> Option<Vec<(Platform, Instance)>> {
        let sight = self.sight.borrow();
        let silent = on.is_some_and(|platform| {
            self.drivers.contains_key(&platform) && !sight.answering.contains(&platform)
        });
        let unsure = sight.unsure.contains_key(&space);
        (!silent && !unsure).then(|| sight.of(space).to_vec())
    }

    /// Notes that a start was given up half way: an engine goes on with what it was told, and nothing is
    /// known of the space before it has answered once more.
    pub(super) fn doubt(&self, platform: Platform, space: Uuid) {
        self.sight.send_modify(|sight| {
            sight.unsure.insert(space, (platform, Instant::now() + HALF_WAY));
        });
    }

    /// What was last seen of a space on the engine that servers share.
    pub(super) fn job(&self, space: Uuid) -> Option<Job> {
        self.sight.borrow().jobs.get(&space).cloned()
    }

    /// Notes what a worker has just done: an instance is there, or is gone.
    pub(super) fn note(&self, platform: Platform, instance: &Instance, there: bool) {
        let space = instance.labels.space;
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        touched.insert((platform, space), Instant::now());
        drop(touched);
        self.sight.send_modify(|sight| {
            let seen = sight.instances.entry(space).or_default();
            seen.retain(|(_, one)| one.id != instance.id);
            if there {
                seen.push((platform, instance.clone()));
            } else if seen.is_empty() {
                sight.instances.remove(&space);
            }
            if let Some(job) = sight.jobs.get_mut(&space).filter(|job| job.id == instance.id) {
                job.state = there.then(|| instance.state.clone());
                job.labels = instance.labels.clone();
            }
        });
    }

    /// Asks every engine, again and again, until told to stop. One that is slow holds up no other.
    pub(super) async fn poll(self, stop: CancellationToken) {
        let polls =
            self.drivers.iter().map(|(platform, driver)| self.ask(*platform, driver, &stop));
        join_all(polls).await;
    }

    async fn ask(&self, platform: Platform, driver: &Arc<dyn Driver>, stop: &CancellationToken) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let asked = Instant::now();
            let Some(answer) = stop.run_until_cancelled(driver.survey()).await else { return };
            match answer {
                Ok(survey) => {
                    // One that answers and does not say who it is is asked for that again.
                    match self.identify(platform, &**driver).await {
                        Ok(()) => self.saw(platform, asked, survey),
                        Err(error) => self.is_silent(platform, &error),
                    }
                }
                Err(error) => self.is_silent(platform, &error),
            }
        }
    }

    /// Sees what a start has left that was dropped, or failed: until then nothing may be concluded from
    /// what is not seen.
    pub(super) async fn look_again(&self, platform: Platform, space: Uuid) {
        let Some(driver) = self.driver(platform) else { return };
        driver.settled(space).await;
        self.look(platform, &**driver).await;
    }

    async fn look(&self, platform: Platform, driver: &dyn Driver) {
        let asked = Instant::now();
        match driver.survey().await {
            Ok(survey) => self.saw(platform, asked, survey),
            Err(error) => self.is_silent(platform, &error),
        }
    }

    /// Sees all that is on the engines when nothing is begun any more; `dropped` are the starts that were under
    /// way. An engine that does not answer in time stays as it was seen.
    pub(super) async fn settle(&self, dropped: &[(Platform, Uuid)]) {
        let looks = self.drivers().map(|(platform, driver)| async move {
            let own: Vec<_> = dropped.iter().filter(|(on, _)| on == platform).collect();
            for (_, space) in &own {
                driver.settled(*space).await;
            }
            // What an engine was told over a connection may still come of it.
            if !own.is_empty() && *platform != Platform::Local {
                sleep(HALF_WAY).await;
            }
            self.look(*platform, &**driver).await;
        });
        join_all(looks.map(|look| timeout(SETTLING, look))).await;
    }

    /// Asks an engine that did not answer until now who it is.
    async fn identify(&self, platform: Platform, driver: &dyn Driver) -> Result<(), Error> {
        if self.sight.borrow().answering.contains(&platform) {
            return Ok(());
        }
        let identity = driver.identity().await?;
        self.sight.send_if_modified(|sight| {
            let before = match &identity {
                Some(identity) => sight.identities.insert(platform, identity.clone()),
                None => sight.identities.remove(&platform),
            };
            before != identity
        });
        Ok(())
    }

    fn saw(&self, platform: Platform, asked: Instant, survey: Survey) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        touched.retain(|(on, _), at| *on != platform || *at >= asked);
        self.sight.send_if_modified(|sight| {
            let mut found: HashMap<Uuid, Vec<(Platform, Instance)>> = HashMap::new();
            for (space, seen) in &sight.instances {
                let keep = |(on, _): &&(Platform, Instance)| {
                    *on != platform || touched.contains_key(&(platform, *space))
                };
                let kept: Vec<_> = seen.iter().filter(keep).cloned().collect();
                if !kept.is_empty() {
                    found.insert(*space, kept);
                }
            }
            for instance in survey.instances {
                let space = instance.labels.space;
                if !touched.contains_key(&(platform, space)) {
                    found.entry(space).or_default().push((platform, instance));
                }
            }
            let mut jobs = HashMap::new();
            if platform != Platform::Nomad {
                jobs.clone_from(&sight.jobs);
            }
            for job in survey.jobs {
                let space = job.labels.space;
                let noted = sight.jobs.get(&space);
                let noted = noted.filter(|_| touched.contains_key(&(platform, space)));
                jobs.insert(space, noted.cloned().unwrap_or(job));
            }
            let doubts = sight.unsure.len();
            sight.unsure.retain(|_, (on, until)| *on != platform || *until > asked);
            let news = sight.answering.insert(platform) || sight.unsure.len() < doubts;
            let changed = news || found != sight.instances || jobs != sight.jobs;
            sight.instances = found;
            sight.jobs = jobs;
            changed
        });
    }

    fn is_silent(&self, platform: Platform, error: &Error) {
        self.sight.send_if_modified(|sight| {
            let news = sight.answering.remove(&platform);
            if news {
                tracing::warn!(%platform, %error, "the engine does not answer any more");
            }
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_that_was_given_up_left_is_not_known_before_the_engine_has_said_so() {
        let engines = Engines::new([]);
        let (space, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        engines.saw(Platform::Local, Instant::now(), Survey::default());
        assert_eq!(engines.see(space, Some(Platform::Local)), Some(Vec::new()));
        let before = Instant::now();
        engines.doubt(Platform::Local, space);
        let seen = engines.watch().borrow().clone();
        // Asked before, another engine, and asked too soon.
        engines.saw(Platform::Local, before, Survey::default());
        engines.saw(Platform::Docker, before + 2 * HALF_WAY, Survey::default());
        engines.saw(Platform::Local, before + HALF_WAY / 2, Survey::default());
        assert_eq!(engines.see(space, Some(Platform::Local)), None);
        assert_eq!(engines.see(other, Some(Platform::Local)), Some(Vec::new()));
        engines.saw(Platform::Local, before + 2 * HALF_WAY, Survey::default());
        assert_eq!(engines.see(space, Some(Platform::Local)), Some(Vec::new()));
        let now = engines.watch().borrow().clone();
        assert_eq!(now.sure_since(&seen).collect::<Vec<_>>(), [space]);
    }
}
