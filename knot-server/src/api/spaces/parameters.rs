//! The values that a space is given for its template's parameters.

use std::collections::BTreeMap;

use axum::{extract::State, http::StatusCode};
use knot_core::{
    id::Id,
    model::{self, Parameter, ParameterKind, Template},
    replica::Doc,
    secrets::Place,
};

use super::{Shown, to_change, written};
use crate::{
    api::{
        app::App,
        body::Body,
        caller::{Caller, Key},
        permit::Use,
        problem::{Code, Problem},
        templates::seal,
        types::{SetParameters, Space},
        world::template_deleted,
    },
    spaces::{
        current::{self, NoCurrent},
        fill,
    },
};

/// Sets parameters of a space, for its next start.
#[utoipa::path(
    put, path = "/spaces/{space}/parameters", tag = "spaces", request_body = SetParameters,
    responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Body(wanted): Body<SetParameters>,
) -> Shown {
    let space = to_change(&app, &caller, &key, Use::Edit)?;
    let template: Doc<Template> =
        app.replica.get(space.template).ok_or_else(|| template_deleted(&space.name))?;
    let edited = edited(&app, space.id(), &template, wanted.parameters)?;
    let committed = app
        .replica
        .edit(space.id(), caller.author(), move |edit| {
            for (name, value) in edited {
                match value {
                    Some(value) => edit.put(model::Space::parameters, &name, value),
                    None => edit.take(model::Space::parameters, &name),
                }
            }
            Ok(())
        })
        .await?;
    written(&app, &caller, StatusCode::OK, &committed)
}

/// Looks at the values for a new space, and seals the secret ones.
pub(super) fn given(
    app: &App,
    space: Id<model::Space>,
    template: &Template,
    given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    let declared = template.declared();
    for (name, parameter) in declared.iter().filter(|(name, _)| !given.contains_key(*name)) {
        not_missing(name, parameter)?;
    }
    checked(app, space, &declared, given)
}

/// Looks at the values that a space's parameters are to have, and seals the secret ones; `None` takes
/// a value away.
pub(super) fn edited(
    app: &App,
    space: Id<model::Space>,
    template: &Template,
    wanted: BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, Option<String>>, Problem> {
    let declared = template.declared();
    let (given, taken): (BTreeMap<_, _>, BTreeMap<_, _>) =
        wanted.into_iter().partition(|(_, value)| value.is_some());
    for name in taken.keys() {
        if let Some(parameter) = declared.get(name) {
            not_missing(name, parameter)?;
        }
    }
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let given = checked(app, space, &declared, given)?;
    let given = given.into_iter().map(|(name, value)| (name, Some(value)));
    Ok(given.chain(taken).collect())
}

/// Refuses a template that no new space is made from.
pub(super) async fn may_be_made(app: &App, template: &Doc<Template>) -> Result<(), Problem> {
    if template.retired {
        return Err(Problem::new(
            Code::TemplateRetired,
            format!(
                "the template {} is retired: its spaces go on, and no new ones are made; choose another",
                template.name
            ),
        ));
    }
    match current::current(&app.replica, template).await {
        Ok(_) => Ok(()),
        Err(NoCurrent::NeverValid(broken)) => Err(Problem::new(
            Code::InvalidTemplate,
            format!("no revision of the template can be used: {broken}; an admin mends it"),
        )),
        Err(NoCurrent::History(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(template = %template.id(), error, "a template's history could not be read");
            Err(Problem::internal())
        }
    }
}

fn not_missing(name: &str, parameter: &Parameter) -> Result<(), Problem> {
    if parameter.required && parameter.default.is_none() {
        let what = match parameter.description.as_str() {
            "" => String::new(),
            what => format!(" ({what})"),
        };
        let why = format!("the parameter {name}{what} needs a value: give it one");
        return Err(wrong(name, why));
    }
    Ok(())
}

fn checked(
    app: &App,
    space: Id<model::Space>,
    declared: &BTreeMap<String, Parameter>,
    given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    let mut checked = BTreeMap::new();
    for (name, value) in given {
        let parameter = declared.get(&name).ok_or_else(|| {
            let all: Vec<_> = declared.keys().map(String::as_str).collect();
            let why = match all.is_empty() {
                true => format!("the template has no parameter `{name}`: it has none at all"),
                false => {
                    format!("the template has no parameter `{name}`: it has {}", all.join(", "))
                }
            };
            wrong(&name, why)
        })?;
        fill::accepts(parameter, &value)
            .map_err(|why| format!("the value of parameter {name} is refused: {why}"))
            .map_err(|why| wrong(&name, why))?;
        let value = match parameter.kind {
            ParameterKind::Secret => {
                let field = format!("parameters/{name}");
                seal(app, Place { doc: space.into(), field: &field }, &value)?.to_string()
            }
            // A text that looks sealed would be taken for a secret.
            _ if value.parse::<knot_core::secrets::Sealed>().is_ok() => {
                let why = format!("the value of parameter {name} is a sealed secret");
                return Err(wrong(&name, why));
            }
            _ => value,
        };
        checked.insert(name, value);
    }
    Ok(checked)
}

fn wrong(name: &str, why: String) -> Problem {
    Problem::new(Code::InvalidParameter, why).of_field(format!("parameters/{name}"))
}
