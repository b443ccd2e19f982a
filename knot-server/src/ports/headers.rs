//! What of a request's headers a space sees, and of an answer's a browser.
//!
//! Neither side sees what knot and a browser share: cookies are knot's by their names, since browsers
//! send them by host and look at no port, and tokens by how they begin.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_SECURITY_POLICY, COOKIE, EXPECT, LOCATION,
        PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

use crate::api::auth::TOKEN_PREFIX;

/// A header for knot's token where the space has a use for `Authorization` of its own.
pub(super) const OWN_AUTHORIZATION: HeaderName = HeaderName::from_static("knot-authorization");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Of one connection alone; those that `Connection` names beside.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What the space is told of where a request comes from; what a client says of it is not passed on.
const WHERE_FROM: [HeaderName; 8] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    X_FORWARDED_PREFIX,
];

/// What a browser keeps for a whole host name: where that is knot's own, a space has no say in it.
const OF_THE_HOST: [HeaderName; 5] = [
    STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
];

/// Where a request came from.
#[derive(Clone, Debug)]
pub(super) struct From<'a> {
    /// The host that it was sent to.
    pub(super) host: &'a str,
    /// Whether the browser sent it over HTTPS.
    pub(super) https: bool,
    /// The address that it came from.
    pub(super) peer: Option<IpAddr>,
    /// Below which path the space is seen, where it has no host name.
    pub(super) prefix: Option<&'a str>,
}

/// Makes of a client's headers those that the space is sent. Gives the protocol to upgrade to.
pub(super) fn to_space(headers: &mut HeaderMap, from: &From<'_>) -> Option<HeaderValue> {
    let upgrade = upgrade(headers);
    let trailers = headers.get(TE).is_some_and(|te| contains(te, "trailers"));
    let balanced = headers.get(&X_FORWARDED_FOR).filter(|_| from.https).cloned();
    remove_hop_by_hop(headers);
    let ours = [X_FORWARDED_FOR, TE, EXPECT, OWN_AUTHORIZATION];
    for name in ours.iter().chain(&WHERE_FROM) {
        headers.remove(name);
    }
    headers.remove("knot-token");
    if headers.get(AUTHORIZATION).is_some_and(is_own_token) {
        headers.remove(AUTHORIZATION);
    }
    keep_cookies(headers);
    let peer = from.peer.map(|peer| peer.to_canonical().to_string());
    // Where TLS ends before this server, a balancer has said who came, and this server sees it alone.
    let whole = match (balanced.as_ref().and_then(|value| value.to_str().ok()), peer) {
        (Some(before), Some(peer)) => Some(format!("{before}, {peer}")),
        (before, peer) => peer.or_else(|| before.map(str::to_owned)),
    };
    let scheme = if from.https { "https" } else { "http" };
    let told = [
        (X_FORWARDED_FOR, whole.as_deref()),
        (HeaderName::from_static("x-forwarded-proto"), Some(scheme)),
        (HeaderName::from_static("x-forwarded-host"), Some(from.host)),
        (X_FORWARDED_PREFIX, from.prefix),
    ];
    for (name, value) in told {
        if let Some(value) = value.and_then(|value| value.parse().ok()) {
            headers.insert(name, value);
        }
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = &upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    upgrade
}

/// Makes of a space's headers those that the browser is sent. `prefix` is the path that the space is
/// seen below, where its host is not its own.
pub(super) fn to_client(headers: &mut HeaderMap, prefix: Option<&str>) {
    let upgrade = upgrade(headers);
    remove_hop_by_hop(headers);
    // It would send the browser to another port for whatever this host has.
    headers.remove(ALT_SVC);
    let cookies: Vec<_> =
        headers.get_all(SET_COOKIE).iter().filter_map(|one| set_cookie(one, prefix)).collect();
    headers.remove(SET_COOKIE);
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    if let Some(prefix) = prefix {
        OF_THE_HOST.iter().for_each(|name| drop(headers.remove(name)));
        let local = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let local = local.filter(|to| to.starts_with('/') && !to.starts_with("//"));
        if let Some(to) = local.and_then(|to| format!("{prefix}{to}").parse().ok()) {
            headers.insert(LOCATION, to);
        }
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Has a browser show a page as one of no origin: it reads nothing of others, and sends no cookies.
pub(super) fn sandbox(headers: &mut HeaderMap) {
    const ALONE: &str =
        "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads";
    headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static(ALONE));
}

/// Whether a cookie is knot's, by its name: with either of the prefixes that browsers know.
pub(super) fn is_own_cookie(name: &[u8]) -> bool {
    let name = name.trim_ascii().to_ascii_lowercase();
    let bare =
        [&b"__host-"[..], b"__secure-"].into_iter().find_map(|prefix| name.strip_prefix(prefix));
    let bare = bare.unwrap_or(&name);
    bare.starts_with(b"knot_") || bare.starts_with(b"knot-")
}

/// Whether the value of an `Authorization` header is a token of knot's, good or not.
fn is_own_token(value: &HeaderValue) -> bool {
    let text = value.as_bytes();
    let Some((scheme, token)) = text.split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ")
        && token.trim_ascii().starts_with(TOKEN_PREFIX.as_bytes())
}

fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get_all(CONNECTION).iter().any(|value| contains(value, "upgrade"));
    headers.get(UPGRADE).filter(|_| wanted).cloned()
}

fn contains(list: &HeaderValue, word: &str) -> bool {
    let list = list.to_str().unwrap_or_default();
    list.split(',').any(|one| one.trim().eq_ignore_ascii_case(word))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// One `Cookie` header of what is not knot's: HTTP/2 sends several, which HTTP/1.1 does not know.
fn keep_cookies(headers: &mut HeaderMap) {
    let values = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = values.flat_map(|value| value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let name = |pair: &[u8]| pair.split(|byte| *byte == b'=').next().unwrap_or_default().to_vec();
    let kept: Vec<_> =
        pairs.filter(|pair| !pair.is_empty() && !is_own_cookie(&name(pair))).collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b"; "[..]));
    headers.remove(COOKIE);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(COOKIE, kept);
    }
}

/// A cookie that a space may set: none of knot's, none without a name, which could be read as one of
/// any, and for its own host, and path, alone.
fn set_cookie(value: &HeaderValue, prefix: Option<&str>) -> Option<HeaderValue> {
    let mut parts = value.as_bytes().split(|byte| *byte == b';');
    let pair = parts.next()?;
    let name = pair.get(..pair.iter().position(|byte| *byte == b'=')?)?.trim_ascii();
    if name.is_empty() || is_own_cookie(name) {
        return None;
    }
    let mut kept = pair.to_vec();
    for attribute in parts {
        let (key, said) = match attribute.iter().position(|byte| *byte == b'=') {
            Some(at) => attribute.split_at_checked(at)?,
            None => (attribute, &b""[..]),
        };
        let key = key.trim_ascii();
        if key.eq_ignore_ascii_case(b"domain") {
            continue;
        }
        kept.push(b';');
        match prefix.filter(|_| key.eq_ignore_ascii_case(b"path")) {
            Some(prefix) => {
                let path = said.get(1..).unwrap_or_default().trim_ascii();
                kept.extend_from_slice(b" Path=");
                kept.extend_from_slice(prefix.as_bytes());
                kept.extend_from_slice(if path.starts_with(b"/") { path } else { b"/" });
            }
            None => kept.extend_from_slice(attribute),
        }
    }
    HeaderValue::from_bytes(&kept).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> From<'static> {
        From {
            host: "8080--dev--anna.example.org",
            https: false,
            peer: Some([10, 0, 0, 9].into()),
            prefix: None,
        }
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in all {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn a_space_sees_nothing_that_is_knots() {
        let mut map = headers(&[
            ("cookie", "a=1; knot_session=secret; __Host-knot-port=secret; b=2"),
            ("cookie", "__Secure-Knot-port=secret;knot_seen=secret; knots=3"),
            ("authorization", "Bearer knot_secret"),
            ("knot-authorization", "Bearer knot_secret"),
            ("knot-token", "secret"),
            ("connection", "close, X-Private"),
            ("x-private", "secret"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        assert_eq!(to_space(&mut map, &from()), None);
        let mut seen: Vec<_> = map
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                "accept: */*",
                "cookie: a=1; b=2; knots=3",
                "x-forwarded-for: 10.0.0.9",
                "x-forwarded-host: 8080--dev--anna.example.org",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn what_is_the_spaces_own_it_sees() {
        for value in ["Basic a25vdF86eA==", "Bearer other", "Bearer", "Digest knot_x"] {
            let mut map = headers(&[("authorization", value)]);
            to_space(&mut map, &from());
            assert_eq!(map["authorization"], value);
        }
    }

    #[test]
    fn a_balancers_word_is_passed_on_where_there_is_one() {
        let mut map = headers(&[("x-forwarded-for", "1.2.3.4")]);
        to_space(&mut map, &From { https: true, ..from() });
        assert_eq!(map["x-forwarded-for"], "1.2.3.4, 10.0.0.9");
        assert_eq!(map["x-forwarded-proto"], "https");
    }

    #[test]
    fn an_upgrade_is_passed_on() {
        let mut map = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "x"),
        ]);
        assert_eq!(to_space(&mut map, &from()).unwrap(), "websocket");
        assert_eq!(
            (&map["connection"], &map["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        let mut alone = headers(&[("upgrade", "h2c")]);
        assert_eq!(to_space(&mut alone, &from()), None);
        assert!(!alone.contains_key("upgrade"));
    }

    #[test]
    fn a_space_sets_cookies_of_its_own_only() {
        let mut map = headers(&[
            ("set-cookie", "a=1; Path=/; Domain=example.org; HttpOnly"),
            ("set-cookie", "knot_session=evil; Path=/"),
            ("set-cookie", "__Host-knot-port=evil; Secure; Path=/"),
            ("set-cookie", " KNOT_session =evil"),
            ("set-cookie", "=knot_session=evil"),
            ("set-cookie", "knot_session"),
            ("set-cookie", "b=knot_session=x"),
            ("alt-svc", "h3=\":443\""),
        ]);
        to_client(&mut map, None);
        let set: Vec<_> = map.get_all("set-cookie").iter().collect();
        assert_eq!(set, ["a=1; Path=/; HttpOnly", "b=knot_session=x"]);
        assert!(!map.contains_key("alt-svc"));
    }

    #[test]
    fn below_a_path_a_space_stays_there() {
        let prefix = Some("/spaces/anna/dev/8080");
        let mut map = headers(&[
            ("set-cookie", "a=1; Path=/admin; Domain=example.org"),
            ("set-cookie", "b=1; path=evil"),
            ("location", "/login?x=1"),
            ("strict-transport-security", "max-age=1"),
        ]);
        to_client(&mut map, prefix);
        let set: Vec<_> = map.get_all("set-cookie").iter().collect();
        assert_eq!(
            set,
            ["a=1; Path=/spaces/anna/dev/8080/admin", "b=1; Path=/spaces/anna/dev/8080/"]
        );
        assert_eq!(map["location"], "/spaces/anna/dev/8080/login?x=1");
        assert!(!map.contains_key("strict-transport-security"));
        for elsewhere in ["//evil.example/", "https://example.org/", "next"] {
            let mut map = headers(&[("location", elsewhere)]);
            to_client(&mut map, prefix);
            assert_eq!(map["location"], elsewhere);
        }
    }
}
