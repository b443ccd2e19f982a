//! The page that makes a space.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use knot_core::{model::Template, names::For, replica::Doc};
use serde::Deserialize;

use super::{
    Visitor,
    space::{parameters, servers},
};
use crate::{
    api::{
        app::App,
        caller::Asked,
        causality::{of_read, recent},
        permit,
        problem::Problem,
        world::{find_template_of, template_names},
    },
    pages::{ChosenTemplate, NewSpacePage, TemplateChoice, html},
};

#[derive(Deserialize)]
pub(super) struct From {
    template: Option<String>,
}

pub(super) async fn page(
    State(app): State<App>,
    visitor: Visitor,
    asked: Result<Asked<From>, Problem>,
) -> Response {
    let (all, names) = template_names(&app);
    let mut usable: Vec<_> = all
        .into_iter()
        .filter(|template| !template.retired && permit::template(&visitor.caller, template))
        .collect();
    let name =
        |template: &Doc<Template>| names.of(template.id().uuid()).unwrap_or_default().to_owned();
    usable.sort_by_key(|template| (name(template), template.id()));
    let named = match asked {
        Ok(Asked(From { template })) => template,
        Err(problem) => return visitor.refuse(problem),
    };
    let chosen = match (named, &*usable) {
        (Some(key), _) => match find_template_of(&app, &visitor.caller, &key, For::Reading) {
            Ok(template) => Some(template),
            Err(problem) => return visitor.refuse(problem),
        },
        // Where there is one there is nothing to choose.
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    };
    let token = match &chosen {
        Some(template) => of_read(template),
        None => recent::<Template>(&app.replica, |_| true),
    };
    let templates = usable
        .iter()
        .map(|template| TemplateChoice {
            id: template.id().to_string(),
            name: name(template),
            description: template.description.clone(),
            platform: template.platform.clone(),
            image: template.image.clone(),
        })
        .collect();
    let chosen = chosen.map(|template| ChosenTemplate {
        id: template.id().to_string(),
        name: name(&template),
        description: template.description.clone(),
        platform: template.platform.clone(),
        parameters: parameters(&app, Some(&template), &BTreeMap::new()),
        servers: servers(&app, &template, None),
    });
    let page = html(&NewSpacePage { chrome: visitor.chrome, templates, chosen });
    visitor.caller.answer(page, &token).into_response()
}
