//! Where ports are to be found: the URLs of a server's spaces.

use axum::http::Uri;
use knot_core::{id::Id, model::Space};

use super::address::Address;

/// Where ports are to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The domain below which each port has a host name, such as `spaces.example.org`.
    pub domain: Option<String>,
    /// The URL of the listener for ports, where there is one: its paths begin with `/spaces/`.
    pub url: Option<String>,
    /// The URL of this server's own pages, where people sign in.
    pub main: String,
}

impl Settings {
    /// Whether browsers come over HTTPS to the host name of a port, or to the listener for ports.
    pub(crate) fn https(&self, by_path: bool) -> bool {
        let url = if by_path { self.url.as_ref().unwrap_or(&self.main) } else { &self.main };
        url.starts_with("https://")
    }

    /// The URL of a port of a space, as short as can be; `None` where this server opens none.
    pub(crate) fn url_of(
        &self,
        port: u16,
        space: Id<Space>,
        name: &str,
        owner: &str,
    ) -> Option<String> {
        if let Some(domain) = &self.domain {
            let uri: Uri = self.main.parse().ok()?;
            let scheme = uri.scheme_str()?;
            let at = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
            let label = Address::label(port, space, name, owner);
            return Some(format!("{scheme}://{label}.{domain}{at}/"));
        }
        let url = self.url.as_ref()?;
        Some(format!("{url}/spaces/{owner}/{name}/{port}/"))
    }

    /// The URL of any port of a space, with `PORT` in the number's place.
    pub(crate) fn url_of_any(&self, space: Id<Space>, name: &str, owner: &str) -> Option<String> {
        // The longest number: where it fits, all do.
        let url = self.url_of(u16::MAX, space, name, owner)?;
        Some(match url.strip_suffix("/65535/") {
            Some(rest) => format!("{rest}/PORT/"),
            None => url.replacen("://65535--", "://PORT--", 1),
        })
    }

    /// A page of this server's own.
    pub(crate) fn page(&self, path: &str) -> String {
        format!("{}{path}", self.main.trim_end_matches('/'))
    }

    /// Whether a URL could be one of a port of this cluster, by where it leads: the port number of the
    /// pages or of the listener for ports, and a host name below the domain or that listener's.
    pub(crate) fn is_ours(&self, authority: &str, by_path: bool) -> bool {
        let uris = [Some(&self.main), self.url.as_ref()].into_iter().flatten();
        let mut uris = uris.filter_map(|url| url.parse::<Uri>().ok());
        if by_path {
            let listener = self.url.as_ref().and_then(|url| url.parse::<Uri>().ok());
            let listener = listener.as_ref().and_then(Uri::authority);
            return listener.is_some_and(|listener| listener.as_str() == authority);
        }
        let port = authority.parse::<axum::http::uri::Authority>().ok();
        let port = port.as_ref().and_then(|authority| authority.port_u16());
        uris.any(|uri| uri.port_u16() == port)
    }
}
