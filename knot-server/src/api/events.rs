//! The stream of changes that a browser or a program follows, as server-sent events.
//!
//! An event carries the whole of what changed, as the API shows it, and is sent when that differs
//! from what was last sent. Changes that come faster than the client takes them are told once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use knot_core::{
    id::Id,
    model::{self, Server, Template, User},
    replica::{Changed, Watch},
    schema::Entity as _,
};
use serde::Serialize;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::{
    app::App,
    caller::Caller,
    causality::Answer,
    problem::{Code, Problem},
    servers, templates,
    types::{SpaceDeleted, TemplateDeleted},
    world::{World, server_names},
};

/// How often a silent stream says that it is alive, and looks whether its caller still may listen.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The shortest time between two looks at everything: what changes meanwhile is told together.
const GAP: Duration = Duration::from_millis(50);

/// Follows what changes: `space` (a Space), `space-deleted`, `template` (a Template),
/// `template-deleted`, `server` (a Server), of what the caller may see.
#[utoipa::path(
    get, path = "/events", tag = "events",
    responses((status = 200, content_type = "text/event-stream", body = String))
)]
pub(super) async fn events(
    State(app): State<App>,
    caller: Caller,
) -> Result<Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>>, Problem> {
    if app.drain.is_cancelled() {
        return Err(Problem::new(
            Code::Draining,
            "this server is stopping: follow the events of another server",
        ));
    }
    let follower = Follower::new(app, caller.clone());
    let stream = stream::unfold(follower, |mut follower| async {
        follower.next().await.map(|event| (Ok(event), follower))
    });
    let events = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(caller.answer(events, &knot_core::replica::Token::new()))
}

/// Something that events are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Space(Uuid),
    Template(Uuid),
    Server(Uuid),
}

struct Follower {
    app: App,
    caller: Caller,
    watch: Watch,
    reachability: watch::Receiver<u64>,
    settled: watch::Receiver<u64>,
    /// What the client knows: a hash of each thing as it was last sent, or as it was at the start.
    known: BTreeMap<Subject, u64>,
    waiting: VecDeque<Event>,
    looked: Instant,
}

impl Follower {
    fn new(app: App, caller: Caller) -> Self {
        let kinds = [model::Space::KIND, Template::KIND, Server::KIND, User::KIND];
        let mut follower = Self {
            watch: app.replica.watch(&kinds),
            reachability: app.cluster.changes(),
            settled: app.judged.settled(),
            app,
            caller,
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            looked: Instant::now(),
        };
        follower.look(&Scope::All);
        follower.waiting.clear();
        follower
    }

    /// The next event; `None` where the stream is to end.
    async fn next(&mut self) -> Option<Event> {
        let drain = self.app.drain.clone();
        let mut ticks = tokio::time::interval(KEEP_ALIVE);
        ticks.tick().await;
        loop {
            if drain.is_cancelled() || !self.caller.still_holds(&self.app) {
                return None;
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let changed = tokio::select! {
                () = drain.cancelled() => return None,
                _ = ticks.tick() => continue,
                changed = self.watch.next() => Some(changed),
                changed = self.reachability.changed() => changed.ok().map(|()| None)?,
                changed = self.settled.changed() => changed.ok().map(|()| None)?,
            };
            tokio::select! {
                () = drain.cancelled() => return None,
                () = tokio::time::sleep_until(self.looked + GAP) => {}
            }
            let scope = changed.map_or(Scope::All, |changed| self.scope(changed));
            self.looked = Instant::now();
            // An admin may have become a user like any other.
            let user = self.app.replica.get(self.caller.user)?;
            self.caller.admin = user.admin;
            self.caller.groups = super::caller::groups(&self.app, &user);
            self.look(&scope);
        }
    }

    /// What to look at, given what changed and all that has changed besides.
    fn scope(&mut self, first: Changed) -> Scope {
        let mut records = BTreeSet::new();
        let mut next = Some(first);
        let mut all = false;
        while let Some(changed) = next {
            match changed {
                // A document may show in others: a space in the names of its owner's others, a
                // template, a server and a user in their spaces.
                Changed::Document(_) => all = true,
                Changed::Record(doc) if doc.kind == model::Space::KIND => {
                    records.insert(Subject::Space(doc.uuid));
                }
                Changed::Record(doc) if doc.kind == Server::KIND => {
                    records.insert(Subject::Server(doc.uuid));
                }
                Changed::Record(_) => {}
            }
            next = self.watch.try_next();
        }
        if all { Scope::All } else { Scope::Only(records) }
    }

    /// Looks at what may have changed, and queues an event for what differs.
    fn look(&mut self, scope: &Scope) {
        let app = self.app.clone();
        let world = World::new(&app);
        let caller = self.caller.clone();
        let mut there = BTreeSet::new();
        for space in world.spaces_of(&caller) {
            let subject = Subject::Space(space.id().uuid());
            there.insert(subject);
            // What its home says of itself may be why it is as it is.
            let home = Subject::Server(space.placement.server.0);
            if scope.covers(subject) || scope.covers(home) {
                self.tell(subject, "space", &world.show(&space));
            }
        }
        // A deleted space is there until its home has taken it down.
        for space in world.all_dying(&caller) {
            let subject = Subject::Space(space.id.parse().unwrap_or_default());
            there.insert(subject);
            if scope.covers(subject) {
                self.tell(subject, "space", &space);
            }
        }
        let names = server_names(&app);
        for server in servers::all(&app) {
            let subject = Subject::Server(server.id().uuid());
            there.insert(subject);
            if scope.covers(subject) {
                self.tell(subject, "server", &servers::show(&app, &server, &names));
            }
        }
        if matches!(scope, Scope::All) {
            for template in templates::all(&app, &self.caller) {
                let id = template.id.parse::<Id<Template>>().unwrap_or_default();
                let subject = Subject::Template(id.uuid());
                there.insert(subject);
                self.tell(subject, "template", &template);
            }
        }
        let covered = self.known.keys().filter(|subject| scope.covers(**subject));
        let gone: Vec<_> = covered.filter(|subject| !there.contains(subject)).copied().collect();
        for subject in gone {
            self.known.remove(&subject);
            let event = match subject {
                Subject::Space(id) => event("space-deleted", &SpaceDeleted { id: id.to_string() }),
                Subject::Template(id) => {
                    event("template-deleted", &TemplateDeleted { id: id.to_string() })
                }
                Subject::Server(_) => None,
            };
            self.waiting.extend(event);
        }
    }

    fn tell(&mut self, subject: Subject, name: &str, value: &impl Serialize) {
        let Ok(json) = serde_json::to_string(value) else { return };
        let mut hasher = DefaultHasher::new();
        json.hash(&mut hasher);
        let hash = hasher.finish();
        if self.known.insert(subject, hash) != Some(hash) {
            self.waiting.push_back(Event::default().event(name).data(json));
        }
    }
}

/// What may have changed.
enum Scope {
    All,
    Only(BTreeSet<Subject>),
}

impl Scope {
    fn covers(&self, subject: Subject) -> bool {
        match self {
            Self::All => true,
            Self::Only(subjects) => subjects.contains(&subject),
        }
    }
}

fn event(name: &str, value: &impl Serialize) -> Option<Event> {
    Event::default().event(name).json_data(value).ok()
}
