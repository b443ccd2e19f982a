//! What this server knows at one moment, put together for showing: names, owners, homes, conflicts.

use std::collections::BTreeMap;

use knot_core::{
    id::{Author, Id, ServerId},
    model::{self, Server, SpaceStatus, Template, User},
    names::{For, Names, Unclear},
    replica::Doc,
    schema::{Entity, Scalar},
};
use uuid::Uuid;

use super::{
    app::{App, Reachability},
    caller::Caller,
    names::{self, unclear},
    permit,
    problem::{Code, Problem},
    spaces::show::{Facts, show},
    types,
};

/// All spaces, and what they are called. Made for one answer.
pub(super) struct World<'a> {
    app: &'a App,
    spaces: BTreeMap<Uuid, Doc<model::Space>>,
    names: Names<Id<User>>,
    templates: Names<()>,
}

impl<'a> World<'a> {
    pub(super) fn new(app: &'a App) -> Self {
        let spaces = app.replica.list::<model::Space>();
        let names = names::of(&app.replica, &spaces, |space| (space.owner, &space.name));
        let spaces = spaces.into_iter().map(|doc| (doc.id().uuid(), doc)).collect();
        Self { app, names, templates: template_names(app).1, spaces }
    }

    /// The spaces that a caller may see.
    pub(super) fn spaces_of(&self, caller: &Caller) -> impl Iterator<Item = &Doc<model::Space>> {
        self.spaces.values().filter(|space| permit::space(caller, space))
    }

    /// What one owner's spaces are called.
    pub(super) fn is_taken(&self, owner: Id<User>, name: &str) -> bool {
        self.names.is_taken(&owner, name)
    }

    /// The space that a caller means by a name or an id: one of its own or, for an admin who has none
    /// of that name, anybody's.
    pub(super) fn find(
        &self,
        caller: &Caller,
        key: &str,
        purpose: For,
    ) -> Result<&Doc<model::Space>, Problem> {
        let id = match Uuid::parse_str(key) {
            Ok(id) => id,
            Err(_) => match self.names.find(&caller.user, key, purpose) {
                Err(Unclear::Nobody(_)) if caller.admin => self.names.find_anywhere(key, purpose),
                found => found,
            }
            .map_err(|error| unclear("space", &error))?,
        };
        let space = self.spaces.get(&id).filter(|space| permit::space(caller, space));
        space.ok_or_else(|| Problem::not_found("space", key))
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
        show(Facts {
            id: doc.id(),
            space,
            name: self.space_name(doc),
            owner: owner.as_ref().map(|owner| owner.name.as_str()),
            template: template.as_ref().map(|template| {
                (&**template, self.templates.of(template.id().uuid()).unwrap_or_default())
            }),
            revision: template
                .as_ref()
                .and_then(|template| self.app.judged.of(template).revision.clone()),
            home: home.as_ref().map(|home| home.name.as_str()),
            reachability: self.app.reachability(space.placement.server),
            status: status.as_ref(),
            conflicts: conflicts(self.app, doc),
        })
    }

    /// The name of a space.
    pub(super) fn space_name(&self, space: &Doc<model::Space>) -> &str {
        self.names.of(space.id().uuid()).unwrap_or_default()
    }

    /// A space by its id.
    pub(super) fn space(&self, id: Id<model::Space>) -> Option<&Doc<model::Space>> {
        self.spaces.get(&id.uuid())
    }

    /// All spaces, whoever may see them.
    pub(super) fn all_spaces(&self) -> impl Iterator<Item = &Doc<model::Space>> {
        self.spaces.values()
    }
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
        Scalar::Text(text) => text.as_str().into(),
    }
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
