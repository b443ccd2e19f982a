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

/// Something that a caller wants to do with one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Start, stop or restart it.
    Run,
    Edit,
    Delete,
    Share,
    Transfer,
    /// Move or recover it.
    Place,
    /// Attach or change its volumes.
    Volumes,
}

impl Use {
    fn words(self) -> &'static str {
        match self {
            Self::Run => "start or stop it",
            Self::Edit => "change it",
            Self::Delete => "delete it",
            Self::Share => "share it",
            Self::Transfer => "give it away",
            Self::Place => "move it to another server",
            Self::Volumes => "change its volumes",
        }
    }
}

/// Who a caller is to a space; the lesser ones last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Owner,
    Admin,
    Sharer,
}

fn part(caller: &Caller, space: &Space) -> Option<Part> {
    if space.owner == caller.user {
        Some(Part::Owner)
    } else if caller.admin {
        Some(Part::Admin)
    } else {
        space.shares.contains(&caller.user).then_some(Part::Sharer)
    }
}

/// Whether a caller may see a space and open terminals in it: its owner may, an admin, and whom it is
/// shared with.
pub(crate) fn space(caller: &Caller, space: &Space) -> bool {
    part(caller, space).is_some()
}

/// Refuses a caller who may see a space, and not do this with it. `name` is what it is called.
pub(super) fn check_space(
    caller: &Caller,
    space: &Space,
    name: &str,
    wanted: Use,
) -> Result<(), Problem> {
    match (part(caller, space), wanted) {
        (Some(Part::Owner | Part::Admin), _) | (Some(Part::Sharer), Use::Run) => Ok(()),
        (Some(Part::Sharer), _) => Err(Problem::new(
            Code::Forbidden,
            format!(
                "{name} is shared with {}, who may not {}: ask its owner",
                caller.name,
                wanted.words()
            ),
        )),
        (None, _) => Err(Problem::not_found("space", name)),
    }
}

/// Whether a caller may do this with a space: for pages, which do not offer what would be refused.
pub(super) fn may(caller: &Caller, space: &Space, wanted: Use) -> bool {
    check_space(caller, space, "", wanted).is_ok()
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
