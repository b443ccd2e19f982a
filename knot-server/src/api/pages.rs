//! Fills the web pages in, from what the API shows; sends who is not signed in to sign in first.

mod admin;
mod new_space;
mod space;
mod volumes;

use std::collections::BTreeMap;

use axum::{
    Router,
    extract::{FromRequestParts, OriginalUri, State},
    http::{StatusCode, Uri, header, request::Parts},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use knot_core::names::For;
use serde::Deserialize;

use super::{
    app::App,
    caller::{Asked, Caller, Key, without_seen},
    causality::{of_read, recent},
    permit::{self, Action, Use},
    problem::{Code, Problem},
    servers, templates, types,
    world::{World, find_template_of, server_names, template_names},
};
use crate::pages::{
    Chrome, Conflict, ConflictingValue, ErrorPage, FieldRow, HistoryPage, Invalid, LocalPath,
    OutdatedSpace, RevisionRow, SavedTemplate, ServerRow, ServersPage, SignInPage, SpaceRow,
    SpacesPage, TemplatePage, TemplateRow, TemplatesPage, TerminalPage, html, security_headers,
    static_router,
};

/// What a new template's page begins with.
const NEW_TEMPLATE: &str = "\
name: my-template
description: What it is for
platform: docker
image: debian:bookworm
";

/// The pages and their files.
pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/", get(spaces))
        .route("/sign-in", get(sign_in))
        .route("/spaces/new", get(new_space::page))
        .route("/spaces/{space}", get(space::page))
        .route("/spaces/{space}/terminal", get(terminal))
        .route("/templates", get(templates_page))
        .route("/templates/new", get(new_template))
        .route("/templates/{template}", get(template))
        .route("/templates/{template}/history", get(history))
        .route("/servers", get(servers_page))
        .route("/volumes", get(volumes::page))
        .route("/variables", get(admin::variables))
        .route("/groups", get(admin::groups))
        .merge(static_router())
        .fallback(nothing)
        .layer(middleware::map_response(security_headers))
}

/// Somebody who looks at a page, signed in.
struct Visitor {
    caller: Caller,
    chrome: Chrome,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        if Caller::identify(app, &parts.headers).is_err() {
            return Err(to_sign_in(&parts.uri));
        }
        match Caller::admit(parts, app).await {
            Ok(caller) => {
                let chrome = chrome(app, Some(&caller));
                Ok(Self { caller, chrome })
            }
            Err(problem) => {
                let refused = refusal(chrome(app, None), problem.clone());
                Err(without_seen(problem.code, app.https, refused))
            }
        }
    }
}

impl Visitor {
    fn refuse(self, problem: Problem) -> Response {
        refusal(self.chrome, problem)
    }
}

/// What surrounds a page for somebody, or for a stranger.
fn chrome(app: &App, caller: Option<&Caller>) -> Chrome {
    Chrome {
        user: caller.map(|caller| caller.name.clone()),
        admin: caller.is_some_and(|caller| caller.admin),
        server: app.name.clone(),
    }
}

/// A problem as a page.
fn refusal(chrome: Chrome, problem: Problem) -> Response {
    match problem.code {
        Code::NotFound => ErrorPage::not_found(chrome),
        Code::Forbidden => ErrorPage::forbidden(chrome, problem.detail),
        Code::Internal => ErrorPage::internal(chrome),
        code => ErrorPage {
            chrome,
            status: code.status(),
            title: code.title().to_owned(),
            detail: problem.detail,
        },
    }
    .into_response()
}

fn to_sign_in(uri: &Uri) -> Response {
    let wanted = uri.path_and_query().map_or("/", |path| path.as_str());
    let query = in_query(wanted);
    let to = if wanted == "/" { "/sign-in".to_owned() } else { format!("/sign-in?next={query}") };
    Redirect::to(&to).into_response()
}

/// A text as the value of a query's field.
fn in_query(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

async fn sign_in(
    State(app): State<App>,
    Asked(Next { next }): Asked<Next>,
    parts: Parts,
) -> Response {
    let next = next.and_then(|next| LocalPath::parse(&next)).unwrap_or_else(LocalPath::root);
    if Caller::identify(&app, &parts.headers).is_ok() {
        return Redirect::to(&next.to_string()).into_response();
    }
    html(&SignInPage { chrome: chrome(&app, None), next })
}

async fn spaces(State(app): State<App>, visitor: Visitor) -> Response {
    let world = World::new(&app);
    let Visitor { caller, chrome } = visitor;
    let mut shown: Vec<_> = world
        .spaces_of(&caller)
        .iter()
        .map(|space| row(world.show(space), permit::may(&caller, space, Use::Delete)))
        .collect();
    shown.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let mut templates = app.replica.list::<knot_core::model::Template>().into_iter();
    let any_template =
        templates.any(|template| !template.retired && permit::template(&caller, &template));
    let token = recent(&app.replica, |id| {
        world.space(id).is_some_and(|space| permit::space(&caller, &space))
    });
    let page = html(&SpacesPage { chrome, spaces: shown, any_template });
    caller.answer(page, &token).into_response()
}

async fn terminal(State(app): State<App>, visitor: Visitor, Key(key): Key) -> Response {
    let world = World::new(&app);
    match world.find(&visitor.caller, &key, For::Using) {
        Ok(space) => html(&TerminalPage {
            id: space.id().to_string(),
            name: world.space_name(&space),
            server: app.name.clone(),
        }),
        Err(problem) => visitor.refuse(problem),
    }
}

async fn templates_page(State(app): State<App>, visitor: Visitor) -> Response {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for space in World::new(&app).all_spaces() {
        *uses.entry(space.template.to_string()).or_default() += 1;
    }
    let mut rows: Vec<_> = templates::all(&app, &visitor.caller)
        .into_iter()
        .map(|template| TemplateRow {
            spaces: uses.get(&template.id).copied().unwrap_or(0),
            conflicts: template.conflicts.len(),
            retired: template.retired,
            invalid: template.invalid.is_some(),
            groups: template.groups,
            id: template.id,
            name: template.name,
            description: template.description,
            platform: template.platform,
            image: template.image,
        })
        .collect();
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let may_edit = permit::may_write_templates(&visitor.caller);
    let page = html(&TemplatesPage { chrome: visitor.chrome, templates: rows, may_edit });
    let token = recent::<knot_core::model::Template>(&app.replica, |_| true);
    visitor.caller.answer(page, &token).into_response()
}

async fn new_template(visitor: Visitor) -> Response {
    if let Err(problem) = permit::check(&visitor.caller, Action::WriteTemplate) {
        return visitor.refuse(problem);
    }
    let source = NEW_TEMPLATE.to_owned();
    html(&TemplatePage { chrome: visitor.chrome, saved: None, source, may_edit: true })
}

async fn template(State(app): State<App>, visitor: Visitor, Key(key): Key) -> Response {
    let found = find_template_of(&app, &visitor.caller, &key, For::Reading)
        .and_then(|template| Ok((templates::source(&app, &template)?, template)));
    let (source, template) = match found {
        Ok(found) => found,
        Err(problem) => return visitor.refuse(problem),
    };
    let world = World::new(&app);
    let all = world.all_spaces();
    let (mut running, mut outdated, mut to_update) = (0, 0, Vec::new());
    for space in all.iter().filter(|space| space.template == template.id()) {
        let shown = world.show(space);
        let runs = shown.observed == types::Observed::Running;
        running += usize::from(runs);
        outdated += usize::from(runs && shown.update_available);
        if runs && shown.update_available && permit::may(&visitor.caller, space, Use::Run) {
            let types::Space { id, name, owner, .. } = shown;
            to_update.push(OutdatedSpace { id, name, owner });
        }
    }
    to_update.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let shown = templates::show(&app, &template, &template_names(&app).1);
    let saved = SavedTemplate {
        id: shown.id,
        name: shown.name,
        revision: shown.revision,
        running,
        outdated,
        to_update,
        retired: shown.retired,
        invalid: shown.invalid.map(|invalid| Invalid {
            problems: invalid
                .problems
                .into_iter()
                .map(|one| format!("{}: {}", one.field, one.why))
                .collect(),
            used: invalid.used.map(|used| used.chars().take(12).collect()).unwrap_or_default(),
        }),
        conflicts: shown.conflicts.into_iter().map(conflict).collect(),
    };
    let may_edit = permit::may_write_templates(&visitor.caller);
    let page = html(&TemplatePage { chrome: visitor.chrome, saved: Some(saved), source, may_edit });
    visitor.caller.answer(page, &of_read(&template)).into_response()
}

#[derive(Deserialize)]
struct After {
    after: Option<String>,
}

async fn history(
    State(app): State<App>,
    visitor: Visitor,
    Key(key): Key,
    asked: Result<Asked<After>, Problem>,
) -> Response {
    let read = match asked {
        Ok(Asked(After { after })) => {
            templates::revisions::pages(&app, &visitor.caller, &key, after).await
        }
        Err(problem) => Err(problem),
    };
    let (template, revisions, next) = match read {
        Ok(read) => read,
        Err(problem) => return visitor.refuse(problem),
    };
    let row =
        |(revision, fields): (types::TemplateRevision, Vec<types::FieldDifference>)| RevisionRow {
            short: revision.id.chars().take(12).collect(),
            id: revision.id,
            author: revision.author,
            time: revision.time,
            fields: fields.into_iter().map(field).collect(),
            used: revision.used_for_invalid,
        };
    let page = html(&HistoryPage {
        chrome: visitor.chrome,
        id: template.id().to_string(),
        name: template_names(&app).1.of(template.id().uuid()).unwrap_or_default().to_owned(),
        revisions: revisions.into_iter().map(row).collect(),
        next: next.unwrap_or_default(),
        may_edit: permit::may_write_templates(&visitor.caller),
    });
    visitor.caller.answer(page, &of_read(&template)).into_response()
}

fn field(one: types::FieldDifference) -> FieldRow {
    let side = |sign: &str, value: Option<String>| value.map(|value| format!("{sign}{value}"));
    let lines = match one.text {
        Some(text) => text.lines().map(str::to_owned).collect(),
        None => [side("-", one.from), side("+", one.to)].into_iter().flatten().collect(),
    };
    FieldRow { field: one.field, lines }
}

async fn servers_page(State(app): State<App>, visitor: Visitor) -> Response {
    let names = server_names(&app);
    let mut rows: Vec<_> = servers::all(&app)
        .iter()
        .map(|server| servers::show(&app, server, &names))
        .map(|server| ServerRow {
            clock: server.clock_words(),
            id: server.id,
            name: server.name,
            zone: server.zone.unwrap_or_default(),
            quic: server.quic.unwrap_or_default(),
            state: server.state,
            this: server.this,
            platforms: server.platforms,
        })
        .collect();
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    html(&ServersPage { chrome: visitor.chrome, servers: rows })
}

/// Nothing is here: a page for browsers, a problem for programs.
async fn nothing(State(app): State<App>, OriginalUri(uri): OriginalUri, parts: Parts) -> Response {
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if !accept.is_some_and(|accept| accept.contains("text/html")) {
        return Problem::new(Code::NotFound, format!("nothing is at {}", uri.path()))
            .into_response();
    }
    let caller = Caller::identify(&app, &parts.headers).ok();
    ErrorPage::not_found(chrome(&app, caller.as_ref())).into_response()
}

/// The page for a sign-in link that does not sign in.
pub(super) fn bad_link(app: &App, detail: &str) -> Response {
    ErrorPage {
        chrome: chrome(app, None),
        status: StatusCode::UNAUTHORIZED,
        title: "This link does not sign in".to_owned(),
        detail: detail.to_owned(),
    }
    .into_response()
}

fn row(space: types::Space, may_delete: bool) -> SpaceRow {
    SpaceRow {
        may_delete,
        health: space.health.map(|health| match health.well {
            true => "well".to_owned(),
            false => format!("unwell: {}", health.words),
        }),
        id: space.id,
        name: space.name,
        owner: space.owner,
        template: space.template,
        template_id: space.template_id,
        without_terminal: space.without.iter().any(|one| one == "terminal"),
        desired: space.desired,
        observed: space.observed,
        cause: space.cause,
        since: space.since,
        home: space.home,
        home_reachable: space.home_reachable,
        update_available: space.update_available,
        description: space.description,
        note: space.note,
        shares: space.shares,
        moving_to: space.moving_to,
        conflicts: space.conflicts.into_iter().map(conflict).collect(),
    }
}

fn conflict(conflict: types::Conflict) -> Conflict {
    let value = |value: types::ConflictValue| ConflictingValue {
        value: match value.value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => "(removed)".to_owned(),
            other => other.to_string(),
        },
        author: value.author,
        time: value.time,
    };
    Conflict { field: conflict.field, values: conflict.values.into_iter().map(value).collect() }
}
