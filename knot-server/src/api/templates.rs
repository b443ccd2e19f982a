//! Templates: what spaces are made from, written and read as files.

pub(crate) mod file;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use knot_core::{
    model::{self, Space},
    names::{For, Names, Unclear},
    replica::{Committed, Doc, Token},
    schema::Edit,
};

use super::{
    app::App,
    body::Yaml,
    caller::{Caller, Key},
    causality::{Answer, of_dead, of_read, recent},
    names::unclear,
    permit::{self, Action},
    problem::{Code, Problem},
    types::{AppliedTemplate, ApplyOutcome, Template, Templates},
    world::{conflicts, find_template, template_names},
};

/// The most spaces that a refusal names.
const NAMED: usize = 5;

/// Lists all templates.
#[utoipa::path(
    get, path = "/templates", tag = "templates", responses((status = 200, body = Templates))
)]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Templates>> {
    let mut templates = all(&app);
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
    let wanted = file::parse(&text)?;
    let _turn = app.names.lock().await;
    let (templates, names) = template_names(&app);
    let before = match names.find(&(), &wanted.name, For::Writing) {
        Ok(id) => templates.iter().find(|template| template.id().uuid() == id),
        Err(Unclear::Nobody(_)) => None,
        Err(several) => return Err(unclear("template", &several)),
    };
    let author = caller.author();
    let write = move |edit: &mut Edit<'_, model::Template>| {
        put(edit, wanted);
        Ok(())
    };
    let committed: Committed<model::Template> = match before {
        Some(before) => app.replica.edit(before.id(), author, write).await?,
        None => app.replica.create(author, write).await?,
    };
    let outcome = match before {
        None => ApplyOutcome::Created,
        Some(before) if before.heads() == committed.heads => ApplyOutcome::Unchanged,
        Some(_) => ApplyOutcome::Changed,
    };
    tracing::info!(template = %committed.id, ?outcome, user = %caller.user, "template applied");
    let id = committed.id.to_string();
    let template = find_template(&app, &id, For::Reading)?;
    let token: Token = of_read(&template);
    let template = show(&app, &template, &template_names(&app).1);
    Ok(caller.answer(Json(AppliedTemplate { template, outcome }), &token))
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
    let template = find_template(&app, &key, For::Reading)?;
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
    let template = find_template(&app, &key, For::Reading)?;
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
    let template = find_template(&app, &key, For::Writing)?;
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

/// All templates as the API shows them.
pub(super) fn all(app: &App) -> Vec<Template> {
    let (templates, names) = template_names(app);
    templates.iter().map(|template| show(app, template, &names)).collect()
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
    Template {
        id: doc.id().to_string(),
        name: names.of(doc.id().uuid()).unwrap_or_default().to_owned(),
        description: doc.description.clone(),
        platform: doc.platform.clone(),
        image: doc.image.clone(),
        command: doc.command.clone(),
        environment: doc.environment.clone(),
        volumes: doc.volumes.clone(),
        network: filled(&doc.network),
        memory: doc.memory,
        cpus: doc.millicpus.map(file::cpus),
        revision: doc.revision(),
        conflicts: conflicts(app, doc),
    }
}

/// Writes all fields: those that are so already are no change, and what was in conflict is settled.
fn put(edit: &mut Edit<'_, model::Template>, wanted: model::Template) {
    use model::Template as T;
    let current: T = (**edit).clone();
    edit.replace(T::environment, &current.environment, &wanted.environment);
    edit.replace(T::volumes, &current.volumes, &wanted.volumes);
    edit.set(T::name, wanted.name);
    edit.set(T::description, wanted.description);
    edit.set(T::platform, wanted.platform);
    edit.set(T::image, wanted.image);
    edit.set(T::command, wanted.command);
    edit.set(T::network, wanted.network);
    edit.set(T::memory, wanted.memory);
    edit.set(T::millicpus, wanted.millicpus);
}
