//! What opens a port of a space to a signed-in user's browser, on a host name where knot's own cookie
//! never comes: a ticket that carries a session over there, and a pass that stays.
//!
//! Both say which session they come from, and are good for as long as that one is. Every server reads
//! them, and none remembers any.

use std::time::Duration;

use knot_core::{
    clock::Millis,
    id::Id,
    model::{Space, User},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Credential, Fields, Keys, LEEWAY, NoKey, keys::Purpose};

/// How long the way from knot's pages to a port's may take.
const TICKET: Duration = Duration::from_secs(60);

/// A port of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Door {
    /// The space.
    pub(crate) space: Id<Space>,
    /// Its port.
    pub(crate) port: u16,
}

impl Door {
    fn bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        let said = self.space.uuid().into_bytes().into_iter().chain(self.port.to_be_bytes());
        bytes.iter_mut().zip(said).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// A ticket for `door`, good once for the browser that keeps `state`, a random text, at `host`.
///
/// # Errors
/// No session key has arrived here yet.
pub(crate) fn ticket(
    keys: &Keys,
    session: &Credential,
    door: Door,
    binding: [u8; 16],
    now: Millis,
) -> Result<String, NoKey> {
    let until = now.plus(TICKET).0.to_be_bytes();
    let said = [&said(session)[..], &door.bytes(), &until, &binding].concat();
    keys.seal(Purpose::PortTicket, &said)
}

/// The session that a ticket carries, if it is for this door and binding and not over.
pub(crate) fn read_ticket(
    keys: &Keys,
    text: &str,
    door: Door,
    binding: [u8; 16],
    now: Millis,
) -> Option<Credential> {
    let payload: [u8; 74] = keys.open(Purpose::PortTicket, text)?.try_into().ok()?;
    let mut fields = Fields(&payload);
    let session = session(&mut fields)?;
    let right = fields.take()? == door.bytes();
    let until = Millis(i64::from_be_bytes(fields.take()?));
    (right && now <= until.plus(LEEWAY) && fields.take()? == binding).then_some(session)
}

/// What ties a ticket to one browser and one host name: a hash of what only they know together.
pub(crate) fn binding(state: &str, host: &str) -> [u8; 16] {
    let hash = Sha256::digest(format!("{state}\0{host}"));
    let mut binding = [0; 16];
    binding.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    binding
}

/// The value of the cookie that opens `door` for as long as the session holds.
///
/// # Errors
/// No session key has arrived here yet.
pub(crate) fn pass(keys: &Keys, session: &Credential, door: Door) -> Result<String, NoKey> {
    keys.seal(Purpose::PortPass, &[&said(session)[..], &door.bytes()].concat())
}

/// The session that a pass comes from, if it is for this door.
pub(crate) fn read_pass(keys: &Keys, text: &str, door: Door) -> Option<Credential> {
    let payload: [u8; 50] = keys.open(Purpose::PortPass, text)?.try_into().ok()?;
    let mut fields = Fields(&payload);
    let session = session(&mut fields)?;
    (fields.take()? == door.bytes()).then_some(session)
}

/// What a session says. A token opens a port by itself and needs neither ticket nor pass: one made
/// from it is over at once.
fn said(session: &Credential) -> [u8; 32] {
    let (epoch, until) = match session {
        Credential::Session { epoch, until, .. } => (*epoch, until.0),
        Credential::Token { .. } | Credential::Key { .. } => (0, 0),
    };
    let user = session.user().uuid().into_bytes().into_iter();
    let all = user.chain(epoch.to_be_bytes()).chain(until.to_be_bytes());
    let mut said = [0; 32];
    said.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    said
}

fn session(fields: &mut Fields<'_>) -> Option<Credential> {
    let user = Id::<User>::from_uuid(Uuid::from_bytes(fields.take()?));
    let epoch = u64::from_be_bytes(fields.take()?);
    let until = Millis(i64::from_be_bytes(fields.take()?));
    Some(Credential::Session { user, epoch, until })
}
