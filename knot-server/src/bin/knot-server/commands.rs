//! What each command does, and what it says of it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use knot_core::{id::DocId, model::HostKey, net::join::JoinToken};
use knot_server::{
    causes::with_causes,
    config::{Config, Flags},
    control::{self, Reply, Request},
    data::{self, DataReply, DataRequest},
    dev, node,
};

/// Why a command failed, for people, with all its causes.
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(with_causes(&error))
    }
}

pub(crate) async fn init(config: &Config) -> Result<(), Failure> {
    let founded = node::init(config).await?;
    println!("{} is the first server of a new cluster.", config.name);
    println!("Account `admin`, password `{}`", founded.password);
    println!("Start it with `knot-server run --data {}`", config.data.display());
    Ok(())
}

pub(crate) async fn token(config: &Config) -> Result<(), Failure> {
    match control::ask(&config.data, &Request::JoinToken).await? {
        Reply::JoinToken(token) => {
            println!("{token}");
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

pub(crate) async fn join(config: &Config, address: &str, token: &str) -> Result<(), Failure> {
    let token: JoinToken = token.parse()?;
    let host = resolve(address).await?;
    node::join_cluster(config, host, &token).await?;
    println!("{} belongs to the cluster.", config.name);
    println!("Start it with `knot-server run --data {}`", config.data.display());
    Ok(())
}

async fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let wrong = || Failure(format!("`{address}` is no address: HOST:PORT is wanted, the port UDP"));
    let mut addresses = tokio::net::lookup_host(address).await.map_err(|_| wrong())?;
    addresses.next().ok_or_else(wrong)
}

pub(crate) async fn remove(
    server: String,
    stolen: bool,
    data: Option<PathBuf>,
) -> Result<(), Failure> {
    let folders = dev::server_folders(data.as_deref());
    let folders = if folders.is_empty() {
        vec![Config::load(&Flags { data, ..Flags::default() })?.data]
    } else {
        folders
    };
    let mut last = unexpected();
    for folder in folders {
        let request = Request::Remove { server: server.clone(), stolen };
        match control::ask(&folder, &request).await {
            Ok(Reply::Removed { server: id, exposed, sessions_retired }) => {
                println!("{server} has been removed from the cluster.");
                if stolen {
                    println!(
                        "{sessions_retired} session key(s) retired: everybody signs in again."
                    );
                }
                list("It could open these secrets; have their owners change them:", &exposed);
                let host_key = DocId::from(HostKey::id()).to_string();
                if exposed.iter().any(|value| value.starts_with(&host_key)) {
                    println!(
                        "The SSH host key is among them: `knot-server renew-host-key` makes another."
                    );
                }
                if stolen {
                    let request = DataRequest::Changes { server: id.to_string() };
                    return match control::ask(&folder, &Request::Data(request)).await {
                        Ok(Reply::Data(DataReply::Changes(changes))) => {
                            show_changes(&changes);
                            Ok(())
                        }
                        Ok(_) => Err(unexpected()),
                        Err(error) => Err(Failure(format!(
                            "what it changed cannot be listed now: {error}; try `knot-server changes {id}`"
                        ))),
                    };
                }
                return Ok(());
            }
            Ok(_) => last = unexpected(),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

pub(crate) async fn changes(config: &Config, server: String) -> Result<(), Failure> {
    match data::ask(config, DataRequest::Changes { server }).await.map_err(Failure)? {
        DataReply::Changes(changes) => {
            show_changes(&changes);
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

fn show_changes(changes: &data::Changes) {
    list("The histories of these could not be read:", &changes.unread);
    if changes.newest.is_empty() {
        println!("It changed nothing on its own account, as far as this server has heard.");
        return;
    }
    let lines: Vec<_> = changes.newest.iter().map(line).collect();
    list("What it changed on its own account, the newest first:", &lines);
    if changes.more > 0 {
        println!("  and {} more before these", changes.more);
    }
    println!("Take one back with `knot-server revert KIND/ID --before CHANGE`.");
}

/// One change, for people: time, document, name, change, fields.
fn line(change: &data::Change) -> String {
    let name = change.name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
    let what = match &change.hash {
        Some(hash) => {
            // Enough that nobody finds two of one beginning in passing.
            let hash = hash.get(..16).unwrap_or(hash);
            let more = match change.more_fields {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{hash}  {}{more}", change.fields.join(", "))
        }
        None => "deleted".to_owned(),
    };
    format!("{}  {}{name}  {what}", change.time, change.doc)
}

pub(crate) async fn revert(config: &Config, doc: String, before: String) -> Result<(), Failure> {
    let request = DataRequest::Revert { doc: doc.clone(), before };
    match data::ask(config, request).await.map_err(Failure)? {
        DataReply::Reverted(data::Reverted { change, fields, .. }) if fields.is_empty() => {
            println!("{doc} is what it was before {change} already; nothing was changed.");
            Ok(())
        }
        DataReply::Reverted(data::Reverted { change, fields, others }) => {
            println!("{doc} is what it was before {change}. Put back: {}.", fields.join(", "));
            if others > 0 {
                println!("{others} other change(s), later or unseen by it, are undone with it.");
            }
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

pub(crate) async fn import(config: &Config, folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    let absolute = folder.canonicalize().map_err(|error| {
        Failure(format!("{shown} cannot be read: {error}; give another data folder of the cluster"))
    })?;
    let request = DataRequest::Import { folder: absolute };
    match data::ask(config, request).await.map_err(Failure)? {
        DataReply::Imported(import) => {
            println!("{shown} holds {} document(s).", import.documents);
            println!("{} of them had changes that were not here.", import.changed);
            println!("{} deletion(s) were not known here.", import.deleted);
            if import.damaged > 0 {
                println!("{} document(s) are damaged there in part.", import.damaged);
            }
            list("These servers were removed by a deletion that came:", &import.removed);
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

pub(crate) async fn drop_old(config: &Config, whoever_knows: bool) -> Result<(), Failure> {
    match control::ask(&config.data, &Request::DropOldKey { whoever_knows }).await? {
        Reply::KeyRenewed(key) => {
            println!("The old key opens no door any more; the key is {key}.");
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

pub(crate) async fn rekey(config: &Config) -> Result<(), Failure> {
    match control::ask(&config.data, &Request::Rekey).await? {
        Reply::Rekeyed { key, sealed } => {
            println!("Data key {key} is the newest. Each secret takes it when it is next edited.");
            list("Still under older keys:", &sealed);
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

pub(crate) async fn renew_host_key(config: &Config) -> Result<(), Failure> {
    match control::ask(&config.data, &Request::RenewHostKey).await? {
        Reply::HostKeyRenewed(key) => {
            println!("The SSH host key of all servers is now:\n{key}");
            println!(
                "Connections that are open stay. Whoever has pinned the old one is let in again after \
                 `knot ssh-config --write`."
            );
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

pub(crate) async fn recover(config: &Config, others_are_gone: bool) -> Result<(), Failure> {
    let done = node::recover_alone(config, others_are_gone).await?;
    println!("{} goes on alone as server {}; {} is no more.", config.name, done.now, done.before);
    println!(
        "The cluster, its documents and its accounts are as they were; secrets stay readable."
    );
    println!("There is a new data key, which no removed server has.");
    if done.spaces > 0 {
        println!("{} space(s) had {} as their home, and have none now.", done.spaces, done.before);
    }
    list("Not removed yet (remove them, unless they return):", &done.others);
    println!("Start it with `knot-server run --data {}`", config.data.display());
    Ok(())
}

fn list(heading: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    println!("{heading}");
    items.iter().for_each(|item| println!("  {item}"));
}

pub(crate) fn unexpected() -> Failure {
    Failure("the server gave another answer: is it of another version?".to_owned())
}
