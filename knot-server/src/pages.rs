//! The web pages: what each shows, as data that handlers fill in, and how it becomes a response.
//!
//! A page is complete as the server renders it. The small modules in `web/static` add what HTML cannot do: rows that
//! change while one looks, buttons that call the API, the terminal. Every word that a person reads is in
//! `web/templates`; escaping is askama's and is never switched off.

mod assets;
mod details;
mod error;
mod forms;
mod groups;
mod headers;
mod local_path;
mod new_space;
mod servers;
mod sign_in;
mod spaces;
mod templates;
mod terminal;
mod variables;
mod volumes;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

pub use assets::{static_router, static_url};
pub use details::{Chart, Dependency, Placing, Settings, Sharing, SpaceFacts, SpacePage};
pub use error::ErrorPage;
pub use forms::{Input, ParameterField, ServerChoice};
pub use groups::{GroupRow, GroupsPage};
pub use headers::security_headers;
pub use local_path::LocalPath;
pub use new_space::{ChosenTemplate, NewSpacePage, TemplateChoice};
pub use servers::{ServerRow, ServersPage};
pub use sign_in::SignInPage;
pub use spaces::{Conflict, ConflictingValue, SpaceRow, SpacesPage};
pub use templates::{
    FieldRow, HistoryPage, Invalid, OutdatedSpace, RevisionRow, SavedTemplate, TemplatePage,
    TemplateRow, TemplatesPage,
};
pub use terminal::TerminalPage;
pub use variables::{VariableRow, VariablesPage};
pub use volumes::{MayDo, VolumePlace, VolumeRow, VolumesPage};

/// What surrounds every page: who looks at it, and which server it came from.
#[derive(Clone, Debug)]
pub struct Chrome {
    /// The signed-in user's name; with none, the page has no navigation.
    pub user: Option<String>,
    /// Whether the user is an admin: the navigation then has what is for admins.
    pub admin: bool,
    /// The name of the server that renders the page.
    pub server: String,
}

/// Renders a page as a response with status 200.
pub fn html(page: &impl Template) -> Response {
    html_with_status(StatusCode::OK, page)
}

/// Renders a page as a response. Browsers do not keep it: it shows what one user may see, and is old at once.
pub fn html_with_status(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(body) => {
            let keep_none = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            (status, [keep_none], Html(body)).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "page not rendered");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "This page could not be rendered; the server's log says why.\n",
            )
                .into_response()
        }
    }
}
