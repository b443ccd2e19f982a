//! What the commands of `knot-server` ask of a server, or do to the data folder of one that does not run.

use std::time::Duration;

use knot_core::{
    clock::Millis,
    id::{Author, DocId, Id, ServerId},
    model::{self, DataKey, Server, Token},
    net::{identity::Identity, join},
    replica::{Doc, Replica},
    secrets::{Removal, remove_server},
};
use rand::distr::{Alphanumeric, SampleString as _};
use uuid::Uuid;

use super::{Node, bridge::REMOVED, open};
use crate::{
    api::auth,
    config::Config,
    control::{self, Reply, Request, Status},
    data,
    ssh::{self, host_key},
    users,
};

/// How long a sign-in link that an operator asked for is good.
const LINK: Duration = Duration::from_secs(12 * 60 * 60);

impl Node {
    /// Answers a request from this machine; the error is for people.
    pub(crate) async fn control(&self, request: Request) -> Result<Reply, String> {
        match request {
            Request::Status => Ok(Reply::Status(self.status())),
            Request::JoinToken => self.join_token("", self.author()).await.map(Reply::JoinToken),
            Request::Remove { server, stolen } => self.remove(&server, stolen).await,
            Request::RenewKey => self.renew_key().await.map(Reply::KeyRenewed),
            Request::DropOldKey { whoever_knows } => {
                let finished = self.net.finish_renewal(&self.data, whoever_knows).await;
                finished
                    .map(|key| Reply::KeyRenewed(key.to_string()))
                    .map_err(|error| error.to_string())
            }
            Request::Rekey => self.rekey().await,
            Request::RenewHostKey => self.renew_host_key().await.map(Reply::HostKeyRenewed),
            Request::Alone => {
                let confirmed = self.trusted.confirm();
                confirmed.map(|()| Reply::Alone).map_err(|error| error.to_string())
            }
            Request::Admin(name) => admin(&self.replica, &name).await.map(Reply::Admin),
            Request::SignIn(name) => self.sign_in(&name).await,
            Request::Data(request) => {
                let done = data::answer(request, &self.identity, &self.replica, &self.data).await;
                done.map(Reply::Data)
            }
        }
    }

    fn author(&self) -> Author {
        Author::Server(self.identity.server)
    }

    fn status(&self) -> Status {
        let reach = self.net.reach().watch();
        let linked =
            reach.borrow().iter().filter(|(_, reach)| reach.linked).map(|(id, _)| *id).collect();
        let own = Id::<Server>::from_uuid(self.identity.server.0);
        let record = self.replica.observed::<model::ServerStatus>(own, self.identity.server);
        Status {
            pid: std::process::id(),
            linked,
            server: self.identity.server,
            platforms: record.map(|record| record.platforms).unwrap_or_default(),
        }
    }

    pub(super) async fn join_token(&self, name: &str, by: Author) -> Result<String, String> {
        let token = join::invite(&self.replica, &self.identity, name.to_owned(), by).await;
        let token = token.map_err(|error| error.to_string())?;
        self.net.expect(&token);
        Ok(token.to_string())
    }

    async fn remove(&self, name: &str, stolen: bool) -> Result<Reply, String> {
        let servers = self.replica.list::<Server>();
        let mut named =
            servers.iter().filter(|server| server.name == name || server.id().to_string() == name);
        let (Some(server), None) = (named.next(), named.next()) else {
            let known: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
            return Err(format!(
                "no one server is called `{name}`: the cluster has {}; where two share a name, give the id",
                known.join(", ")
            ));
        };
        if server.id().uuid() == self.identity.server.0 {
            return Err(format!(
                "`{name}` is this server: remove it through another server of the cluster"
            ));
        }
        let id = ServerId(server.id().uuid());
        let removed = remove_server(self.keys.sessions(), server.id(), stolen, self.author()).await;
        let Removal { exposed, sessions_retired } = removed.map_err(|error| error.to_string())?;
        tracing::warn!(server = %id, name, stolen, "server removed");
        Ok(Reply::Removed { server: id, exposed: values(&exposed), sessions_retired })
    }

    /// Writes a new key into the data folder, and takes it up.
    async fn renew_key(&self) -> Result<String, String> {
        let key = Identity::renew(&self.data).map_err(|error| error.to_string())?;
        self.net.renew(&self.data).await.map_err(|error| error.to_string())?;
        tracing::info!(%key, "this server has a new key");
        Ok(key.to_string())
    }

    /// Fails where no other server would hear of what is made here.
    fn belongs(&self) -> Result<(), String> {
        if *self.net.removed().borrow() {
            return Err(REMOVED.to_owned());
        }
        Ok(())
    }

    /// Makes a new data key; what the others opened is left as it is, and listed.
    async fn rekey(&self) -> Result<Reply, String> {
        self.belongs()?;
        let keyring = self.keys.keyring();
        let before = self.replica.list::<DataKey>().iter().map(Doc::id).collect();
        let sealed = keyring.sealed_with(&before);
        let key = keyring.add_key(self.author()).await.map_err(|error| error.to_string())?.id;
        tracing::info!(%key, "there is a new data key");
        Ok(Reply::Rekeyed { key: key.to_string(), sealed: values(&sealed) })
    }

    async fn renew_host_key(&self) -> Result<String, String> {
        self.belongs()?;
        let keyring = self.keys.keyring();
        host_key::renew(keyring, self.author()).await.map_err(|error| error.to_string())?;
        let key = ssh::host_key_line(keyring).ok_or("the new key does not open here")?;
        tracing::warn!(key, "the cluster has a new SSH host key");
        Ok(key)
    }

    async fn sign_in(&self, name: &str) -> Result<Reply, String> {
        let user = users::find(&self.replica, name)
            .ok_or_else(|| format!("no user is called `{name}`"))?;
        let no_key = |error: auth::NoKey| error.to_string();
        let path = auth::sign_in_link(&self.keys, user.id(), user.epoch, LINK).map_err(no_key)?;
        let (of, now, id) = (user.id(), Millis::now(), Id::from_uuid(Uuid::now_v7()));
        let (text, hash) = auth::api_token(&self.keys, id, of).map_err(no_key)?;
        let created = self.replica.put::<Token, _>(id, self.author(), move |token| {
            token.set(Token::name, "knot-server dev".to_owned());
            token.set(Token::user, of);
            token.set(Token::hash, hash);
            token.set(Token::created, now);
            Ok(())
        });
        created.await.map_err(|error| error.to_string())?;
        Ok(Reply::SignIn { path, token: text })
    }
}

/// Makes sure that an admin of this name exists, and gives it a new password, which is returned.
async fn admin(replica: &Replica, name: &str) -> Result<String, String> {
    let password = new_password();
    let user =
        users::ensure_admin(replica, name, &password).await.map_err(|error| error.to_string())?;
    let author = Author::Server(replica.me());
    users::set_password(replica, user, &password, author)
        .await
        .map_err(|error| error.to_string())?;
    Ok(password)
}

/// Gives the server of a data folder a new key: through the server that runs on it or, where none
/// runs, in the folder, for when it starts. Returns the key.
///
/// # Errors
/// An earlier renewal is not over, or the folder cannot be written.
pub async fn renew_key(config: &Config) -> Result<String, String> {
    match control::ask(&config.data, &Request::RenewKey).await {
        Ok(Reply::KeyRenewed(key)) => Ok(key),
        Ok(_) => Err("the server gave another answer: is it of another version?".to_owned()),
        Err(control::Error::NotRunning(_)) => Identity::renew(&config.data)
            .map(|key| key.to_string())
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Values of documents, for people: `kind/id field`.
fn values(found: &[(DocId, String)]) -> Vec<String> {
    found.iter().map(|(doc, field)| format!("{doc} {field}")).collect()
}

/// Makes sure that an admin exists on a data folder, through the server that runs on it or, where
/// none runs, in its database; returns the new password.
///
/// # Errors
/// The database cannot be opened, or the admin cannot be written.
pub async fn reset_admin(config: &Config, name: &str) -> Result<String, String> {
    match control::ask(&config.data, &Request::Admin(name.to_owned())).await {
        Ok(Reply::Admin(password)) => return Ok(password),
        Ok(_) => return Err("the server gave another answer: is it of another version?".to_owned()),
        Err(control::Error::NotRunning(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    let identity = Identity::load(&config.data).map_err(|error| error.to_string())?;
    let (service, replica) = open(config, &identity).map_err(|error| error.to_string())?;
    let password = admin(&replica, name).await;
    service.stop().await;
    password
}

/// 24 letters and digits: 142 bits.
pub(super) fn new_password() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 24)
}
