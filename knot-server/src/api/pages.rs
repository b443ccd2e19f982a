//! Fills the web pages in, from what the API shows; sends who is not signed in to sign in first.

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
    permit::{self, Action},
    problem::{Code, Problem},
    servers,
    spaces::insight,
    templates, types,
    world::{World, find_template_of, server_names, template_names},
};
use crate::pages::{
    Chart, Chrome, Conflict, ConflictingValue, ErrorPage, FieldRow, HistoryPage, Invalid,
    LocalPath, RevisionRow, SavedTemplate, ServerRow, ServersPage, SignInPage, SpacePage, SpaceRow,
    SpacesPage, TemplateChoice, TemplatePage, TemplateRow, TemplatesPage, TerminalPage, html,
    security_headers, static_router,
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
        .route("/spaces/{space}", get(space))
        .route("/spaces/{space}/terminal", get(terminal))
        .route("/templates", get(templates_page))
        .route("/templates/new", get(new_template))
        .route("/templates/{template}", get(template))
        .route("/templates/{template}/history", get(history))
        .route("/servers", get(servers_page))
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
        let chrome = |user| Chrome { user, server: app.name.clone() };
        match Caller::admit(parts, app).await {
            Ok(caller) => {
                let chrome = chrome(Some(caller.name.clone()));
                Ok(Self { caller, chrome })
            }
            Err(problem) => {
                Err(without_seen(problem.code, app.https, refusal(chrome(None), problem)))
            }
        }
    }
}

impl Visitor {
    fn refuse(self, problem: Problem) -> Response {
        refusal(self.chrome, problem)
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
    let chrome = Chrome { user: None, server: app.name.clone() };
    html(&SignInPage { chrome, next })
}

async fn spaces(State(app): State<App>, visitor: Visitor) -> Response {
    let world = World::new(&app);
    let Visitor { caller, chrome } = visitor;
    let mut shown: Vec<_> =
        world.spaces_of(&caller).iter().map(|space| world.show(space)).collect();
    shown.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let mut choices: Vec<_> = templates::all(&app, &caller)
        .into_iter()
        .filter(|template| !template.retired)
        .map(|template| TemplateChoice { id: template.id, name: template.name })
        .collect();
    choices.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let spaces = shown.into_iter().map(row).collect();
    let token = recent(&app.replica, |id| {
        world.space(id).is_some_and(|space| permit::space(&caller, &space))
    });
    let page = html(&SpacesPage { chrome, spaces, templates: choices });
    caller.answer(page, &token).into_response()
}

async fn space(State(app): State<App>, visitor: Visitor, Key(key): Key) -> Response {
    let found = {
        let world = World::new(&app);
        let found = world.find(&visitor.caller, &key, For::Reading);
        found.map(|space| {
            let shown = world.show(&space);
            (space, shown)
        })
    };
    let (space, shown) = match found {
        Ok(found) => found,
        Err(problem) => return visitor.refuse(problem),
    };
    let (used, log) =
        tokio::join!(insight::usage_of(&app, &space), insight::provision_log(&app, &space));
    let (charts, usage_problem) = match used {
        Ok(usage) => (Chart::of(&usage.day), None),
        Err(problem) => (Vec::new(), Some(problem.detail)),
    };
    let (generation, log, log_problem) = match log {
        Ok((generation, log)) => (Some(generation), log, None),
        Err(problem) => (None, String::new(), Some(problem.detail)),
    };
    let page = html(&SpacePage {
        chrome: visitor.chrome,
        id: shown.id,
        name: shown.name,
        state: shown.observed.to_string(),
        health: shown.health.map(|health| match health.well {
            true => "well".to_owned(),
            false => format!("unwell: {}", health.words),
        }),
        cause: shown.cause,
        charts,
        usage_problem,
        generation,
        log,
        log_problem,
    });
    visitor.caller.answer(page, &of_read(&space)).into_response()
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
    let all = World::new(&app).all_spaces();
    let uses = |id: &str| all.iter().filter(|space| space.template.to_string() == id).count();
    let mut rows: Vec<_> = templates::all(&app, &visitor.caller)
        .into_iter()
        .map(|template| TemplateRow {
            spaces: uses(&template.id),
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
    let running = all
        .iter()
        .filter(|space| space.template == template.id())
        .map(|space| world.show(space))
        .filter(|space| space.observed == types::Observed::Running);
    let (mut count, mut outdated) = (0, 0);
    for space in running {
        count += 1;
        outdated += usize::from(space.update_available);
    }
    let shown = templates::show(&app, &template, &template_names(&app).1);
    let saved = SavedTemplate {
        id: shown.id,
        name: shown.name,
        revision: shown.revision,
        running: count,
        outdated,
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
    let user = Caller::identify(&app, &parts.headers).ok().map(|caller| caller.name);
    ErrorPage::not_found(Chrome { user, server: app.name.clone() }).into_response()
}

/// The page for a sign-in link that does not sign in.
pub(super) fn bad_link(app: &App, detail: &str) -> Response {
    ErrorPage {
        chrome: Chrome { user: None, server: app.name.clone() },
        status: StatusCode::UNAUTHORIZED,
        title: "This link does not sign in".to_owned(),
        detail: detail.to_owned(),
    }
    .into_response()
}

fn row(space: types::Space) -> SpaceRow {
    SpaceRow {
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
