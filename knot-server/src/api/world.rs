//! What this server knows at one moment, put together for showing: names, owners, homes, conflicts.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use knot_core::{
    id::{Author, Id, ServerId},
    model::{self, Server, ServerStatus, SpaceStatus, Template, User, Witness},
    names::{For, Names, Unclear},
    net::Way,
    replica::Doc,
    schema::{Entity, Scalar},
    secrets::Sealed,
};
use uuid::Uuid;

use super::{
    app::{App, Reachability},
    caller::Caller,
    names::{self, unclear},
    permit,
    problem::{Code, Problem},
    spaces::{
        index::Index,
        show::{Facts, show},
    },
    types,
};
use crate::{spaces::drivers::Platform, users};

/// What is shown in a secret's place.
pub(super) const SEALED: &str = "sealed";

/// What is known of spaces, and what they are called. Made for one answer.
pub(crate) struct World<'a> {
    app: &'a App,
    templates: OnceCell<Names<()>>,
    servers: RefCell<BTreeMap<ServerId, Option<Arc<ServerStatus>>>>,
}

impl<'a> World<'a> {
    pub(crate) fn new(app: &'a App) -> Self {
        let world = Self { app, templates: OnceCell::new(), servers: RefCell::default() };
        world.index().catch_up(&app.replica);
        world
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.app.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spaces that a caller may see.
    pub(super) fn spaces_of(&self, caller: &Caller) -> Vec<Doc<model::Space>> {
        if caller.admin {
            return self.all_spaces();
        }
        let ids = self.index().of(caller.user);
        let mut spaces: Vec<_> =
            ids.into_iter().filter_map(|id| self.space(Id::from_uuid(id))).collect();
        spaces.retain(|space| permit::space(caller, space));
        spaces
    }

    /// Whether a space of an owner, other than `besides`, answers to a name.
    pub(super) fn is_taken(
        &self,
        owner: Id<User>,
        name: &str,
        besides: Option<Id<model::Space>>,
    ) -> bool {
        self.index().is_taken(owner, name, besides.map(Id::uuid))
    }

    /// The space that a caller means by a name or an id: one of its own or, where it has none of that
    /// name, one that it may see.
    pub(super) fn find(
        &self,
        caller: &Caller,
        key: &str,
        purpose: For,
    ) -> Result<Doc<model::Space>, Problem> {
        let id = match Uuid::parse_str(key) {
            Ok(id) => id,
            Err(_) => {
                let own = self.index().find(caller.user, key, purpose);
                let found = match own {
                    Err(Unclear::Nobody(_)) => {
                        let sees = |id| {
                            let id = Id::from_uuid(id);
                            let replica = &self.app.replica;
                            let space = replica.get(id).or_else(|| replica.remains(id));
                            space.is_some_and(|space| permit::space(caller, &space))
                        };
                        self.index().find_among(key, purpose, sees)
                    }
                    found => found,
                };
                let found = match (found, purpose) {
                    (Ok(id), For::Writing) => self.index().unless_nameless(key, id),
                    (found, _) => found,
                };
                found.map_err(|error| unclear("space", &error))?
            }
        };
        let space = self.space(Id::from_uuid(id)).filter(|space| permit::space(caller, space));
        space.ok_or_else(|| Problem::not_found("space", key))
    }

    /// As [`World::find`], and by other names too; of a user's where one is named.
    pub(super) fn find_for_login(
        &self,
        caller: &Caller,
        owner: Option<&str>,
        key: &str,
    ) -> Result<Doc<model::Space>, Problem> {
        let missing = || Problem::not_found("space", key);
        let owner = match owner {
            Some(name) => Some(users::find(&self.app.replica, name).ok_or_else(missing)?.id()),
            None => None,
        };
        let may = |id: &Uuid| {
            let space = self.space(Id::from_uuid(*id));
            space.filter(|space| permit::space(caller, space))
        };
        let found = match owner {
            Some(owner) if Uuid::parse_str(key).is_err() => {
                let found = self.index().find(owner, key, For::Using);
                let found = found.map_err(|error| unclear("space", &error));
                found.and_then(|id| may(&id).ok_or_else(missing))
            }
            _ => self.find(caller, key, For::Using),
        };
        let Err(Problem { code: Code::NotFound, .. }) = &found else {
            return found.and_then(|space| match owner {
                Some(owner) if space.owner != owner => Err(missing()),
                _ => Ok(space),
            });
        };
        let all = match owner {
            Some(owner) => self.index().of(owner),
            None => self.index().of(caller.user),
        };
        let named = all.iter().filter_map(may).filter(|space| space.alt_names.contains_key(key));
        let mut named: Vec<_> =
            named.filter(|space| owner.is_none_or(|owner| space.owner == owner)).collect();
        // One's own come first, as by name.
        if named.iter().any(|space| space.owner == caller.user) {
            named.retain(|space| space.owner == caller.user);
        }
        match (named.pop(), named.is_empty()) {
            (Some(space), true) => Ok(space),
            (Some(_), false) => Err(Problem::new(
                Code::AmbiguousName,
                format!("several spaces answer to {key}: name one by its own name, or its id"),
            )),
            (None, _) => found,
        }
    }

    /// The space of an owner that somebody means by a name, whoever asks.
    pub(crate) fn of_owner(
        &self,
        owner: Id<User>,
        name: &str,
        purpose: For,
    ) -> Option<Doc<model::Space>> {
        let id = self.index().find(owner, name, purpose).ok()?;
        self.space(Id::from_uuid(id))
    }

    /// The space of an owner that has another name, and the port that this one leads to. Where two have
    /// it, by edits in two parts of the cluster, it leads nowhere.
    pub(crate) fn alternative(
        &self,
        owner: Id<User>,
        name: &str,
    ) -> Option<(Doc<model::Space>, u16)> {
        let ids = self.index().of(owner);
        let spaces = ids.into_iter().filter_map(|id| self.space(Id::from_uuid(id)));
        let mut found = spaces.filter(|space| space.owner == owner).filter_map(|space| {
            let port = u16::try_from(*space.alt_names.get(name)?).ok().filter(|port| *port > 0)?;
            Some((space, port))
        });
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// The space that a caller means, to do this with it.
    pub(super) fn find_to(
        &self,
        caller: &Caller,
        key: &str,
        wanted: permit::Use,
    ) -> Result<Doc<model::Space>, Problem> {
        let space = self.find(caller, key, For::Writing)?;
        permit::check_space(caller, &space, &self.space_name(&space), wanted)?;
        Ok(space)
    }

    /// How many spaces each server is the home of.
    pub(super) fn homes(&self) -> BTreeMap<ServerId, usize> {
        self.index().homes().clone()
    }

    /// A space that was deleted and that its home has not taken down yet, as the API shows it.
    pub(super) fn dying(&self, caller: &Caller, key: &str) -> Option<types::Space> {
        let id = Id::from_uuid(Uuid::parse_str(key).ok()?);
        self.show_dying(caller, &self.app.replica.remains(id)?)
    }

    /// All such spaces that a caller may see.
    pub(super) fn all_dying(&self, caller: &Caller) -> Vec<types::Space> {
        let remains = self.app.replica.all_remains::<model::Space>();
        remains.iter().filter_map(|space| self.show_dying(caller, space)).collect()
    }

    fn show_dying(&self, caller: &Caller, doc: &Doc<model::Space>) -> Option<types::Space> {
        let home = doc.placement.server;
        let status: SpaceStatus = self.app.replica.observed(doc.id(), home)?;
        let at_home = self.app.reachability(home) == Reachability::Linked;
        if !permit::space(caller, doc) || !at_home || status.state == model::Observed::Gone {
            return None;
        }
        let (name, observed) = (doc.name.clone(), types::Observed::Deleting);
        Some(types::Space { name, observed, ..self.show(doc) })
    }

    /// A space as the API shows it.
    pub(super) fn show(&self, doc: &Doc<model::Space>) -> types::Space {
        let space: &model::Space = doc;
        let owner = self.app.replica.get(space.owner);
        let template = self.app.replica.get(space.template);
        let home = self.app.replica.get(server_id(space.placement.server));
        let status: Option<SpaceStatus> =
            self.app.replica.observed(doc.id(), space.placement.server);
        let server = self.server(space.placement.server);
        show(Facts {
            id: doc.id(),
            space,
            name: &self.space_name(doc),
            owner: owner.as_ref().map(|owner| owner.name.as_str()),
            template: template.as_ref().map(|template| {
                (&**template, self.templates().of(template.id().uuid()).unwrap_or_default())
            }),
            shares: space.shares.iter().map(|user| user_name(self.app, *user)).collect(),
            forwards: space
                .forwards
                .iter()
                .filter_map(|(port, to)| {
                    let other = self.app.replica.get(to.space);
                    let other = other.map(|other| self.space_name(&other));
                    Some(types::ports::Forward {
                        port: port.parse().ok()?,
                        space: other.unwrap_or_else(|| to.space.to_string()),
                        space_id: to.space.to_string(),
                        to: to.port,
                    })
                })
                .collect(),
            moving: space.moving_to().map(|wanted| server_name(self.app, wanted.placement.server)),
            revision: template
                .as_ref()
                .and_then(|template| self.app.judged.of(template).revision.clone()),
            home: home.as_ref().map(|home| home.name.as_str()),
            reachability: self.app.reachability(space.placement.server),
            reached: self.reached(doc.id()),
            witness: status.as_ref().and_then(|status| witness(self.app, doc.id(), status)),
            status: status.as_ref(),
            server: server.as_deref(),
            conflicts: conflicts(self.app, doc),
        })
    }

    fn reached(&self, space: Id<model::Space>) -> Option<types::Reached> {
        let (directly, through) = match self.app.reach.way(space) {
            Way::Direct => (true, Vec::new()),
            Way::Relayed(servers) => (false, servers),
            Way::None => return None,
        };
        let through = through.into_iter().map(|server| server_name(self.app, server)).collect();
        Some(types::Reached { directly, through })
    }

    /// What a server says of itself.
    fn server(&self, server: ServerId) -> Option<Arc<ServerStatus>> {
        let ask = || self.app.replica.observed(server_id(server), server).map(Arc::new);
        self.servers.borrow_mut().entry(server).or_insert_with(ask).clone()
    }

    fn templates(&self) -> &Names<()> {
        self.templates.get_or_init(|| template_names(self.app).1)
    }

    /// The name of a space.
    pub(crate) fn space_name(&self, space: &Doc<model::Space>) -> String {
        self.index().name(space.id().uuid()).unwrap_or_else(|| space.name.clone())
    }

    /// A living space by its id.
    pub(super) fn space(&self, id: Id<model::Space>) -> Option<Doc<model::Space>> {
        self.app.replica.get(id)
    }

    /// All spaces, whoever may see them.
    pub(super) fn all_spaces(&self) -> Vec<Doc<model::Space>> {
        self.app.replica.list()
    }
}

/// What another server has seen of a space later than its home, on an engine that both use: of several
/// the one with the engine's highest number.
fn witness(app: &App, space: Id<model::Space>, status: &SpaceStatus) -> Option<Witness> {
    if !status.driver.parse().is_ok_and(Platform::is_shared) {
        return None;
    }
    let others = app.replica.all_observed::<SpaceStatus>(space).into_iter();
    let later = others
        .filter_map(|(_, other)| other.witness)
        .filter(|witness| witness.generation >= status.generation && witness.index > status.index);
    later.max_by_key(|witness| witness.index)
}

/// The user that a name or an id means, to give something to or take it from.
pub(super) fn find_user(app: &App, key: &str) -> Result<Doc<User>, Problem> {
    let id = match Uuid::parse_str(key) {
        Ok(id) => id,
        Err(_) => {
            let found = users::names(&app.replica).find(&(), key, For::Writing);
            found.map_err(|error| unclear("user", &error))?
        }
    };
    app.replica.get(Id::from_uuid(id)).ok_or_else(|| Problem::not_found("user", key))
}

/// A user's name, or the id of one that is not known here.
pub(super) fn user_name(app: &App, user: Id<User>) -> String {
    app.replica.get(user).map_or_else(|| user.to_string(), |user| user.name.clone())
}

/// A server's name, or the id of one that is not known here.
pub(super) fn server_name(app: &App, server: ServerId) -> String {
    let known = app.replica.get(server_id(server));
    known.map_or_else(|| server.to_string(), |server| server.name.clone())
}

/// All templates, and what they are called.
pub(super) fn template_names(app: &App) -> (Vec<Doc<Template>>, Names<()>) {
    let templates = app.replica.list::<Template>();
    let names = names::of(&app.replica, &templates, |template| ((), &template.name));
    (templates, names)
}

/// The template that a name or an id means.
fn find_template(app: &App, key: &str, purpose: For) -> Result<Doc<Template>, Problem> {
    let id = match Uuid::parse_str(key) {
        Ok(id) => id,
        Err(_) => {
            let found = template_names(app).1.find(&(), key, purpose);
            found.map_err(|error| unclear("template", &error))?
        }
    };
    app.replica.get(Id::from_uuid(id)).ok_or_else(|| Problem::not_found("template", key))
}

/// As [`find_template`], of those that the caller may see.
pub(super) fn find_template_of(
    app: &App,
    caller: &Caller,
    key: &str,
    purpose: For,
) -> Result<Doc<Template>, Problem> {
    let found = find_template(app, key, purpose)?;
    match permit::template(caller, &found) {
        true => Ok(found),
        false => Err(Problem::not_found("template", key)),
    }
}

/// What servers and invitations are called.
pub(super) fn server_names(app: &App) -> Names<()> {
    let servers = app.replica.list::<Server>();
    names::of(&app.replica, &servers, |server| ((), &server.name))
}

/// The server that a name or an id means, to change it.
pub(super) fn find_server(app: &App, key: &str) -> Result<Doc<Server>, Problem> {
    let id = match Uuid::parse_str(key) {
        Ok(id) => id,
        Err(_) => {
            let found = server_names(app).find(&(), key, For::Writing);
            found.map_err(|error| unclear("server", &error))?
        }
    };
    app.replica.get(Id::from_uuid(id)).ok_or_else(|| Problem::not_found("server", key))
}

/// The document of a server.
pub(super) fn server_id(server: ServerId) -> Id<Server> {
    Id::from_uuid(server.0)
}

/// The fields of a document that several wrote at once.
pub(super) fn conflicts<E: Entity>(app: &App, doc: &Doc<E>) -> Vec<types::Conflict> {
    doc.conflicts()
        .map(|(field, contenders)| types::Conflict {
            field: field.to_owned(),
            values: contenders
                .iter()
                .map(|contender| types::ConflictValue {
                    value: json(&contender.value),
                    author: author(app, contender.author),
                    time: contender.time.to_string(),
                })
                .collect(),
        })
        .collect()
}

/// An author as people know them.
pub(super) fn author(app: &App, author: Option<Author>) -> String {
    match author {
        Some(Author::User(id)) => app
            .replica
            .get(Id::<User>::from_uuid(id))
            .map_or_else(|| format!("user {id}"), |user| user.name.clone()),
        Some(Author::Server(id)) => app
            .replica
            .get(server_id(id))
            .map_or_else(|| format!("server {id}"), |server| format!("server {}", server.name)),
        None => "unknown".to_owned(),
    }
}

fn json(value: &Scalar) -> serde_json::Value {
    match value {
        Scalar::Null => serde_json::Value::Null,
        Scalar::Bool(value) => (*value).into(),
        Scalar::Int(value) => (*value).into(),
        Scalar::Text(text) if is_sealed(text) => SEALED.into(),
        Scalar::Text(text) => text.as_str().into(),
    }
}

/// Whether a text is a secret as it is stored: it goes out of no server, and stands as [`SEALED`].
pub(super) fn is_sealed(text: &str) -> bool {
    text.parse::<Sealed>().is_ok()
}

/// A detail for a template that a space can no longer be started from.
pub(super) fn template_deleted(space: &str) -> Problem {
    Problem::new(
        Code::TemplateDeleted,
        format!(
            "the template of {space} was deleted, so it cannot be started: what its volumes hold stays until \
                 the space is deleted"
        ),
    )
}
