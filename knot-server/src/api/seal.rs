//! Sealing the secrets that people write, for the place that each stands in.

use knot_core::secrets::{Place, Sealed};

use super::{
    app::App,
    problem::{Code, Problem},
};

/// A secret as it is to be stored. One that is stored already stays, sealed as it is: the same written
/// again is no change.
///
/// # Errors
/// This server has no key to seal with yet.
pub(super) fn seal_unless_same(
    app: &App,
    place: Place<'_>,
    secret: &str,
    stored: Option<Sealed>,
) -> Result<Sealed, Problem> {
    let keyring = app.keys.keyring();
    if let Some(stored) = stored
        && keyring.open(place, &stored).is_ok_and(|opened| opened.expose() == secret.as_bytes())
    {
        return Ok(stored);
    }
    keyring.seal(place, secret.as_bytes()).map_err(|error| {
        let retry_after = Some(1);
        Problem { retry_after, ..Problem::new(Code::Busy, error.to_string()) }
    })
}
