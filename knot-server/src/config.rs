//! What a server is told: flags win over the environment, that over the file, that over defaults.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::spaces;

mod check;
mod file;
pub mod https;
pub mod nomad;

/// The configuration file in a data folder.
pub const FILE: &str = "knot.toml";
/// Where a server keeps its data, where nothing else is said.
const DATA: &str = "/var/lib/knot";

/// The configuration cannot be used. Each message says which key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file that was named cannot be read.
    #[error("the configuration file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, or has a key or a value that it should not have.
    #[error("the configuration file {path} is wrong: {why}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong there.
        why: String,
    },
    /// A value breaks a rule.
    #[error("`{key}` is wrong: {why}")]
    Value {
        /// The key, as it stands in the file.
        key: &'static str,
        /// The rule.
        why: String,
    },
}

/// Flags and environment variables that every command on a server's data takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Folder of the server's database and keys [default: /var/lib/knot]
    #[arg(long, env = "KNOT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file [default: knot.toml in the data folder, where there is one]
    #[arg(long, env = "KNOT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of this server [default: the host's name]
    #[arg(long, env = "KNOT_NAME")]
    pub name: Option<String>,
    /// Failure domain that this server stands in [default: default]
    #[arg(long, env = "KNOT_ZONE")]
    pub zone: Option<String>,
    /// Address to serve HTTP on [default: 127.0.0.1:3000]
    #[arg(long, env = "KNOT_HTTP_LISTEN", value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// URL that people reach this server by [default: http:// or https:// and the address of --http]
    #[arg(long, env = "KNOT_HTTP_URL", value_name = "URL")]
    pub http_url: Option<String>,
    /// Serve plain HTTP on an address that is not loopback: behind a balancer that ends TLS
    #[arg(long, env = "KNOT_HTTP_PLAIN")]
    pub http_plain: bool,
    /// PEM file with this server's certificate and those between it and its authority: HTTP is served with TLS then
    #[arg(long, env = "KNOT_HTTP_CERTIFICATE", value_name = "FILE")]
    pub http_certificate: Option<PathBuf>,
    /// PEM file with that certificate's private key
    #[arg(long, env = "KNOT_HTTP_KEY", value_name = "FILE")]
    pub http_key: Option<PathBuf>,
    /// Address for peers and agents, UDP [default: 0.0.0.0:7300]
    #[arg(long, env = "KNOT_QUIC_LISTEN", value_name = "ADDR")]
    pub quic: Option<SocketAddr>,
    /// Address that peers and agents reach this server by [default: that of --quic, or the host's name]
    #[arg(long, env = "KNOT_QUIC_ADVERTISE", value_name = "HOST:PORT")]
    pub quic_advertise: Option<String>,
    /// Address of the SSH gateway [default: 0.0.0.0:2222]
    #[arg(long, env = "KNOT_SSH_LISTEN", value_name = "ADDR")]
    pub ssh: Option<SocketAddr>,
    /// Address that people reach the SSH gateway by [default: that of --ssh, or the host's name]
    #[arg(long, env = "KNOT_SSH_ADVERTISE", value_name = "HOST:PORT")]
    pub ssh_advertise: Option<String>,
    /// Domain below which each port of a space has a host name, at this server's HTTP [default: none]
    #[arg(long, env = "KNOT_PORTS_DOMAIN", value_name = "DOMAIN")]
    pub ports_domain: Option<String>,
    /// Address to serve ports of spaces on by paths, where there is no such domain [default: none]
    #[arg(long, env = "KNOT_PORTS_LISTEN", value_name = "ADDR")]
    pub ports_listen: Option<SocketAddr>,
    /// URL that people reach that address by [default: http:// and the address]
    #[arg(long, env = "KNOT_PORTS_URL", value_name = "URL")]
    pub ports_url: Option<String>,
    /// Address of the Docker engine [default: the local socket]
    #[arg(long, env = "KNOT_DOCKER_HOST", value_name = "URL")]
    pub docker_host: Option<String>,
    /// Address of Podman's service [default: this user's socket, or root's]
    #[arg(long, env = "KNOT_PODMAN_HOST", value_name = "URL")]
    pub podman_host: Option<String>,
    /// URL of a Nomad server's HTTP API [default: no Nomad]
    #[arg(long, env = "KNOT_NOMAD_ADDRESS", value_name = "URL")]
    pub nomad_address: Option<String>,
    /// Token to show to Nomad
    #[arg(long, env = "KNOT_NOMAD_TOKEN", hide_env_values = true)]
    pub nomad_token: Option<String>,
}

/// What a server runs with: every value is there.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder, absolute.
    pub data: PathBuf,
    /// The server's name.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Where HTTP is served.
    pub http_listen: SocketAddr,
    /// By which URL people reach it.
    pub http_url: String,
    /// The certificate that HTTP is served with; plain HTTP where there is none.
    pub https: Option<https::Files>,
    /// Where peers and agents are taken in.
    pub quic_listen: SocketAddr,
    /// By which address they reach it.
    pub quic_advertise: String,
    /// Whether it has an SSH gateway.
    pub ssh: bool,
    /// Where that listens.
    pub ssh_listen: SocketAddr,
    /// By which address people reach it.
    pub ssh_advertise: String,
    /// The domain below which ports of spaces have host names, in lower case.
    pub ports_domain: Option<String>,
    /// Where ports of spaces are served apart.
    pub ports_listen: Option<SocketAddr>,
    /// By which URL people reach them there; there where it is served apart.
    pub ports_url: Option<String>,
    /// Whether spaces may run as processes of this machine.
    pub local: bool,
    /// Whether spaces may run on the Docker engine.
    pub docker: bool,
    /// The Docker engine's address; the local socket where none is given.
    pub docker_host: Option<String>,
    /// Whether spaces may run on Podman.
    pub podman: bool,
    /// Podman's address; this user's socket or root's where none is given.
    pub podman_host: Option<String>,
    /// The Nomad cluster that spaces may run on.
    pub nomad: Option<nomad::Nomad>,
    /// Whether people may start agents by hand.
    pub manual: bool,
    /// How spaces are run.
    pub spaces: spaces::Options,
}

impl Config {
    /// Puts flags, environment, file and defaults together, and checks the result.
    ///
    /// # Errors
    /// The file cannot be read, or a value is wrong.
    pub fn load(flags: &Flags) -> Result<Self, Error> {
        let data = absolute(flags.data.as_deref().unwrap_or(Path::new(DATA)));
        let file = file::read(flags.config.as_deref(), &data)?;
        let name = flags.name.clone().or(file.name).unwrap_or_else(host_name);
        let http_listen =
            flags.http.or(file.http.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3000)));
        let quic_listen =
            flags.quic.or(file.quic.listen).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 7300)));
        let ssh_listen =
            flags.ssh.or(file.ssh.listen).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 2222)));
        let plain = flags.http_plain || file.http.plain.unwrap_or(false);
        let defaults = spaces::Options::default();
        let seconds = |value: Option<u64>, default| value.map_or(default, Duration::from_secs);
        let https = https::load(flags, file.http.certificate, file.http.key)?;
        let scheme = if https.is_some() { "https" } else { "http" };
        let http_url = flags
            .http_url
            .clone()
            .or(file.http.url)
            .unwrap_or_else(|| format!("{scheme}://{http_listen}"));
        let nomad = nomad::load(flags, file.nomad, &http_url)?;
        let ports_listen = flags.ports_listen.or(file.ports.listen);
        let ports_url = flags.ports_url.clone().or(file.ports.url);
        let config = Self {
            ports_domain: flags
                .ports_domain
                .clone()
                .or(file.ports.domain)
                .map(|domain| domain.trim_matches('.').to_ascii_lowercase()),
            ports_url: ports_listen
                .map(|listen| ports_url.unwrap_or_else(|| format!("{scheme}://{listen}")))
                .map(|url| url.trim_end_matches('/').to_owned()),
            ports_listen,
            http_url,
            https,
            quic_advertise: flags
                .quic_advertise
                .clone()
                .or(file.quic.advertise)
                .unwrap_or_else(|| reachable(quic_listen)),
            data,
            name,
            zone: flags.zone.clone().or(file.zone).unwrap_or_else(|| "default".to_owned()),
            http_listen,
            quic_listen,
            ssh: file.ssh.enabled.unwrap_or(true),
            ssh_listen,
            ssh_advertise: flags
                .ssh_advertise
                .clone()
                .or(file.ssh.advertise)
                .unwrap_or_else(|| reachable(ssh_listen)),
            local: file.local.enabled.unwrap_or(true),
            docker: file.docker.enabled.unwrap_or(true),
            docker_host: flags.docker_host.clone().or(file.docker.host),
            podman: file.podman.enabled.unwrap_or(true),
            podman_host: flags.podman_host.clone().or(file.podman.host),
            nomad,
            manual: file.manual.enabled.unwrap_or(true),
            spaces: spaces::Options {
                start_deadline: seconds(
                    file.spaces.start_deadline_seconds,
                    defaults.start_deadline,
                ),
                stop_grace: seconds(file.spaces.stop_grace_seconds, defaults.stop_grace),
                volume_grace: seconds(
                    file.spaces.volume_grace_hours.map(|hours| hours.saturating_mul(3_600)),
                    defaults.volume_grace,
                ),
                stop_on_exit: file.spaces.stop_on_exit.unwrap_or(defaults.stop_on_exit),
            },
        };
        config.check(plain || config.https.is_some())?;
        Ok(config)
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// An address that others can dial: the host's name where the server listens on all addresses.
fn reachable(listen: SocketAddr) -> String {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("{}:{}", host_name(), listen.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("{}:{}", host_name(), listen.port()),
        _ => listen.to_string(),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, flags: Flags) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), file).unwrap();
        Config::load(&Flags { data: Some(folder.path().to_owned()), ..flags })
    }

    #[test]
    fn flags_win_over_the_file_and_that_over_defaults() {
        let file = "name = 'from-file'\nzone = 'east'\n[quic]\nlisten = '127.0.0.1:7301'\n";
        let flags = Flags { name: Some("from-flag".to_owned()), ..Flags::default() };
        let config = load(file, flags).unwrap();
        assert_eq!((config.name.as_str(), config.zone.as_str()), ("from-flag", "east"));
        assert_eq!(config.quic_advertise, "127.0.0.1:7301");
        assert_eq!(config.http_url, "http://127.0.0.1:3000");
    }

    #[test]
    fn what_is_written_out_is_read_back() {
        let config =
            load("name = 'a'\n[spaces]\nvolume_grace_hours = 1\n", Flags::default()).unwrap();
        let again = load(&config.to_toml(), Flags::default()).unwrap();
        assert_eq!(config.to_toml(), again.to_toml());
        assert_eq!(again.spaces.volume_grace, Duration::from_secs(3_600));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (file, said) in [
            ("nmae = 'a'", "nmae"),
            ("name = 7", "line 1"),
            ("name = 'a b'", "`name` is wrong"),
            ("[http]\nlisten = '0.0.0.0:3000'", "http.plain"),
            ("[http]\nurl = 'ftp://x'", "http.url"),
            ("[http]\ncertificate = '/nonexistent'", "http.key"),
            ("[http]\nkey = '/nonexistent'", "http.certificate"),
            (
                "[http]\nurl = 'http://x'\ncertificate = '/nonexistent'\nkey = '/nonexistent'",
                "http.url",
            ),
            ("[quic]\nadvertise = 'host'", "quic.advertise"),
            ("[ssh]\nadvertise = 'host'", "ssh.advertise"),
            ("[ports]\ndomain = 'a b'", "ports.domain"),
            ("[http]\nurl = 'https://knot.a.org'\n[ports]\ndomain = 'a.org'", "ports.domain"),
            ("[ports]\nlisten = '0.0.0.0:3001'", "ports.listen"),
            ("[ports]\nlisten = '127.0.0.1:3001'\nurl = 'http://127.0.0.1:3000/'", "ports.url"),
            ("[nomad]\naddress = 'nomad'", "nomad.address"),
            ("[nomad]\naddress = 'http://n:4646'\ntoken_file = '/nonexistent'", "nomad.token_file"),
        ] {
            let error = load(file, Flags::default()).unwrap_err().to_string();
            assert!(error.contains(said), "{file}: {error}");
        }
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let config = Some(PathBuf::from("/nonexistent/knot.toml"));
        let refused = Config::load(&Flags { config, ..Flags::default() });
        assert!(matches!(refused, Err(Error::Unreadable { .. })));
    }
}
