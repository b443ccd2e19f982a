//! What the SSH gateway and ports go by: who a key is of, which space a name means, and starting it; the rules
//! are those of the API.

use knot_core::{
    id::{Author, Id},
    model::{Space, User},
    replica::Doc,
};

pub(crate) use super::caller::Caller;
use super::{app::App, auth, problem::Problem, spaces, world::World};
use crate::ssh::keys::Key;

/// The user that a key signs in. A key that two users have, by edits in two parts of the cluster, signs in
/// neither.
pub(crate) fn by_key(app: &App, fingerprint: &str) -> Option<Caller> {
    let mut those = having(app, fingerprint, false).into_iter();
    match (those.next(), those.next()) {
        (Some((user, _)), None) => {
            Some(Caller::of_key(app, &user, auth::read_fingerprint(fingerprint)?))
        }
        (Some(_), Some(_)) => {
            tracing::warn!(fingerprint, "two users have one SSH key: it signs in neither");
            None
        }
        (None, _) => None,
    }
}

/// Whether any user has an authority that signs certificates.
pub(crate) fn any_authority(app: &App) -> bool {
    let users = app.replica.list::<User>();
    users.iter().flat_map(|user| user.keys.values()).any(|line| is_authority(line))
}

/// The user whom a certificate of an authority signs in: of several that have the authority, the one that
/// `judge` takes, given the authority's line and the user's name. Where it takes several, the login's name
/// says which, as `USER+SPACE`.
pub(crate) fn by_authority<T>(
    app: &App,
    fingerprint: &str,
    login: &str,
    judge: impl Fn(&str, &str) -> Result<T, String>,
) -> Result<(Caller, T), String> {
    let key = auth::read_fingerprint(fingerprint).ok_or("its authority's key cannot be read")?;
    let (mut taken, mut why) = (Vec::new(), "nobody has its authority's key".to_owned());
    for (user, line) in having(app, fingerprint, true) {
        match judge(&line, &user.name) {
            Ok(judged) => taken.push((user, judged)),
            Err(refused) => why = refused,
        }
    }
    if taken.len() > 1 {
        let named = login.split_once('+').map_or(login, |(user, _)| user);
        taken.retain(|(user, _)| user.name == named);
        why = "it is for several users".to_owned();
    }
    match taken.pop() {
        Some((user, judged)) => Ok((Caller::of_key(app, &user, key), judged)),
        None => Err(why),
    }
}

/// The space that `SPACE`, or `USER+SPACE`, means, and what it is called.
pub(crate) fn find_space(
    app: &App,
    caller: &Caller,
    login: &str,
) -> Result<(Id<Space>, String), Problem> {
    let (owner, name) = match login.split_once('+') {
        Some((owner, name)) => (Some(owner), name),
        None => (None, login),
    };
    let world = World::new(app);
    let space = world.find_for_login(caller, owner, name)?;
    Ok((space.id(), world.space_name(&space)))
}

/// Wants a space to run, as the API does.
pub(crate) async fn start(app: &App, caller: &Caller, space: Id<Space>) -> Result<(), Problem> {
    spaces::want(app, caller, space).await
}

/// Wants a space to run for a visitor of one of its ports, who need not be known: the template says so. In
/// its history it is this server that did it.
pub(crate) async fn start_for_visitor(app: &App, space: &Doc<Space>) -> Result<(), Problem> {
    spaces::want_as(app, Author::Server(app.replica.me()), space).await
}

/// The users that have a key, as an authority or as a key to sign in with, and its line.
fn having(app: &App, fingerprint: &str, authority: bool) -> Vec<(Doc<User>, String)> {
    let users = app.replica.list::<User>().into_iter();
    let those = users.filter_map(|user| {
        let line = user.keys.get(fingerprint)?.clone();
        (is_authority(&line) == authority).then_some((user, line))
    });
    those.collect()
}

fn is_authority(line: &str) -> bool {
    line.starts_with("cert-authority") && Key::parse(line).is_ok_and(|key| key.authority)
}
