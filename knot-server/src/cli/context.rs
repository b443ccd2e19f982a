//! What every command needs to know: where the server is, who asks, and who reads the answer.

use std::io::{self, IsTerminal};

use super::address::Address;
use super::arguments::Arguments;
use super::client::Client;
use super::config::{Config, Folder};
use super::failure::Failure;
use super::output::Reader;
use super::ring::Ring;

/// The surroundings of a command.
pub(crate) struct Context {
    /// Where the program's files are; None where the environment names no home.
    pub(crate) folder: Option<Folder>,
    /// The config file's content.
    pub(crate) config: Config,
    /// Who reads standard output.
    pub(crate) reader: Reader,
    /// The server that the command line names.
    pub(crate) given_url: Option<String>,
    /// Whether no other server is asked than those that are named.
    pub(crate) one_server: bool,
    /// The token that the command line names.
    pub(crate) given_token: Option<String>,
}

impl Context {
    /// Reads the surroundings.
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let folder = Folder::find();
        Ok(Self {
            config: Config::load(folder.as_ref())?,
            folder,
            reader: Reader::find(arguments.json),
            given_url: arguments.url.clone(),
            one_server: arguments.one_server || variable("KNOT_ONE_SERVER").is_some(),
            given_token: arguments.token.clone(),
        })
    }

    /// The server to ask first.
    pub(crate) fn address(&self) -> Result<Address, Failure> {
        self.addresses()?.into_iter().next().ok_or_else(no_server)
    }

    /// The servers to ask: --url, then KNOT_URL, then the one signed in to.
    fn addresses(&self) -> Result<Vec<Address>, Failure> {
        let url = self
            .given_url
            .clone()
            .or_else(|| variable("KNOT_URL"))
            .or_else(|| self.config.url.clone());
        match url {
            Some(urls) => urls.split(',').map(Address::parse).collect(),
            None => Err(no_server()),
        }
    }

    /// A client of the server to ask: --token, then KNOT_TOKEN, then the one stored for this server.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let addresses = self.addresses()?;
        let address = addresses.first().cloned().ok_or_else(no_server)?;
        let stored = || self.config.tokens.get(&address.to_string()).cloned();
        let token = self.given_token.clone().or_else(|| variable("KNOT_TOKEN")).or_else(stored);
        if token.is_none() {
            return Err(Failure::not_signed_in(format!(
                "not signed in at {address}: sign in with `knot login {address}`, or set KNOT_TOKEN"
            )));
        }
        self.client_of(addresses, token)
    }

    /// A client of these servers, and the others known of their cluster.
    pub(crate) fn client_of(
        &self,
        addresses: Vec<Address>,
        token: Option<String>,
    ) -> Result<Client, Failure> {
        let ring = Ring::new(addresses, token.as_deref(), self.folder.clone(), self.one_server);
        Client::new(ring, token, self.folder.clone())
    }

    /// Whether progress is worth showing: not to a program.
    pub(crate) fn shows_progress(&self) -> bool {
        self.reader != Reader::Program
    }
}

fn no_server() -> Failure {
    Failure::not_signed_in(
        "no server is known: sign in with `knot login URL`, or set KNOT_URL and KNOT_TOKEN",
    )
}

/// An environment variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether both standard input and output are a terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
