//! Templates: what spaces are made from, written and read as files.

pub(crate) mod file;
pub(crate) mod judged;
mod lines;
pub(crate) mod revisions;

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use knot_core::{
    id::Id,
    model::{self, Broken, Group, Space, Variable},
    names::{For, Names, Unclear},
    replica::{Committed, Doc, Token},
    schema::{Edit, Set},
    secrets::{Place, Sealed},
};
use uuid::Uuid;

use self::file::Password;
use super::{
    app::App,
    body::Yaml,
    caller::{Caller, Key},
    causality::{Answer, of_dead, of_read, recent},
    names::unclear,
    permit::{self, Action},
    problem::{Code, Problem},
    seal::seal_unless_same,
    types::{
        AppliedTemplate, ApplyOutcome, InvalidField, InvalidMerge, Template, TemplateParameter,
        Templates,
    },
    world::{conflicts, find_template_of, template_names},
};
use crate::spaces::render;

/// The most spaces that a refusal names.
const NAMED: usize = 5;

/// Lists all templates.
#[utoipa::path(
    get, path = "/templates", tag = "templates", responses((status = 200, body = Templates))
)]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Templates>> {
    let mut templates = all(&app, &caller);
    templates.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let token = recent::<model::Template>(&app.replica, |_| true);
    caller.answer(Json(Templates { templates }), &token)
}

/// Makes a template, or changes the one of that name, to be as its file says: an admin may.
#[utoipa::path(
    put, path = "/templates", tag = "templates",
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, body = AppliedTemplate))
)]
pub(super) async fn apply(
    State(app): State<App>,
    caller: Caller,
    Yaml(text): Yaml,
) -> Result<Answer<Json<AppliedTemplate>>, Problem> {
    permit::check(&caller, Action::WriteTemplate)?;
    let read = file::parse(&text)?;
    check_job(&app, &read).await?;
    // What is not there now may be deleted or made meanwhile: that takes the same turn.
    let _turn = app.names.lock().await;
    read.refuse(unknown(&app, &read.template))?;
    let file::Read { template: mut wanted, password, .. } = read;
    let (templates, names) = template_names(&app);
    let before = match names.find(&(), &wanted.name, For::Writing) {
        Ok(id) => templates.iter().find(|template| template.id().uuid() == id),
        Err(Unclear::Nobody(_)) => None,
        Err(several) => return Err(unclear("template", &several)),
    };
    let id = before.map_or_else(|| Id::from_uuid(Uuid::now_v7()), Doc::id);
    let stored = before.and_then(|before| before.registry_password.clone());
    wanted.registry_password = sealed(&app, id, password, stored)?;
    let author = caller.author();
    let write = move |edit: &mut Edit<'_, model::Template>| {
        put(edit, wanted);
        Ok(())
    };
    let committed: Committed<model::Template> = match before {
        Some(before) => app.replica.edit(before.id(), author, write).await?,
        None => app.replica.put(id, author, write).await?,
    };
    let outcome = outcome(before, &committed);
    tracing::info!(template = %committed.id, ?outcome, user = %caller.user, "template applied");
    applied(&app, &caller, &committed, outcome)
}

/// The published schema of the template file, for editors.
#[utoipa::path(
    get, path = "/templates/schema.json", tag = "templates", security(()),
    responses((status = 200, content_type = "application/schema+json", body = Object))
)]
pub(super) async fn schema() -> impl IntoResponse {
    let text = serde_json::to_string_pretty(&file::schema()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/schema+json")], text + "\n")
}

/// Shows one template.
#[utoipa::path(
    get, path = "/templates/{template}", tag = "templates", responses((status = 200, body = Template)),
    params(("template" = String, Path, description = "Its name or id."))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<Json<Template>>, Problem> {
    let template = find_template_of(&app, &caller, &key, For::Reading)?;
    let shown = show(&app, &template, &template_names(&app).1);
    Ok(caller.answer(Json(shown), &of_read(&template)))
}

/// Shows a template as the file that makes it.
#[utoipa::path(
    get, path = "/templates/{template}/file", tag = "templates",
    responses((status = 200, content_type = "text/yaml", body = String)),
    params(("template" = String, Path, description = "Its name or id."))
)]
pub(super) async fn file(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<impl IntoResponse>, Problem> {
    let template = find_template_of(&app, &caller, &key, For::Reading)?;
    let text = source(&app, &template)?;
    let kind = [(header::CONTENT_TYPE, "text/yaml; charset=utf-8")];
    Ok(caller.answer((kind, text), &of_read(&template)))
}

/// Deletes a template that no space is made from, for good: an admin may.
#[utoipa::path(
    delete, path = "/templates/{template}", tag = "templates", responses((status = 204)),
    params(("template" = String, Path, description = "Its name or id."))
)]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<StatusCode>, Problem> {
    permit::check(&caller, Action::DeleteTemplate)?;
    // A space that is made here at the same time takes the same turn.
    let _turn = app.names.lock().await;
    let template = find_template_of(&app, &caller, &key, For::Writing)?;
    let mut users = app.replica.list::<Space>();
    users.retain(|space| space.template == template.id());
    if !users.is_empty() {
        let some: Vec<_> = users.iter().take(NAMED).map(|space| space.name.as_str()).collect();
        let rest = users.len().saturating_sub(NAMED);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        return Err(Problem::new(
            Code::TemplateInUse,
            format!("spaces are made from it: {}{rest}; delete those first", some.join(", ")),
        ));
    }
    app.replica.delete(template.id(), caller.author()).await?;
    tracing::info!(template = %template.id(), user = %caller.user, "template deleted");
    Ok(caller.answer(StatusCode::NO_CONTENT, &of_dead(template.id().into())))
}

/// The templates that a caller may see, as the API shows them.
pub(super) fn all(app: &App, caller: &Caller) -> Vec<Template> {
    let (templates, names) = template_names(app);
    let seen = templates.iter().filter(|template| permit::template(caller, template));
    seen.map(|template| show(app, template, &names)).collect()
}

/// What a write came to.
fn outcome(
    before: Option<&Doc<model::Template>>,
    committed: &Committed<model::Template>,
) -> ApplyOutcome {
    match before {
        None => ApplyOutcome::Created,
        Some(before) if before.heads() == committed.heads => ApplyOutcome::Unchanged,
        Some(_) => ApplyOutcome::Changed,
    }
}

/// The answer to a write: the template as it is now.
fn applied(
    app: &App,
    caller: &Caller,
    committed: &Committed<model::Template>,
    outcome: ApplyOutcome,
) -> Result<Answer<Json<AppliedTemplate>>, Problem> {
    let template = find_template_of(app, caller, &committed.id.to_string(), For::Reading)?;
    let token: Token = of_read(&template);
    let template = show(app, &template, &template_names(app).1);
    Ok(caller.answer(Json(AppliedTemplate { template, outcome }), &token))
}

/// The variables and groups that a template names and that this server does not know.
fn unknown(app: &App, template: &model::Template) -> Vec<Broken> {
    let known: BTreeSet<_> =
        app.replica.list::<Variable>().iter().map(|variable| variable.name.clone()).collect();
    let unknown = render::variables(template).into_iter().filter(|(name, _)| !known.contains(name));
    let mut broken: Vec<_> = unknown
        .map(|(name, field)| {
            let why = format!(
                "`.var.{name}` names a variable that there is not: make it first with `knot variable set {name}`"
            );
            Broken { field, why }
        })
        .collect();
    let groups = app.replica.list::<Group>();
    for name in template.groups.iter().filter(|name| !groups.iter().any(|one| one.name == **name)) {
        let why =
            format!("there is no group {name}: make it first with `knot group create {name}`");
        broken.push(Broken { field: format!("groups/{name}"), why });
    }
    broken
}

/// What the engine says of a file's job.
async fn check_job(app: &App, read: &file::Read) -> Result<(), Problem> {
    let template = &read.template;
    // One with expressions in it is not yet what the engine is to read.
    if !template.job.is_empty()
        && !template.job.contains("${{")
        && let Err(why) = app.cluster.check_job(&template.job).await
    {
        read.refuse(vec![Broken { field: "job".to_owned(), why }])?;
    }
    Ok(())
}

/// The password to store: one that is stored already stays, sealed as it is.
fn sealed(
    app: &App,
    id: Id<model::Template>,
    password: Option<Password>,
    stored: Option<Sealed>,
) -> Result<Option<Sealed>, Problem> {
    let place = Place { doc: id.into(), field: "registry_password" };
    match (password, stored) {
        (None, _) => Ok(None),
        (Some(Password::Unchanged), Some(stored)) => Ok(Some(stored)),
        (Some(Password::Unchanged), None) => Err(Problem::new(
            Code::InvalidTemplate,
            "in `registry`: no password is stored that `sealed` could stand for: write the password",
        )),
        (Some(Password::Plain(plain)), stored) => {
            seal_unless_same(app, place, &plain, stored).map(Some)
        }
    }
}

/// The file of a template, under the name that it is shown with.
pub(crate) fn source(app: &App, template: &Doc<model::Template>) -> Result<String, Problem> {
    let name = template_names(app).1.of(template.id().uuid()).unwrap_or_default().to_owned();
    let named = model::Template { name, ..(**template).clone() };
    file::write(&named).map_err(|error| {
        tracing::error!(template = %template.id(), %error, "a template could not be written as a file");
        Problem::internal()
    })
}

/// A template as the API shows it.
pub(super) fn show(app: &App, doc: &Doc<model::Template>, names: &Names<()>) -> Template {
    let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let judgement = app.judged.of(doc);
    let invalid = (!judgement.broken.is_empty()).then(|| InvalidMerge {
        problems: judgement
            .broken
            .iter()
            .map(|one| InvalidField { field: one.field.clone(), why: one.why.clone() })
            .collect(),
        used: judgement.used.map(|hash| hash.to_string()),
    });
    let parameter = |(name, one): (String, model::Parameter)| TemplateParameter {
        name,
        kind: one.kind.to_string(),
        description: one.description,
        default: one.default,
        choices: one.choices,
        pattern: Some(one.pattern).filter(|pattern| !pattern.is_empty()),
        least: one.least,
        most: one.most,
        required: one.required,
    };
    Template {
        id: doc.id().to_string(),
        name: names.of(doc.id().uuid()).unwrap_or_default().to_owned(),
        description: doc.description.clone(),
        retired: doc.retired,
        platform: doc.platform.clone(),
        image: doc.image.clone(),
        command: doc.command.clone(),
        environment: doc.environment.clone(),
        volumes: doc.volumes.clone(),
        network: filled(&doc.network),
        memory: doc.memory,
        cpus: doc.millicpus.map(file::cpus),
        parameters: doc.declared().into_iter().map(parameter).collect(),
        groups: doc.groups.iter().cloned().collect(),
        zones: doc.zones.iter().cloned().collect(),
        file: file::json(doc),
        revision: judgement.revision.clone().unwrap_or_default(),
        invalid,
        conflicts: conflicts(app, doc),
    }
}

/// Writes all fields: those that are so already are no change, and what was in conflict is settled.
fn put(edit: &mut Edit<'_, model::Template>, wanted: model::Template) {
    use model::Template as T;
    let current: T = (**edit).clone();
    edit.replace(T::environment, &current.environment, &wanted.environment);
    edit.replace(T::ports, &current.ports, &wanted.ports);
    edit.replace(T::mounts, &current.mounts, &wanted.mounts);
    edit.replace(T::volumes, &current.volumes, &wanted.volumes);
    edit.replace(T::volume_sizes, &current.volume_sizes, &wanted.volume_sizes);
    edit.replace(T::volume_kinds, &current.volume_kinds, &wanted.volume_kinds);
    edit.replace(T::parameters, &current.parameters, &wanted.parameters);
    edit.replace(T::schedule, &current.schedule, &wanted.schedule);
    replace(edit, T::volume_keeps, &current.volume_keeps, &wanted.volume_keeps);
    replace(edit, T::capabilities, &current.capabilities, &wanted.capabilities);
    replace(edit, T::devices, &current.devices, &wanted.devices);
    replace(edit, T::groups, &current.groups, &wanted.groups);
    replace(edit, T::zones, &current.zones, &wanted.zones);
    replace(edit, T::without, &current.without, &wanted.without);
    edit.set_sparse(T::name, wanted.name);
    edit.set_sparse(T::description, wanted.description);
    edit.set_sparse(T::retired, wanted.retired);
    edit.set_sparse(T::platform, wanted.platform);
    edit.set_sparse(T::any_port, wanted.any_port);
    edit.set_sparse(T::image, wanted.image);
    edit.set_sparse(T::registry_user, wanted.registry_user);
    edit.set_sparse(T::registry_password, wanted.registry_password);
    edit.set_sparse(T::command, wanted.command);
    edit.set_sparse(T::network, wanted.network);
    edit.set_sparse(T::memory, wanted.memory);
    edit.set_sparse(T::millicpus, wanted.millicpus);
    edit.set_sparse(T::job, wanted.job);
    edit.set_sparse(T::startup_script, wanted.startup_script);
    edit.set_sparse(T::shutdown_script, wanted.shutdown_script);
    edit.set_sparse(T::health, wanted.health);
    edit.set_sparse(T::health_interval, wanted.health_interval);
    edit.set_sparse(T::health_timeout, wanted.health_timeout);
    edit.set_sparse(T::health_failures, wanted.health_failures);
    edit.set_sparse(T::health_restarts, wanted.health_restarts);
    edit.set_sparse(T::idle_stop, wanted.idle_stop);
    edit.set_sparse(T::schedule_starts, wanted.schedule_starts);
    edit.set_sparse(T::max_uptime, wanted.max_uptime);
    edit.set_sparse(T::links, wanted.links);
    edit.set_sparse(T::start_on_connect, wanted.start_on_connect);
    edit.set_sparse(T::start_on_visit, wanted.start_on_visit);
}

/// Makes a set equal to `wanted` by single elements.
fn replace(
    edit: &mut Edit<'_, model::Template>,
    set: Set<model::Template, String>,
    current: &BTreeSet<String>,
    wanted: &BTreeSet<String>,
) {
    for gone in current.difference(wanted) {
        edit.remove(set, gone);
    }
    for one in wanted {
        edit.insert(set, one);
    }
}
