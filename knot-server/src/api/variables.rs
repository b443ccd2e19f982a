//! Variables: values that templates name, for admins.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use knot_core::{id::Id, model, replica::Doc, secrets::Place};
use uuid::Uuid;

use super::{
    app::App,
    body::Body,
    caller::{Caller, Key},
    causality::{Answer, of_dead, of_read, recent},
    names,
    permit::{self, Action},
    problem::{Code, Problem},
    seal::seal_unless_same,
    types::{LONGEST_VARIABLE, SetVariable, Variable, Variables},
    world::{SEALED, conflicts},
};

/// The most zones of one variable.
const ZONES: usize = 50;

/// Lists all variables: an admin may.
#[utoipa::path(
    get, path = "/variables", tag = "variables", responses((status = 200, body = Variables))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Answer<Json<Variables>>, Problem> {
    permit::check(&caller, Action::Variables)?;
    let variables = all(&app);
    let token = recent::<model::Variable>(&app.replica, |_| true);
    Ok(caller.answer(Json(Variables { variables }), &token))
}

/// All variables, by name and zones.
pub(super) fn all(app: &App) -> Vec<Variable> {
    let variables = app.replica.list::<model::Variable>();
    let mut variables: Vec<_> = variables.iter().map(|one| show(app, one)).collect();
    variables.sort_by(|a, b| (&a.name, &a.zones, &a.id).cmp(&(&b.name, &b.zones, &b.id)));
    variables
}

/// Sets the variable of this name for these zones: an admin may. Running spaces have the old value
/// until their next start.
#[utoipa::path(
    put, path = "/variables/{variable}", tag = "variables", request_body = SetVariable,
    responses((status = 200, body = Variable)),
    params(("variable" = String, Path, description = "Its name."))
)]
pub(super) async fn set(
    State(app): State<App>,
    caller: Caller,
    Key(name): Key,
    Body(wanted): Body<SetVariable>,
) -> Result<Answer<Json<Variable>>, Problem> {
    permit::check(&caller, Action::Variables)?;
    check_name(&name).map_err(|problem| problem.of_field("name"))?;
    if wanted.value.len() > LONGEST_VARIABLE {
        return Err(Problem::new(
            Code::TooLarge,
            format!("a variable has at most {LONGEST_VARIABLE} bytes: {name} would have more"),
        ));
    }
    let zones: BTreeSet<String> = wanted.zones.into_iter().collect();
    if zones.len() > ZONES || zones.iter().any(|zone| zone.is_empty() || zone.starts_with('!')) {
        return Err(Problem::new(
            Code::MalformedRequest,
            format!("zones are names, at most {ZONES}: a variable names those that it is for"),
        )
        .of_field("zones"));
    }
    let _turn = app.names.lock().await;
    let lives = |life| model::Variable::id_of(&name, &zones, life);
    let id = names::life(&app.replica, lives);
    let secret = match wanted.secret {
        false => None,
        true => {
            let place = Place { doc: id.into(), field: "secret" };
            let stored = app.replica.get(id).and_then(|one| one.secret.clone());
            Some(seal_unless_same(&app, place, &wanted.value, stored)?)
        }
    };
    let value = if wanted.secret { String::new() } else { wanted.value };
    let committed = app
        .replica
        .put::<model::Variable, _>(id, caller.author(), move |edit| {
            edit.set(model::Variable::name, name);
            edit.set(model::Variable::value, value);
            edit.set(model::Variable::secret, secret);
            if let Some(description) = wanted.description {
                edit.set(model::Variable::description, description);
            }
            for zone in &zones {
                edit.insert(model::Variable::zones, zone);
            }
            Ok(())
        })
        .await?;
    tracing::info!(variable = %committed.id, user = %caller.user, "variable set");
    let variable = app.replica.get(committed.id).ok_or_else(Problem::internal)?;
    Ok(caller.answer(Json(show(&app, &variable)), &of_read(&variable)))
}

/// Deletes a variable: an admin may. Templates that name it can no longer be started from.
#[utoipa::path(
    delete, path = "/variables/{variable}", tag = "variables", responses((status = 204)),
    params(("variable" = String, Path, description = "Its id; or its name, where there is one of it."))
)]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<StatusCode>, Problem> {
    permit::check(&caller, Action::Variables)?;
    let variable = find(&app, &key)?;
    app.replica.delete(variable.id(), caller.author()).await?;
    tracing::info!(variable = %variable.id(), user = %caller.user, "variable deleted");
    Ok(caller.answer(StatusCode::NO_CONTENT, &of_dead(variable.id().into())))
}

fn find(app: &App, key: &str) -> Result<Doc<model::Variable>, Problem> {
    if let Ok(id) = Uuid::parse_str(key) {
        let found = app.replica.get(Id::from_uuid(id));
        return found.ok_or_else(|| Problem::not_found("variable", key));
    }
    let mut named = app.replica.list::<model::Variable>();
    named.retain(|one| one.name == key);
    match (named.len(), named.pop()) {
        (1, Some(one)) => Ok(one),
        (_, None) => Err(Problem::not_found("variable", key)),
        (count, Some(_)) => Err(Problem::new(
            Code::AmbiguousName,
            format!(
                "{count} variables are called {key}, each for other zones: write an id from the list"
            ),
        )),
    }
}

fn check_name(name: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(allowed)
    {
        return Ok(());
    }
    let name: String = name.chars().take(80).collect();
    Err(Problem::new(
        Code::InvalidName,
        format!(
            "`{name}` is no variable's name: up to 63 letters, digits and _, beginning with a letter"
        ),
    ))
}

fn show(app: &App, doc: &Doc<model::Variable>) -> Variable {
    let secret = doc.secret.is_some();
    let mut conflicts = conflicts(app, doc);
    // What was a secret on one side of a cut is one in the conflict too.
    for conflict in &mut conflicts {
        if secret && conflict.field == "value" {
            conflict.values.iter_mut().for_each(|value| value.value = SEALED.into());
        }
    }
    Variable {
        id: doc.id().to_string(),
        name: doc.name.clone(),
        description: doc.description.clone(),
        zones: doc.zones.iter().cloned().collect(),
        secret,
        value: (!secret).then(|| doc.value.clone()),
        conflicts,
    }
}
