//! The HTTP API, version 1, under `/api/v1`; and with it all that a server answers over HTTP.
//!
//! Handlers read and write the replica, and nothing else: what is wanted of a space is written here,
//! and done by its home. Who may do what is in `permit`, how a space is shown in `spaces::show`, what
//! a failure says in `problem`.

mod agent;
mod app;
pub mod auth;
mod body;
mod caller;
mod causality;
mod events;
mod exec;
mod files;
mod groups;
mod health;
mod keys;
mod leaving;
pub(crate) mod login;
pub(crate) mod names;
mod pages;
mod permit;
mod ports;
mod problem;
mod seal;
mod serve;
mod servers;
mod sign_in;
mod spaces;
mod templates;
mod terminals;
mod trace;
pub mod types;
mod variables;
mod volumes;
mod world;

use axum::{Router, extract::DefaultBodyLimit, http::header, middleware, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use app::{
    AgentReader, AgentWriter, App, ClusterControl, Inner, JoinTokenError, Parts, Reach, ReachError,
    Reachability,
};
pub(crate) use caller::{Caller, cookie};
pub(crate) use leaving::Leaving;
pub(crate) use permit::space as may_use;
pub use problem::{Code, Place, Problem};
pub use serve::serve;
pub(crate) use serve::serve_with;
pub(crate) use world::World;

/// Everything that a server answers over HTTP.
pub fn router(app: App) -> Router {
    let (api, description) = described();
    let text = description.to_pretty_json().unwrap_or_default();
    let description = get(async move || ([(header::CONTENT_TYPE, "application/json")], text));
    let api = api
        .route("/api/v1/openapi.json", description)
        .route("/api/v1/{*path}", axum::routing::any(problem::no_such_path))
        .method_not_allowed_fallback(problem::no_such_method);
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/health", get(health::health))
        .route("/sign-in/link", get(sign_in::link))
        .merge(api)
        .merge(pages::router())
        .route("/ports/enter", get(crate::ports::enter::enter))
        .route("/agent/{file}", get(agent::archive))
        .layer(DefaultBodyLimit::max(body::LIMIT))
        .layer(middleware::from_fn(trace::trace))
        .with_state(app)
}

/// The description of the API, as `docs/src/openapi.json` has it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().1
}

#[derive(OpenApi)]
#[openapi(
    info(title = "knot", description = "Development environments on a team's own machines."),
    components(schemas(
        types::Problem, types::exec::Open, types::exec::ClientMessage, types::exec::ServerMessage,
        types::terminals::View, types::terminals::ClientMessage, types::terminals::ServerMessage,
        types::SpaceDeleted, types::TemplateDeleted
    )),
    security(("token" = []), ("session" = [])),
    modifiers(&Common)
)]
struct Described;

/// What all operations have in common.
struct Common;

impl Modify for Common {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        components
            .add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        components.add_security_scheme(
            "session",
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(caller::SESSION_COOKIE))),
        );
    }
}

fn described() -> (Router<App>, utoipa::openapi::OpenApi) {
    let api = OpenApiRouter::new()
        .routes(routes!(sign_in::sign_in))
        .routes(routes!(sign_in::sign_out))
        .routes(routes!(sign_in::me, sign_in::edit_me))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::remove))
        .routes(routes!(keys::ssh))
        .routes(routes!(templates::list, templates::apply))
        .routes(routes!(templates::get, templates::delete))
        .routes(routes!(templates::file))
        .routes(routes!(templates::schema))
        .routes(routes!(templates::revisions::list))
        .routes(routes!(templates::revisions::difference))
        .routes(routes!(templates::revisions::revert))
        .routes(routes!(templates::revisions::retire))
        .routes(routes!(variables::list))
        .routes(routes!(variables::set, variables::delete))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::delete))
        .routes(routes!(groups::add, groups::remove))
        .routes(routes!(spaces::list, spaces::create))
        .routes(routes!(spaces::get, spaces::delete, spaces::edit::edit))
        .routes(routes!(spaces::start))
        .routes(routes!(spaces::stop))
        .routes(routes!(spaces::restart))
        .routes(routes!(spaces::insight::logs))
        .routes(routes!(spaces::insight::starts))
        .routes(routes!(spaces::insight::usage))
        .routes(routes!(spaces::insight::launch))
        .routes(routes!(spaces::edit::share))
        .routes(routes!(spaces::edit::unshare))
        .routes(routes!(spaces::edit::transfer))
        .routes(routes!(spaces::rehome::move_to))
        .routes(routes!(spaces::rehome::recover))
        .routes(routes!(spaces::parameters::set))
        .routes(routes!(exec::exec))
        .routes(routes!(files::files))
        .routes(routes!(ports::list))
        .routes(routes!(ports::share, ports::unshare))
        .routes(routes!(ports::connect))
        .routes(routes!(ports::datagrams))
        .routes(routes!(ports::forward, ports::unforward))
        .routes(routes!(terminals::list))
        .routes(routes!(terminals::view, terminals::edit, terminals::end))
        .routes(routes!(volumes::list, volumes::create))
        .routes(routes!(volumes::edit, volumes::delete))
        .routes(routes!(volumes::attach::attach))
        .routes(routes!(volumes::attach::detach))
        .routes(routes!(volumes::discard))
        .routes(routes!(volumes::adopt::adopt))
        .routes(routes!(servers::list))
        .routes(routes!(servers::invite))
        .routes(routes!(servers::delete))
        .routes(routes!(events::events));
    let (router, mut openapi) =
        OpenApiRouter::with_openapi(Described::openapi()).nest("/api/v1", api).split_for_parts();
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem = ResponseBuilder::new()
        .description("It failed: the code and the detail say why, and what to do.")
        .content("application/problem+json", problem)
        .build();
    for item in openapi.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
                .into_iter()
                .flatten();
        for operation in operations {
            operation.responses.responses.insert("default".to_owned(), problem.clone().into());
        }
    }
    (router, openapi)
}
