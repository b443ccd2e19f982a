//! The page of one space.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use knot_core::{
    id::{Id, ServerId},
    model::{self, Server, Template},
    names::For,
    replica::Doc,
};

use super::{Visitor, row, volumes};
use crate::{
    api::{
        app::App,
        caller::{Caller, Key},
        causality::of_read,
        permit::{self, Use},
        ports,
        spaces::{insight, place},
        templates,
        types::{self, ports::Ports},
        world::{World, server_id, template_names, user_name},
    },
    pages::{
        Chart, Chrome, Dependency, ParameterField, Placing, ServerChoice, Settings, Sharing,
        SpaceFacts, SpacePage, html,
    },
    spaces::drivers::Platform,
};

pub(super) async fn page(State(app): State<App>, visitor: Visitor, Key(key): Key) -> Response {
    let Visitor { caller, chrome } = visitor;
    let found = {
        let world = World::new(&app);
        let found = world.find(&caller, &key, For::Reading);
        found.map(|space| (filled(&app, &world, &caller, chrome.clone(), &space), space))
    };
    let (mut page, space) = match found {
        Ok(found) => found,
        Err(problem) => return Visitor { caller, chrome }.refuse(problem),
    };
    let (used, log, starts, opened) = tokio::join!(
        insight::usage_of(&app, &space),
        insight::provision_log(&app, &space),
        insight::starts_of(&app, &space),
        ports::of_space(&app, &space)
    );
    page.ports = opened;
    // The newest has a part of its own; why there is none is said there.
    page.earlier = starts.unwrap_or_default().into_iter().skip(1).collect();
    match used {
        Ok(usage) => page.charts = Chart::of(&usage.day),
        Err(problem) => page.usage_problem = Some(problem.detail),
    }
    match log {
        Ok((generation, log)) => (page.generation, page.log) = (Some(generation), log),
        Err(problem) => page.log_problem = Some(problem.detail),
    }
    caller.answer(html(&page), &of_read(&space)).into_response()
}

/// The page without what only the space's home has.
fn filled(
    app: &App,
    world: &World<'_>,
    caller: &Caller,
    chrome: Chrome,
    space: &Doc<model::Space>,
) -> SpacePage {
    let may = |wanted| permit::may(caller, space, wanted);
    let shown = world.show(space);
    let template = app.replica.get(space.template);
    let settings = may(Use::Edit).then(|| Settings {
        in_conflict: shown.conflicts.iter().map(|conflict| conflict.field.clone()).collect(),
        dependencies: dependencies(world, caller, space),
    });
    let sharing = may(Use::Share).then(|| Sharing {
        users: space.shares.iter().map(|user| (user.to_string(), user_name(app, *user))).collect(),
    });
    let placing = may(Use::Place).then(|| Placing {
        servers: template
            .as_ref()
            .map(|template| servers(app, template, Some(space.placement.server)))
            .unwrap_or_default(),
    });
    SpacePage {
        chrome,
        facts: facts(world, caller, space, &shown),
        parameters: parameters(app, template.as_ref(), &shown.parameters),
        by_hand: may(Use::Edit)
            && template.is_some_and(|one| one.platform.parse() == Ok(Platform::Manual)),
        settings,
        sharing,
        placing,
        volumes: volumes::of_space(app, world, caller, space.id()),
        space: row(shown, may(Use::Delete)),
        charts: Vec::new(),
        usage_problem: None,
        generation: None,
        log: String::new(),
        log_problem: None,
        earlier: Vec::new(),
        ports: Ports::default(),
    }
}

fn facts(
    world: &World<'_>,
    caller: &Caller,
    space: &Doc<model::Space>,
    shown: &types::Space,
) -> SpaceFacts {
    // A space that the caller may not see is called by its id.
    let name = |id: &Id<model::Space>| {
        let other = world.space(*id)?;
        let seen = permit::space(caller, &other);
        let name = if seen { world.space_name(&other) } else { id.to_string() };
        Some((id.to_string(), name))
    };
    SpaceFacts {
        created: shown.created.clone(),
        generation: shown.generation.clone().unwrap_or_default(),
        revision: shown.revision.clone().unwrap_or_default(),
        driver: shown.driver.clone().unwrap_or_default(),
        alt_names: shown.alt_names.clone(),
        depends_on: space.depends_on.iter().filter_map(name).collect(),
    }
}

/// The owner's other spaces that the caller sees, and all that the space depends on.
fn dependencies(world: &World<'_>, caller: &Caller, space: &Doc<model::Space>) -> Vec<Dependency> {
    let mut others = world.spaces_of(caller);
    others.retain(|other| {
        let offered = other.owner == space.owner && other.id() != space.id();
        offered || space.depends_on.contains(&other.id())
    });
    let mut others: Vec<_> = others
        .iter()
        .map(|other| Dependency {
            id: other.id().to_string(),
            name: world.space_name(other),
            chosen: space.depends_on.contains(&other.id()),
        })
        .collect();
    others.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    others
}

/// What a template asks for, with what a space has for it; and what is left of earlier parameters.
pub(super) fn parameters(
    app: &App,
    template: Option<&Doc<Template>>,
    given: &BTreeMap<String, String>,
) -> Vec<ParameterField> {
    let declared = template
        .map(|template| templates::show(app, template, &template_names(app).1).parameters)
        .unwrap_or_default();
    let gone = given.iter().filter(|(name, _)| declared.iter().all(|one| one.name != **name));
    let gone: Vec<_> =
        gone.map(|(name, value)| ParameterField::gone(name.clone(), value.clone())).collect();
    let fields = declared.into_iter().map(|one| {
        let value = given.get(&one.name).map(String::as_str);
        ParameterField::new(one, value)
    });
    fields.chain(gone).collect()
}

/// The servers that could be the home of a template's spaces, by name.
pub(super) fn servers(
    app: &App,
    template: &Template,
    besides: Option<ServerId>,
) -> Vec<ServerChoice> {
    let able = place::able(app, template).into_iter().filter(|id| Some(*id) != besides);
    let reachable = able.filter(|id| app.reachability(*id) == crate::api::Reachability::Linked);
    let servers = reachable.filter_map(|id| app.replica.get(server_id(id)));
    let mut servers: Vec<_> = servers
        .map(|server: Doc<Server>| ServerChoice {
            id: server.id().to_string(),
            name: server.name.clone(),
            zone: server.zone.clone(),
        })
        .collect();
    servers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    servers
}
