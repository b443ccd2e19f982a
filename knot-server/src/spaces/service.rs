//! Keeps a worker for each space that is this server's business, and wakes it when something about
//! it changes.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use knot_core::{
    id::Id,
    model::{Observed, Server, ServerStatus, Space, SpaceStatus, Template, User},
    net::Net,
    replica::{Changed, Replica},
    schema::Entity as _,
};
use tokio::{
    sync::{Mutex, Notify, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Options,
    answers::Answers,
    drivers::Platform,
    engines::{Engines, Sight},
    logs::Logs,
    trust::{Trust, Trusted},
    usage::{self, Usages},
    volumes,
    worker::{Failure, Home, Worker},
};

/// How many spaces are provisioned at a time.
const STARTS: usize = 8;

/// The tasks that run this server's spaces.
pub struct Service {
    home: Arc<Home>,
    tasks: JoinSet<()>,
}

impl Service {
    /// Starts them.
    pub fn start(
        options: Options,
        data: &Path,
        trusted: Trusted,
        replica: Replica,
        net: Net,
        engines: Engines,
    ) -> Self {
        let home = Arc::new(Home {
            me: replica.me(),
            options,
            replica,
            net,
            engines,
            logs: Logs::new(data.join("logs")),
            usages: Usages::load(data.join("usage")),
            trusted,
            starts: Semaphore::new(STARTS),
            volumes: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(home.engines.clone().poll(home.stop.clone()));
        tasks.spawn(manage(Arc::clone(&home)));
        tasks.spawn(volumes::keep(Arc::clone(&home)));
        let (trusted, net) = (home.trusted.clone(), home.net.clone());
        tasks.spawn(trusted.follow(home.replica.clone(), net, home.stop.clone()));
        tasks.spawn(publish_platforms(Arc::clone(&home)));
        tasks.spawn(usage::keep(Arc::clone(&home)));
        if let Some(asked) = home.net.asked() {
            tasks.spawn(Answers::new(Arc::clone(&home)).serve(asked));
        }
        Self { home, tasks }
    }

    /// What this server's spaces are asked for.
    pub fn answers(&self) -> Answers {
        Answers::new(Arc::clone(&self.home))
    }

    /// Ends the workers; spaces run on, unless the options say that they end with the server.
    pub async fn stop(mut self) {
        self.home.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        if self.home.options.stop_on_exit {
            stop_all(&self.home).await;
        }
    }
}

async fn manage(home: Arc<Home>) {
    let mut changes = home.replica.watch(&[Space::KIND, Template::KIND, User::KIND, Server::KIND]);
    let mut links = home.net.reach().watch();
    let mut sights = home.engines.watch();
    let mut trust = home.trusted.watch();
    let mut seen = Sight::default();
    let mut workers: HashMap<Uuid, Arc<Notify>> = HashMap::new();
    let mut tasks: JoinSet<Uuid> = JoinSet::new();
    for space in home.replica.list::<Space>() {
        wake(&home, &mut workers, &mut tasks, space.id().uuid());
    }
    for grave in home.replica.graves(Space::KIND) {
        wake(&home, &mut workers, &mut tasks, grave.doc.uuid);
    }
    loop {
        tokio::select! {
            () = home.stop.cancelled() => break,
            Changed::Document(subject) | Changed::Record(subject) = changes.next() => {
                match subject.kind {
                    Space::KIND => wake(&home, &mut workers, &mut tasks, subject.uuid),
                    // A schedule, and how long a space may run, are in its template, and its owner has the time zone.
                    Template::KIND => {
                        let template = Id::from_uuid(subject.uuid);
                        wake_where(&home, &workers, |space| space.template == template);
                    }
                    User::KIND => {
                        let owner = Id::from_uuid(subject.uuid);
                        wake_where(&home, &workers, |space| space.owner == owner);
                    }
                    _ => wake_shared(&home, &workers),
                }
            }
            Ok(()) = links.changed() => wake_shared(&home, &workers),
            changed = sights.changed() => {
                if changed.is_err() {
                    break;
                }
                let sight = sights.borrow_and_update().clone();
                for space in differing(&seen, &sight, &workers) {
                    wake(&home, &mut workers, &mut tasks, space);
                }
                seen = sight;
            }
            Ok(()) = trust.changed() => workers.values().for_each(|worker| worker.notify_one()),
            Some(ended) = tasks.join_next() => {
                if let Ok(space) = ended {
                    workers.remove(&space);
                    // What changed while it was ending may make it our business again.
                    wake(&home, &mut workers, &mut tasks, space);
                }
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Spaces of which something else is seen than before; all, where an engine answers again.
fn differing(before: &Sight, now: &Sight, workers: &HashMap<Uuid, Arc<Notify>>) -> BTreeSet<Uuid> {
    let instances = before.instances.keys().chain(now.instances.keys());
    let all = instances.chain(before.jobs.keys()).chain(now.jobs.keys()).copied();
    let differs = |space: &Uuid| before.all_of(*space) != now.all_of(*space);
    let mut spaces: BTreeSet<_> = all.filter(differs).collect();
    spaces.extend(now.sure_since(before));
    if before.answering != now.answering {
        spaces.extend(workers.keys());
    }
    spaces
}

/// Wakes the workers of this server's spaces that are meant.
fn wake_where(
    home: &Home,
    workers: &HashMap<Uuid, Arc<Notify>>,
    is_meant: impl Fn(&Space) -> bool,
) {
    for (space, worker) in workers {
        let space = home.replica.get(Id::<Space>::from_uuid(*space));
        if space.is_some_and(|space| is_meant(&space)) {
            worker.notify_one();
        }
    }
}

/// Wakes the workers of spaces on an engine that servers share: who acts on those follows from which
/// servers are heard and see it.
fn wake_shared(home: &Home, workers: &HashMap<Uuid, Arc<Notify>>) {
    let sight = home.engines.watch();
    let spaces: Vec<_> = sight.borrow().jobs.keys().copied().collect();
    spaces.iter().filter_map(|space| workers.get(space)).for_each(|worker| worker.notify_one());
}

/// Wakes the worker of a space, or begins one where the space is this server's business.
fn wake(
    home: &Arc<Home>,
    workers: &mut HashMap<Uuid, Arc<Notify>>,
    tasks: &mut JoinSet<Uuid>,
    space: Uuid,
) {
    if let Some(worker) = workers.get(&space) {
        worker.notify_one();
    } else if is_ours(home, space) {
        let notify = Arc::new(Notify::new());
        let worker = Worker::new(Arc::clone(home), Id::from_uuid(space), Arc::clone(&notify));
        workers.insert(space, notify);
        tasks.spawn(async move {
            worker.run().await;
            space
        });
    }
}

/// Placed here; or with something left of it on an engine here; or dead, and not yet forgotten.
fn is_ours(home: &Home, space: Uuid) -> bool {
    let id = Id::<Space>::from_uuid(space);
    let status = home.replica.observed::<SpaceStatus>(id, home.me);
    let has_run = |status: SpaceStatus| status.generation.n > 0;
    let has_instances = home.engines.see(space, None).is_some_and(|found| !found.is_empty());
    // Who stands in for a home that is out of reach is seen then.
    let is_shared = home.engines.job(space).is_some();
    let witness = status.as_ref().is_some_and(|status| status.witness.is_some());
    if (is_shared || witness)
        && (home.replica.get(id).is_some() || home.replica.grave(id).is_some())
    {
        return true;
    }
    if let Some(space) = home.replica.get(id) {
        // What ran here once may have left something that is to be set aside.
        return space.placement.server == home.me || has_instances || status.is_some_and(has_run);
    }
    if home.replica.grave(id).is_none() {
        return false;
    }
    has_instances || status.is_some_and(|status| status.state != Observed::Gone)
}

/// Says in this server's record for which platforms an engine answers here.
async fn publish_platforms(home: Arc<Home>) {
    let own = Id::<Server>::from_uuid(home.me.0);
    let mut sights = home.engines.watch();
    let mut trust = home.trusted.watch();
    loop {
        let restored = *trust.borrow_and_update() == Trust::Restored;
        let status = {
            let sight = sights.borrow_and_update();
            let engines = sight.identities.iter();
            ServerStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                platforms: sight.answering.iter().map(ToString::to_string).collect(),
                engines: engines.map(|(on, id)| (on.to_string(), id.clone())).collect(),
                strays: sight.strays.clone(),
                restored,
                outdated: sight.outdated.clone(),
            }
        };
        let known = home.replica.observed(own, home.me) == Some(status.clone());
        if !known && let Err(error) = home.replica.observe(own, &status).await {
            tracing::error!(%error, "this server's record could not be written");
        }
        tokio::select! {
            () = home.stop.cancelled() => return,
            Ok(()) = sights.changed() => {}
            Ok(()) = trust.changed() => {}
            else => return,
        }
    }
}

/// Spaces whose start had been begun and not ended when their workers were.
fn under_way(home: &Home) -> Vec<(Platform, Uuid)> {
    let begun = home.replica.list::<Space>().into_iter().filter_map(|space| {
        let status: SpaceStatus = home.replica.observed(space.id(), home.me)?;
        let provisions = status.state == Observed::Provisioning;
        Some((status.driver.parse().ok().filter(|_| provisions)?, space.id().uuid()))
    });
    begun.collect()
}

/// Stops everything that carries this server's labels. What is wanted of the spaces stays as it is.
async fn stop_all(home: &Arc<Home>) {
    if home.trusted.now() == Trust::Restored {
        return;
    }
    // A start that ended with its worker may have come to something that nobody has seen yet.
    home.engines.settle(&under_way(home)).await;
    let sight = home.engines.watch().borrow().clone();
    let mut stops = JoinSet::new();
    for (platform, instance) in sight.instances.into_values().flatten() {
        let home = Arc::clone(home);
        stops.spawn(async move {
            let space = Id::from_uuid(instance.labels.space);
            let worker = Worker::new(home, space, Arc::default());
            let status = worker.status();
            let found = [(platform, instance.clone())];
            if let Err(Failure(why)) = worker.end(&instance, &status, &found).await.outcome {
                tracing::error!(%space, why, "a space could not be stopped");
                return;
            }
            worker.become_state(Observed::Stopped, status).await.ok();
        });
    }
    while stops.join_next().await.is_some() {}
}
