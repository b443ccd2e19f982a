//! What this server knows at one moment, put together for showing: names, owners, homes, conflicts.

use std::collections::BTreeMap;

use knot_core::{
    id::{Author, Id, ServerId},
    model::{self, Server, SpaceStatus, Template, User},
    replica::Doc,
    schema::{Entity, Scalar},
};
use uuid::Uuid;

use super::{
    app::{App, Reachability},
    caller::Caller,
    names::{Meaning, Names, ambiguous},
    permit,
    problem::{Code, Problem},
    spaces::show::{Facts, show},
    types,
};

/// All spaces, and what they are called. Made for one answer.
pub(super) struct World<'a> {
    app: &'a App,
    spaces: BTreeMap<Uuid, Doc<model::Space>>,
    names: BTreeMap<Id<User>, Names>,
    templates: Names,
}

/// What a name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// To show it: of several that share a name, the oldest answers.
    Reading,
    /// To change it: of several that share a name, none answers.
    Writing,
}

impl<'a> World<'a> {
    pub(super) fn new(app: &'a App) -> Self {
        let spaces: BTreeMap<_, _> = app
            .replica
            .list::<model::Space>()
            .into_iter()
            .map(|doc| (doc.id().uuid(), doc))
            .collect();
        let mut of_owner: BTreeMap<Id<User>, Vec<(Uuid, &str)>> = BTreeMap::new();
        for (id, space) in &spaces {
            of_owner.entry(space.owner).or_default().push((*id, &space.name));
        }
        let names = of_owner.into_iter().map(|(owner, all)| (owner, Names::new(all))).collect();
        Self { app, names, templates: template_names(app).1, spaces }
    }

    /// The spaces that a caller may see.
    pub(super) fn spaces_of(&self, caller: &Caller) -> impl Iterator<Item = &Doc<model::Space>> {
        self.spaces.values().filter(|space| permit::space(caller, space))
    }

    /// What one owner's spaces are called.
    pub(super) fn is_taken(&self, owner: Id<User>, name: &str) -> bool {
        self.names.get(&owner).is_some_and(|names| names.is_taken(name))
    }

    /// The space that a caller means by a name or an id.
    pub(super) fn find(
        &self,
        caller: &Caller,
        key: &str,
        purpose: For,
    ) -> Result<&Doc<model::Space>, Problem> {
        let nothing = || Problem::not_found("space", key);
        let seen = |id: Uuid| {
            self.spaces.get(&id).filter(|space| permit::space(caller, space)).ok_or_else(nothing)
        };
        if let Ok(id) = Uuid::parse_str(key) {
            return seen(id);
        }
        let meaning =
            |owner| self.names.get(&owner).map_or(Meaning::Nobody, |names| names.meaning(key));
        match meaning(caller.user) {
            Meaning::One(id) => seen(id),
            Meaning::Shared(id, _) if purpose == For::Reading => seen(id),
            Meaning::Shared(_, ids) => Err(ambiguous("space", key, &ids)),
            Meaning::Nobody if caller.admin => {
                let mut all = Vec::new();
                for names in self.names.values() {
                    match names.meaning(key) {
                        Meaning::One(id) => all.push(id),
                        Meaning::Shared(id, _) if purpose == For::Reading => all.push(id),
                        Meaning::Shared(_, ids) => all.extend(ids),
                        Meaning::Nobody => {}
                    }
                }
                match all.as_slice() {
                    [] => Err(nothing()),
                    [one] => seen(*one),
                    several => Err(ambiguous("space", key, several)),
                }
            }
            Meaning::Nobody => Err(nothing()),
        }
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
            name: self.names.get(&space.owner).map_or("", |names| names.of(doc.id().uuid())),
            owner: owner.as_ref().map(|owner| owner.name.as_str()),
            template: template
                .as_ref()
                .map(|template| (&**template, self.templates.of(template.id().uuid()))),
            home: home.as_ref().map(|home| home.name.as_str()),
            reachability: self.app.reachability(space.placement.server),
            status: status.as_ref(),
            conflicts: conflicts(self.app, doc),
        })
    }

    /// The name of a space.
    pub(super) fn space_name(&self, space: &Doc<model::Space>) -> &str {
        self.names.get(&space.owner).map_or("", |names| names.of(space.id().uuid()))
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
pub(super) fn template_names(app: &App) -> (Vec<Doc<Template>>, Names) {
    let templates = app.replica.list::<Template>();
    let names = Names::new(templates.iter().map(|doc| (doc.id().uuid(), doc.name.as_str())));
    (templates, names)
}

/// The template that a name or an id means.
pub(super) fn find_template(app: &App, key: &str, purpose: For) -> Result<Doc<Template>, Problem> {
    let nothing = || Problem::not_found("template", key);
    let id = match Uuid::parse_str(key) {
        Ok(id) => id,
        Err(_) => match template_names(app).1.meaning(key) {
            Meaning::One(id) => id,
            Meaning::Shared(id, _) if purpose == For::Reading => id,
            Meaning::Shared(_, ids) => return Err(ambiguous("template", key, &ids)),
            Meaning::Nobody => return Err(nothing()),
        },
    };
    app.replica.get(Id::from_uuid(id)).ok_or_else(nothing)
}

/// The server that a name or an id means.
pub(super) fn find_server(app: &App, key: &str) -> Result<Doc<Server>, Problem> {
    let nothing = || Problem::not_found("server", key);
    if let Ok(id) = Uuid::parse_str(key) {
        return app.replica.get(Id::from_uuid(id)).ok_or_else(nothing);
    }
    let mut named: Vec<_> =
        app.replica.list::<Server>().into_iter().filter(|server| server.name == key).collect();
    let ids: Vec<_> = named.iter().map(|server| server.id().uuid()).collect();
    match (named.pop(), named.is_empty()) {
        (None, _) => Err(nothing()),
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(ambiguous("server", key, &ids)),
    }
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
fn author(app: &App, author: Option<Author>) -> String {
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
