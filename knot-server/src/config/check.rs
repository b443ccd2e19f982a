//! The rules that a configuration has to keep, each named by its key.

use super::{Config, Error};
use crate::ports;

impl Config {
    /// Checks all of it; `plain` is whether plain HTTP is allowed beyond loopback, or there is none.
    pub(super) fn check(&self, plain: bool) -> Result<(), Error> {
        check_name("name", &self.name)?;
        check_name("zone", &self.zone)?;
        if !plain && !self.http_listen.ip().is_loopback() {
            return value(
                "http.listen",
                format!(
                    "{} is not loopback, and HTTP would be plain: give it a certificate with \
                     http.certificate and http.key, or put a balancer that ends TLS in front and set \
                     http.plain = true, or listen on loopback",
                    self.http_listen
                ),
            );
        }
        if !self.http_url.starts_with("http://") && !self.http_url.starts_with("https://") {
            return value("http.url", format!("{} does not begin with http(s)://", self.http_url));
        }
        if self.https.is_some() && !self.http_url.starts_with("https://") {
            return value(
                "http.url",
                format!("{} is not https://, and there is an http.certificate", self.http_url),
            );
        }
        self.check_ports(plain)?;
        for (key, address) in
            [("quic.advertise", &self.quic_advertise), ("ssh.advertise", &self.ssh_advertise)]
        {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                return value(key, format!("{address} is not HOST:PORT"));
            }
        }
        Ok(())
    }

    /// A space's pages must never be of one origin with knot's own.
    fn check_ports(&self, plain: bool) -> Result<(), Error> {
        let host = |url: &str| {
            let (_, rest) = url.split_once("://")?;
            Some(rest.split('/').next()?.to_ascii_lowercase())
        };
        if let Some(domain) = &self.ports_domain {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            if domain.is_empty() || domain.contains("..") || !domain.chars().all(allowed) {
                return value(
                    "ports.domain",
                    format!("`{domain}` is no domain, such as spaces.example.org"),
                );
            }
            if host(&self.http_url).is_some_and(|host| ports::is_below(&host, domain)) {
                return value(
                    "ports.domain",
                    format!(
                        "{} is below {domain}: knot's own pages need another name",
                        self.http_url
                    ),
                );
            }
        }
        let (Some(listen), Some(url)) = (self.ports_listen, &self.ports_url) else { return Ok(()) };
        if !plain && !listen.ip().is_loopback() {
            return value(
                "ports.listen",
                format!("{listen} is not loopback, and HTTP would be plain: see http.plain"),
            );
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return value("ports.url", format!("{url} does not begin with http(s)://"));
        }
        if host(url) == host(&self.http_url) {
            return value(
                "ports.url",
                format!("{url} is where knot's own pages are: ports need another address"),
            );
        }
        Ok(())
    }
}

pub(super) fn value(key: &'static str, why: String) -> Result<(), Error> {
    Err(Error::Value { key, why })
}

/// Names appear in URLs, prompts and file names.
fn check_name(key: &'static str, name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
        return value(
            key,
            format!("`{name}` is not 1 to 63 letters, digits, dots, dashes or underscores"),
        );
    }
    Ok(())
}
