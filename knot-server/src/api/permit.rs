//! Who may do what: every rule, in this one place.
//!
//! A refusal of what the caller may not even know of is the same as that nothing is there.

use knot_core::model::{Space, Template};

use super::{
    caller::Caller,
    problem::{Code, Problem},
};

/// Something that a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    WriteTemplate,
    DeleteTemplate,
    DeleteServer,
    InviteServer,
    Variables,
    Groups,
}

impl Action {
    fn words(self) -> &'static str {
        match self {
            Self::WriteTemplate => "change templates",
            Self::DeleteTemplate => "delete templates",
            Self::DeleteServer => "remove servers",
            Self::InviteServer => "invite servers",
            Self::Variables => "see or change variables",
            Self::Groups => "change groups",
        }
    }
}

/// Whether a caller may see and act on a space: its owner may, and an admin.
pub(super) fn space(caller: &Caller, space: &Space) -> bool {
    caller.admin || space.owner == caller.user
}

/// Whether a caller may see a template and make spaces from it: everybody, or the members of its
/// groups and an admin.
pub(super) fn template(caller: &Caller, template: &Template) -> bool {
    caller.admin || template.groups.is_empty() || !template.groups.is_disjoint(&caller.groups)
}

/// Whether a caller may change templates.
pub(super) fn may_write_templates(caller: &Caller) -> bool {
    caller.admin
}

/// Refuses a caller who may not do this.
pub(super) fn check(caller: &Caller, action: Action) -> Result<(), Problem> {
    if caller.admin {
        return Ok(());
    }
    Err(Problem::new(
        Code::Forbidden,
        format!("{} may not {}: ask an admin of this cluster", caller.name, action.words()),
    ))
}
