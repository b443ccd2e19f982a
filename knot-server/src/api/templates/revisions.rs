//! What a template was: its revisions, what differs between two, and going back to one.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use knot_core::{
    doc::history::{Change, History},
    id::ChangeHash,
    model::{self, Template},
    names::For,
    replica::{Doc, HistoryError},
    schema::{Edit, Entity as _, Fields, Scalar},
};
use serde::Deserialize;

use super::{applied, lines, outcome};
use crate::{
    api::{
        app::App,
        body::Body,
        caller::{Asked, Caller, Key},
        causality::{Answer, of_read},
        permit::{self, Action},
        problem::{Code, Problem},
        types::{
            AppliedTemplate, FieldDifference, RetireTemplate, RevertTemplate, TemplateDifference,
            TemplateRevision, TemplateRevisions,
        },
        world::{SEALED, author, find_template_of, is_sealed},
    },
    spaces::validity,
};

/// How many revisions an answer lists, unless told, and at most.
const PAGE: (usize, usize) = (50, 500);
/// How many revisions a page shows.
const SHOWN: usize = 20;
/// A text of more lines or bytes than this is compared line by line.
const LONG: (usize, usize) = (1, 120);
/// The fewest digits that name a revision.
const DIGITS: usize = 6;

#[derive(Deserialize)]
pub(crate) struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(crate) struct Between {
    from: Option<String>,
    to: Option<String>,
}

/// Lists what was changed in a template, by whom and when: a change always before those that it was
/// made on.
#[utoipa::path(
    get, path = "/templates/{template}/revisions", tag = "templates",
    responses((status = 200, body = TemplateRevisions)),
    params(
        ("template" = String, Path, description = "Its name or id."),
        ("after" = Option<String>, Query, description = "The last revision of the page before."),
        ("limit" = Option<usize>, Query, description = "How many to list: 50 if left out, 500 at most."),
    )
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Asked(Page { after, limit }): Asked<Page>,
) -> Result<Answer<Json<TemplateRevisions>>, Problem> {
    let template = find_template_of(&app, &caller, &key, For::Reading)?;
    let limit = limit.unwrap_or(PAGE.0).clamp(1, PAGE.1);
    let (changes, next) =
        read(&app, &template, move |history| page(history, after.as_deref(), limit)).await?;
    let used = app.judged.of(&template).used;
    let revisions = changes.iter().map(|change| show(&app, change, used)).collect();
    Ok(caller.answer(Json(TemplateRevisions { revisions, next }), &of_read(&template)))
}

/// Says what differs between two revisions of a template, field by field. Left out, `to` is how it is
/// now, and `from` what `to` was made on.
#[utoipa::path(
    get, path = "/templates/{template}/difference", tag = "templates",
    responses((status = 200, body = TemplateDifference)),
    params(
        ("template" = String, Path, description = "Its name or id."),
        ("from" = Option<String>, Query, description = "A revision, or the first digits of it."),
        ("to" = Option<String>, Query, description = "A revision, or the first digits of it."),
    )
)]
pub(crate) async fn difference(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Asked(Between { from, to }): Asked<Between>,
) -> Result<Answer<Json<TemplateDifference>>, Problem> {
    let template = find_template_of(&app, &caller, &key, For::Reading)?;
    let now = template.heads().to_vec();
    let work = move |history: &History| {
        let to = match to {
            Some(text) => vec![find(history, &text)?],
            None => now,
        };
        let from = match from {
            Some(text) => vec![find(history, &text)?],
            None => parents(history, &to),
        };
        let (old, new) = (state(history, &from)?, state(history, &to)?);
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let fields = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
        let fields = fields.map(|key| compare(key, old.get(key), new.get(key)));
        let fields = fields.filter(|field| field.from != field.to).collect();
        let hex = |hashes: &[ChangeHash]| hashes.iter().map(ChangeHash::to_string).collect();
        Ok(TemplateDifference { from: hex(&from), to: hex(&to), fields })
    };
    let difference = read(&app, &template, work).await?;
    Ok(caller.answer(Json(difference), &of_read(&template)))
}

/// Makes a template what it was in an earlier revision: an admin may. That is a new revision; the
/// name stays as it is.
#[utoipa::path(
    post, path = "/templates/{template}/revert", tag = "templates", request_body = RevertTemplate,
    responses((status = 200, body = AppliedTemplate)),
    params(("template" = String, Path, description = "Its name or id."))
)]
pub(crate) async fn revert(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(wanted): Body<RevertTemplate>,
) -> Result<Answer<Json<AppliedTemplate>>, Problem> {
    permit::check(&caller, Action::WriteTemplate)?;
    // A group that is deleted here at the same time takes the same turn.
    let _turn = app.names.lock().await;
    let template = find_template_of(&app, &caller, &key, For::Writing)?;
    let name = template.name.clone();
    let work = move |history: &History| {
        let hash = find(history, &wanted.revision)?;
        Ok((hash, Template { name, ..Template::read(&state(history, &[hash])?) }))
    };
    let (hash, then) = read(&app, &template, work).await?;
    let unknown = || super::unknown(&app, &then).into_iter().next();
    if let Some(broken) = validity::broken(&then).into_iter().next().or_else(unknown) {
        return Err(Problem::new(
            Code::InvalidTemplate,
            format!("that revision cannot be used: {broken}; choose another, or apply a file"),
        ));
    }
    let write = move |edit: &mut Edit<'_, Template>| {
        super::put(edit, then);
        Ok(())
    };
    let committed = app.replica.edit(template.id(), caller.author(), write).await?;
    let outcome = outcome(Some(&template), &committed);
    tracing::info!(template = %committed.id, to = %hash, user = %caller.user, "template reverted");
    applied(&app, &caller, &committed, outcome)
}

/// What a page of a template's history shows: each revision, and what differs from what it was made
/// on; and where the next page begins.
pub(crate) async fn pages(
    app: &App,
    caller: &Caller,
    key: &str,
    after: Option<String>,
) -> Result<(Doc<Template>, Vec<(TemplateRevision, Vec<FieldDifference>)>, Option<String>), Problem>
{
    let template = find_template_of(app, caller, key, For::Reading)?;
    let work = move |history: &History| {
        let (changes, next) = page(history, after.as_deref(), SHOWN)?;
        let with_fields = changes.into_iter().map(|change| {
            let old = state(history, &change.parents)?;
            let mut fields: Vec<_> = change
                .fields
                .iter()
                .map(|(key, value)| compare(key, old.get(key), Some(value)))
                .filter(|one| one.from != one.to)
                .collect();
            fields.sort_by(|a, b| a.field.cmp(&b.field));
            Ok((change, fields))
        });
        Ok((with_fields.collect::<Result<Vec<_>, Problem>>()?, next))
    };
    let (changes, next) = read(app, &template, work).await?;
    let used = app.judged.of(&template).used;
    let shown = changes.into_iter().map(|(change, fields)| (show(app, &change, used), fields));
    let shown = shown.collect();
    Ok((template, shown, next))
}

/// What `work` makes of a template's history; both take some milliseconds for each thousand changes.
async fn read<T: Send + 'static>(
    app: &App,
    template: &Doc<Template>,
    work: impl FnOnce(&History) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let history = app.replica.history(template.id()).await.map_err(|error| match error {
        HistoryError::Unknown(_) => Problem::not_found("template", &template.id().to_string()),
        error => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a template's history could not be read");
            Problem::internal()
        }
    })?;
    let worked = tokio::task::spawn_blocking(move || work(&history)).await;
    worked.map_err(|_| Problem::internal())?
}

/// A page of changes, and what the next one comes after.
fn page(
    history: &History,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<Change>, Option<String>), Problem> {
    let after = after.map(|digits| find(history, digits)).transpose()?;
    let mut changes = history.page(after, limit + 1).map_err(unknown)?;
    let more = changes.len() > limit;
    changes.truncate(limit);
    let next = changes.last().filter(|_| more).map(|last| last.hash.to_string());
    Ok((changes, next))
}

fn unknown(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::NotFound, error.to_string())
}

/// The change that a hash, or its first digits, names.
fn find(history: &History, text: &str) -> Result<ChangeHash, Problem> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() < DIGITS || text.len() > 64 || !text.bytes().all(hex) {
        return Err(Problem::new(
            Code::MalformedRequest,
            format!("a revision is named by at least {DIGITS} of its 64 hexadecimal digits"),
        ));
    }
    let found = history.starting(text);
    match (found.first(), found.get(1)) {
        (Some(hash), None) => Ok(*hash),
        (None, _) => Err(Problem::not_found("revision", text)),
        (Some(_), Some(_)) => Err(Problem::new(
            Code::AmbiguousName,
            format!("several revisions begin with {text}: write more digits"),
        )),
    }
}

/// What changes were made on that is none of them.
fn parents(history: &History, of: &[ChangeHash]) -> Vec<ChangeHash> {
    let changes = of.iter().filter_map(|hash| history.change(hash));
    let parents: BTreeSet<_> = changes.flat_map(|change| change.parents).collect();
    parents.into_iter().filter(|parent| !of.contains(parent)).collect()
}

fn state(history: &History, heads: &[ChangeHash]) -> Result<Fields, Problem> {
    if heads.is_empty() {
        return Ok(Fields::new());
    }
    Ok(history.at(heads, Template::KIND, &model::schema()).map_err(unknown)?.fields)
}

fn show(app: &App, change: &Change, used: Option<ChangeHash>) -> TemplateRevision {
    let mut fields: Vec<_> = change.fields.iter().map(|(key, _)| key.clone()).collect();
    fields.sort_unstable();
    fields.dedup();
    TemplateRevision {
        id: change.hash.to_string(),
        author: author(app, change.author),
        time: change.time.to_string(),
        fields,
        parents: change.parents.iter().map(ChangeHash::to_string).collect(),
        used_for_invalid: used == Some(change.hash),
    }
}

fn compare(key: &str, old: Option<&Scalar>, new: Option<&Scalar>) -> FieldDifference {
    let text = |scalar: Option<&Scalar>| match scalar {
        None | Some(Scalar::Null) => None,
        Some(Scalar::Bool(value)) => Some(value.to_string()),
        Some(Scalar::Int(value)) => Some(value.to_string()),
        Some(Scalar::Text(text)) if is_sealed(text) => Some(SEALED.to_owned()),
        // An empty text is what a field has that was never written.
        Some(Scalar::Text(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
    };
    let (from, mut to) = (text(old), text(new));
    if from == to && old != new && to.as_deref() == Some(SEALED) {
        to = Some(format!("{SEALED}, another"));
    }
    let long = |text: &Option<String>| {
        text.as_ref().is_some_and(|text| text.lines().count() > LONG.0 || text.len() > LONG.1)
    };
    let text = (long(&from) || long(&to)).then(|| {
        lines::diff(from.as_deref().unwrap_or_default(), to.as_deref().unwrap_or_default())
    });
    FieldDifference { field: key.to_owned(), from, to, text }
}

/// Retires a template, or takes it into use again: an admin may. Its spaces go on either way.
#[utoipa::path(
    put, path = "/templates/{template}/retired", tag = "templates",
    request_body = RetireTemplate,
    responses((status = 200, body = AppliedTemplate)),
    params(("template" = String, Path, description = "Its name or id."))
)]
pub(crate) async fn retire(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(wanted): Body<RetireTemplate>,
) -> Result<Answer<Json<AppliedTemplate>>, Problem> {
    permit::check(&caller, Action::WriteTemplate)?;
    // A space that is made here at the same time takes the same turn.
    let _turn = app.names.lock().await;
    let template = find_template_of(&app, &caller, &key, For::Writing)?;
    let write = move |edit: &mut Edit<'_, Template>| {
        edit.set(Template::retired, wanted.retired);
        Ok(())
    };
    let committed = app.replica.edit(template.id(), caller.author(), write).await?;
    let outcome = outcome(Some(&template), &committed);
    tracing::info!(template = %template.id(), retired = wanted.retired, "template retired");
    applied(&app, &caller, &committed, outcome)
}
