//! Users, as the server itself makes and changes them.

use knot_core::{
    id::{Author, Id},
    model::User,
    names::{For, Names},
    replica::{Committed, Doc, EditError, Replica},
};

use crate::api::{
    self,
    auth::{PasswordError, Passwords},
};

/// A user could not be made or changed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name breaks the rules.
    #[error(
        "`{0}` is no user name: 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
    )]
    Name(String),
    /// The password breaks the rules, or could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The user could not be written.
    #[error("the user could not be written")]
    Edit(#[from] EditError),
}

/// Makes sure that an admin of this name exists; a new one gets the password, one that exists keeps
/// its own where it has one.
///
/// # Errors
/// Name or password break the rules, or the user could not be written.
pub async fn ensure_admin(
    replica: &Replica,
    name: &str,
    password: &str,
) -> Result<Id<User>, Error> {
    check_name(name)?;
    let author = Author::Server(replica.me());
    let found = find(replica, name);
    let hash = match &found {
        Some(user) if !user.password.is_empty() => None,
        _ => Some(Passwords::default().hash(password).await?),
    };
    let name = name.to_owned();
    let edit = move |edit: &mut knot_core::schema::Edit<'_, User>| {
        edit.set(User::name, name);
        edit.set(User::admin, true);
        if let Some(hash) = hash {
            edit.set(User::password, hash);
        }
        Ok(())
    };
    let Committed { id, .. } = match found {
        Some(user) => replica.edit(user.id(), author, edit).await?,
        None => replica.create(author, edit).await?,
    };
    Ok(id)
}

/// Gives a user another password, and ends the sessions that began with the old one.
///
/// # Errors
/// The password breaks the rules, the user is unknown, or could not be written.
pub async fn set_password(
    replica: &Replica,
    user: Id<User>,
    password: &str,
    author: Author,
) -> Result<Committed<User>, Error> {
    let hash = Passwords::default().hash(password).await?;
    let edit = replica.edit(user, author, move |edit| {
        let epoch = edit.epoch.saturating_add(1);
        edit.set(User::password, hash);
        edit.set(User::epoch, epoch);
        Ok(())
    });
    Ok(edit.await?)
}

/// Ends all sessions of a user, on every server, as each hears of it: whatever its clock says.
///
/// # Errors
/// The user is unknown, or could not be written.
pub async fn sign_out_everywhere(
    replica: &Replica,
    user: Id<User>,
    author: Author,
) -> Result<Committed<User>, EditError> {
    let edit = replica.edit(user, author, move |edit| {
        let epoch = edit.epoch.saturating_add(1);
        edit.set(User::epoch, epoch);
        Ok(())
    });
    edit.await
}

/// The user of this name; where two servers made one each, the older. The other has the last digits
/// of its id behind its name; see [`knot_core::names`].
pub fn find(replica: &Replica, name: &str) -> Option<Doc<User>> {
    let id = names(replica).find(&(), name, For::Reading).ok()?;
    replica.get(Id::from_uuid(id))
}

/// What users are called.
pub(crate) fn names(replica: &Replica) -> Names<()> {
    api::names::of(replica, &replica.list::<User>(), |user| ((), &user.name))
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= 63 && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(Error::Name(name.chars().take(80).collect()))
    }
}
