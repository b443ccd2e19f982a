//! Names of hosts, resolved in Rust: the C library of a static program would load the image's own modules.

use std::{net::IpAddr, time::Duration};

use hickory_resolver::{TokioResolver, config::ResolverConfig, net::runtime::TokioRuntimeProvider};

/// How long one name server may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The addresses of a host, by `/etc/hosts` and the name servers of `/etc/resolv.conf`, as they are now.
///
/// # Errors
/// Why there is none, for people.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    let unknown = |error: &dyn std::fmt::Display| {
        format!("the name {host} cannot be resolved in this space: {error}")
    };
    // Read again for each name: a space may come to another network while it runs. An image without
    // name servers may still have hosts.
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        let (none, provider) = (ResolverConfig::default(), TokioRuntimeProvider::default());
        TokioResolver::builder_with_config(none, provider)
    });
    builder.options_mut().timeout = LIMIT;
    let resolver = builder.build().map_err(|error| unknown(&error))?;
    let found = resolver.lookup_ip(host).await.map_err(|error| unknown(&error))?;
    Ok(found.iter().collect())
}
