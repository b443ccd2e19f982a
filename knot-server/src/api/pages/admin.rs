//! The pages that are for admins.

use std::collections::BTreeSet;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use knot_core::model::{Group, Server, Template, User, Variable};

use super::{Visitor, conflict};
use crate::{
    api::{
        app::App,
        causality::recent,
        groups as api_groups,
        permit::{self, Action},
        variables as api_variables,
        world::template_names,
    },
    pages::{GroupRow, GroupsPage, VariableRow, VariablesPage, html},
};

pub(super) async fn variables(State(app): State<App>, visitor: Visitor) -> Response {
    if let Err(problem) = permit::check(&visitor.caller, Action::Variables) {
        return visitor.refuse(problem);
    }
    let variables = api_variables::all(&app)
        .into_iter()
        .map(|variable| VariableRow {
            id: variable.id,
            name: variable.name,
            description: variable.description,
            zones: variable.zones,
            value: variable.value,
            conflicts: variable.conflicts.into_iter().map(conflict).collect(),
        })
        .collect();
    let zones: BTreeSet<_> =
        app.replica.list::<Server>().into_iter().map(|server| server.zone.clone()).collect();
    let zones = zones.into_iter().filter(|zone| !zone.is_empty()).collect();
    let page = html(&VariablesPage { chrome: visitor.chrome, variables, zones });
    let token = recent::<Variable>(&app.replica, |_| true);
    visitor.caller.answer(page, &token).into_response()
}

pub(super) async fn groups(State(app): State<App>, visitor: Visitor) -> Response {
    if let Err(problem) = permit::check(&visitor.caller, Action::Groups) {
        return visitor.refuse(problem);
    }
    let (templates, names) = template_names(&app);
    let kept_to = |group: &str| {
        let kept = templates.iter().filter(|one: &&_| one.groups.contains(group));
        let name = |uuid| names.of(uuid).unwrap_or_default().to_owned();
        let mut kept: Vec<_> =
            kept.map(|one| (one.id().to_string(), name(one.id().uuid()))).collect();
        kept.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
        kept
    };
    let groups = api_groups::all(&app, &visitor.caller)
        .into_iter()
        .map(|group| GroupRow {
            templates: kept_to(&group.name),
            name: group.name,
            description: group.description,
            members: group.members,
        })
        .collect();
    let page = html(&GroupsPage { chrome: visitor.chrome, groups });
    let mut token = recent::<Group>(&app.replica, |_| true);
    token.extend(&recent::<User>(&app.replica, |_| true));
    token.extend(&recent::<Template>(&app.replica, |_| true));
    visitor.caller.answer(page, &token).into_response()
}
