//! Which requests may be sent to another server in the place of one that has not answered them.

use std::error::Error;

use reqwest::Request;

use super::super::address::Address;
use super::super::failure::Failure;
use crate::api::types::IDEMPOTENCY_KEY;

/// A request as it is sent to another address. Nothing has a body that could not be sent again.
pub(super) fn readdressed(request: &Request, from: &Address, to: &Address) -> Option<Request> {
    let mut sent = request.try_clone()?;
    *sent.url_mut() = from.moved(request.url(), to)?;
    Some(sent)
}

/// Whether a request may be taken twice: it changes nothing, or is known again by its key.
pub(super) fn is_repeatable(request: &Request) -> bool {
    request.method().is_safe() || request.headers().contains_key(IDEMPOTENCY_KEY)
}

/// Whether a server has refused a request since it is stopping, and so did nothing. That one was removed from its
/// cluster is for people to know: another address is to be used from then on.
pub(super) fn is_untouched(failure: &Failure) -> bool {
    failure.is("draining")
}

/// Whether a request that got no answer is sent to another server: none has come to the first, or it may be
/// taken twice. A server whose certificate is wrong is not to be passed over in silence.
pub(super) fn may_go_on(request: &Request, error: &reqwest::Error) -> bool {
    let sent = !error.is_connect();
    !is_tls(error) && (!sent || is_repeatable(request) && !error.is_timeout())
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || io.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}
