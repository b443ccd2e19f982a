//! A server's address, as people write it.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use super::failure::Failure;

/// The base URL of a server: http or https, a host, perhaps a path; no user, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(Url);

impl Address {
    /// Reads a URL, or `host:port`: http for this machine, https for all others.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::usage(format!(
                "`{text}` is no server's address ({why}): write https://HOST[:PORT] or HOST:PORT"
            ))
        };
        let text = text.trim();
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            let guess = Url::parse(&format!("https://{text}"))
                .map_err(|error| wrong(&error.to_string()))?;
            let scheme = if is_loopback(&guess) { "http" } else { "https" };
            format!("{scheme}://{text}")
        };
        let mut url = Url::parse(&with_scheme).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("neither http nor https"));
        }
        if url.host_str().is_none() {
            return Err(wrong("it has no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it holds a user or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The URL of a resource of the API. A segment may hold any character.
    pub(crate) fn api(&self, segments: &[&str]) -> Result<Url, Failure> {
        if let Some(wrong) = segments.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(Failure::usage(format!("`{wrong}` is no name")));
        }
        let mut url = self.0.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::usage(format!("`{self}` cannot have a path")))?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(segments);
        Ok(url)
    }

    /// What a URL of this server's is at another one.
    pub(crate) fn moved(&self, url: &Url, to: &Self) -> Option<Url> {
        let rest = url.as_str().strip_prefix(self.0.as_str().trim_end_matches('/'))?;
        Url::parse(&format!("{to}{rest}")).ok()
    }

    /// Whether the way there is TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether what is sent there can be read on the way.
    pub(crate) fn is_exposed(&self) -> bool {
        !self.is_https() && !is_loopback(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_assumed_for_this_machine_only() {
        for (written, meant) in [
            ("localhost:8080", "http://localhost:8080"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("knot.example:8080", "https://knot.example:8080"),
            ("knot.example", "https://knot.example"),
            ("http://knot.example/", "http://knot.example"),
            ("https://example.org/knot/", "https://example.org/knot"),
        ] {
            assert_eq!(Address::parse(written).unwrap().to_string(), meant);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in
            ["", "ftp://x", "https://", "https://a:b@c", "https://x?y", "http://x y", "x#y"]
        {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_stays_one_segment() {
        let base = Address::parse("https://example.org/knot").unwrap();
        let url = base.api(&["spaces", "a/b ?", "exec"]).unwrap();
        assert_eq!(url.as_str(), "https://example.org/knot/api/v1/spaces/a%2Fb%20%3F/exec");
        assert!(base.api(&["spaces", ".."]).is_err());
    }

    #[test]
    fn a_url_is_moved_to_another_server_as_it_is() {
        let [from, to] = ["https://a/knot", "https://b:1"].map(|url| Address::parse(url).unwrap());
        let mut url = from.api(&["spaces", "a/b"]).unwrap();
        url.set_query(Some("x=1"));
        let moved = from.moved(&url, &to).unwrap();
        assert_eq!(moved.as_str(), "https://b:1/api/v1/spaces/a%2Fb?x=1");
        assert_eq!(to.moved(&moved, &from), Some(url));
        assert_eq!(from.moved(&moved, &to), None);
    }

    #[test]
    fn only_plain_http_to_others_is_exposed() {
        assert!(Address::parse("http://knot.example").unwrap().is_exposed());
        assert!(!Address::parse("http://127.0.0.1:1").unwrap().is_exposed());
        assert!(!Address::parse("https://knot.example").unwrap().is_exposed());
    }
}
