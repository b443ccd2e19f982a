//! The page of spaces, and its rows.
//!
//! `web/static/row.js` fills the same row from the API's `Space` when it changes: what a row shows when is decided
//! in the methods here and in that file's `fill`, and nowhere else.

use askama::Template;

use super::Chrome;
use crate::api::types::{Desired, Observed};

/// `/`: the spaces that the user may see.
#[derive(Template)]
#[template(path = "spaces.html")]
pub struct SpacesPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The spaces, by name; none that is gone.
    pub spaces: Vec<SpaceRow>,
    /// Whether there is a template that a new space can be made from.
    pub any_template: bool,
}

impl SpacesPage {
    /// The empty row that the script copies for a space that appears.
    fn blank(&self) -> SpaceRow {
        SpaceRow { may_delete: true, ..SpaceRow::default() }
    }
}

/// One space: the fields of the API's `Space` that a row shows.
#[derive(Clone, Debug, Default)]
pub struct SpaceRow {
    /// The space's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub owner: String,
    /// Its template's name.
    pub template: String,
    /// Its template's id.
    pub template_id: String,
    /// Whether its template turns terminals off.
    pub without_terminal: bool,
    /// What was asked for.
    pub desired: Desired,
    /// What its home saw last.
    pub observed: Observed,
    /// What its health checks say; nothing where there is none.
    pub health: Option<String>,
    /// Whether the user may delete it.
    pub may_delete: bool,
    /// Why it failed or waits, if it does.
    pub cause: Option<String>,
    /// Since when it is as observed, RFC 3339.
    pub since: Option<String>,
    /// The name of its home server.
    pub home: String,
    /// Whether this server hears its home.
    pub home_reachable: bool,
    /// Whether it runs an older revision of its template.
    pub update_available: bool,
    /// What it is, for people.
    pub description: String,
    /// What its users tell each other about it.
    pub note: String,
    /// The names of the users it is shared with.
    pub shares: Vec<String>,
    /// The name of the server that it is to move to.
    pub moving_to: Option<String>,
    /// Fields that hold concurrent edits.
    pub conflicts: Vec<Conflict>,
}

impl SpaceRow {
    /// A space on its way out takes no orders.
    pub(super) fn takes_orders(&self) -> bool {
        !matches!(self.observed, Observed::Deleting | Observed::Gone)
    }

    pub(super) fn wants_to_run(&self) -> bool {
        self.desired == Desired::Running
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.observed == Observed::Running && !self.without_terminal
    }

    /// Running was asked for, and nothing of it shows yet.
    pub(super) fn start_waits(&self) -> bool {
        self.desired == Desired::Running
            && matches!(self.observed, Observed::Created | Observed::Stopped)
    }

    /// Stopping was asked for, and nothing of it shows yet.
    pub(super) fn stop_waits(&self) -> bool {
        self.desired == Desired::Stopped
            && matches!(
                self.observed,
                Observed::Provisioning | Observed::Starting | Observed::Running
            )
    }
}

/// A field with concurrent edits, all of which were kept.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The field's name.
    pub field: String,
    /// The values, the one in force first.
    pub values: Vec<ConflictingValue>,
}

/// One of several concurrent edits.
#[derive(Clone, Debug)]
pub struct ConflictingValue {
    /// The value, as text.
    pub value: String,
    /// Who wrote it.
    pub author: String,
    /// When, RFC 3339, by the clock of the server that took it.
    pub time: String,
}
