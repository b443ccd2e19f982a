//! The values that a space is given for its template's parameters.

use std::collections::BTreeMap;

use axum::extract::State;
use knot_core::{
    id::Id,
    model::{self, Parameter, ParameterKind, Template},
    replica::Doc,
    secrets::Place,
};

use super::{Shown, change, to_change};
use crate::{
    api::{
        app::App,
        body::Body,
        caller::{Caller, Key},
        permit::Use,
        problem::{Code, Problem},
        seal::seal_unless_same,
        types::{SetParameters, Space},
        world::{is_sealed, template_deleted},
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
    let declared = template.declared();
    let edited = wanted.parameters.into_iter().map(|(name, value)| {
        let value = match value {
            Some(value) => {
                Some(judged(&app, space.id(), &declared, &name, value, &space.parameters)?)
            }
            None => {
                // One that the template does not have any more may go.
                declared.get(&name).map_or(Ok(()), |parameter| not_missing(&name, parameter))?;
                None
            }
        };
        Ok((name, value))
    });
    let edited: BTreeMap<_, _> = edited.collect::<Result<_, Problem>>()?;
    change(&app, &caller, &space, move |edit| {
        for (name, value) in edited {
            match value {
                Some(value) => edit.put(model::Space::parameters, &name, value),
                None => edit.take(model::Space::parameters, &name),
            }
        }
    })
    .await
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
    let none = BTreeMap::new();
    let judged = given.into_iter().map(|(name, value)| {
        let value = judged(app, space, &declared, &name, value, &none)?;
        Ok((name, value))
    });
    judged.collect()
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

/// A value that was given for a parameter, as it is to be stored: a secret is sealed.
fn judged(
    app: &App,
    space: Id<model::Space>,
    declared: &BTreeMap<String, Parameter>,
    name: &str,
    value: String,
    stored: &BTreeMap<String, String>,
) -> Result<String, Problem> {
    let parameter = declared.get(name).ok_or_else(|| {
        let all: Vec<_> = declared.keys().map(String::as_str).collect();
        let why = match all.is_empty() {
            true => format!("the template has no parameter `{name}`: it has none at all"),
            false => format!("the template has no parameter `{name}`: it has {}", all.join(", ")),
        };
        wrong(name, why)
    })?;
    fill::accepts(parameter, &value)
        .map_err(|why| format!("the value of parameter {name} is refused: {why}"))
        .map_err(|why| wrong(name, why))?;
    match parameter.kind {
        ParameterKind::Secret => {
            let field = format!("parameters/{name}");
            let place = Place { doc: space.into(), field: &field };
            let stored = stored.get(name).and_then(|stored| stored.parse().ok());
            Ok(seal_unless_same(app, place, &value, stored)?.to_string())
        }
        // A text that looks sealed would be taken for a secret.
        _ if is_sealed(&value) => {
            Err(wrong(name, format!("the value of parameter {name} is a sealed secret")))
        }
        _ => Ok(value),
    }
}

fn wrong(name: &str, why: String) -> Problem {
    Problem::new(Code::InvalidParameter, why).of_field(format!("parameters/{name}"))
}
