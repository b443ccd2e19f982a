//! `knot-server`: the command line of a server. Each command is a call into the library.

use std::{
    io::IsTerminal as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use knot_core::net::join::JoinToken;
use knot_server::{
    causes::with_causes,
    config::{Config, Flags},
    control::{self, Reply, Request},
    data::{self, DataReply, DataRequest},
    dev, node,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs development environments for a team, on the team's own machines.
#[derive(Parser)]
#[command(name = "knot-server", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole cluster on this machine, for trying out and for development
    Dev(dev::Options),
    /// Make a data folder the first server of a new cluster
    Init(Flags),
    /// Print a token that lets one more server join; run it on a server of the cluster
    Token(Flags),
    /// Join a cluster through the server at ADDR, with a token from `knot-server token`
    Join {
        /// Address of any server of the cluster: HOST:PORT, UDP
        address: String,
        /// The token
        token: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Remove a server from the cluster; run it on another server of the cluster
    Remove {
        /// Name or id of the server
        server: String,
        /// Somebody else may have what was on it: end all sessions, and list what it changed
        #[arg(long)]
        stolen: bool,
        /// Data folder of a server of the cluster, or of `knot-server dev`
        #[arg(long, env = "KNOT_DATA", value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// List what a server, removed ones too, changed on its own account, the newest first
    Changes {
        /// Name or id of the server
        server: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Make a document what it was before a change; later changes of it are undone, too
    Revert {
        /// The document, as `knot-server changes` lists it
        #[arg(value_name = "KIND/ID")]
        document: String,
        /// The change to take back: its first 8 hex digits, or more
        #[arg(long, value_name = "CHANGE")]
        before: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Bring in what another data folder of the cluster holds: set aside, removed, cloned or old
    ///
    /// What was deleted in either stays deleted. The other folder must not be in use.
    Import {
        /// The other data folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        flags: Flags,
    },
    /// Run the server of a data folder until it is told to stop
    Run {
        #[command(flatten)]
        flags: Flags,
        /// Stop when standard input ends: with the program that started this one
        #[arg(long, hide = true)]
        until_input_ends: bool,
    },
    /// Make sure that an admin account of this name exists, and print a new password for it
    Admin {
        /// Name of the account
        account: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Give this server a new key; the old one is used until each other server knows the new one
    RenewKey {
        /// Drop the old key: it opens no door any more
        #[arg(long)]
        drop_old: bool,
        /// Drop it though a server has not shown that it knows the new one
        #[arg(long, requires = "drop_old")]
        whoever_knows: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Make a new key for secrets; each secret takes it when it is next edited
    Rekey(Flags),
    /// Tell a running server whose folder was restored that no other has newer data: until it hears
    /// from another, or this, it acts on no engine
    Alone(Flags),
    /// Go on with this stopped server when no other is left
    Recover {
        /// Make it a server of its cluster again, alone, under a new id
        #[arg(long, required = true)]
        alone: bool,
        /// Do so though another server answers, or may
        #[arg(long)]
        yes_others_are_gone: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the configuration, and print it with every default filled in
    Check(Flags),
}

fn main() -> ExitCode {
    // reqwest and bollard take whatever provider the process has.
    rustls::crypto::ring::default_provider().install_default().ok();
    let arguments = Arguments::parse();
    // `dev` shows a person what it has to say; its servers log into their folders.
    log(if matches!(arguments.command, Command::Dev(_)) { "error" } else { "info" });
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    match runtime.block_on(run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.0),
    }
}

fn log(default: &str) {
    let filter = EnvFilter::try_from_env("KNOT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // At trace, bollard logs request bodies, and with them the keys of agents.
    let filter = match "bollard=info".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let stderr = std::io::stderr;
    let colours = stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(stderr).init();
}

fn fail(why: &str) -> ExitCode {
    eprintln!("knot-server: {why}");
    ExitCode::FAILURE
}

/// Why a command failed, for people, with all its causes.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(with_causes(&error))
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(options) => Ok(dev::run(options, stopped()?).await?),
        Command::Init(flags) => init(&Config::load(&flags)?).await,
        Command::Token(flags) => token(&Config::load(&flags)?).await,
        Command::Join { address, token, flags } => {
            join(&Config::load(&flags)?, &address, &token).await
        }
        Command::Remove { server, stolen, data } => remove(server, stolen, data).await,
        Command::Changes { server, flags } => changes(&Config::load(&flags)?, server).await,
        Command::Revert { document, before, flags } => {
            revert(&Config::load(&flags)?, document, before).await
        }
        Command::Import { folder, flags } => import(&Config::load(&flags)?, &folder).await,
        Command::RenewKey { drop_old: false, flags, .. } => {
            let key = node::renew_key(&Config::load(&flags)?).await.map_err(Failure)?;
            println!(
                "The new key is {key}. The old one is in use until each other server knows it;"
            );
            println!("then drop it with `knot-server renew-key --drop-old`.");
            Ok(())
        }
        Command::RenewKey { drop_old: true, whoever_knows, flags } => {
            drop_old(&Config::load(&flags)?, whoever_knows).await
        }
        Command::Rekey(flags) => rekey(&Config::load(&flags)?).await,
        Command::Recover { yes_others_are_gone, flags, .. } => {
            recover(&Config::load(&flags)?, yes_others_are_gone).await
        }
        Command::Alone(flags) => {
            match control::ask(&Config::load(&flags)?.data, &Request::Alone).await? {
                Reply::Alone => println!("The server acts on its engines by what it knows."),
                _ => return Err(unexpected()),
            }
            Ok(())
        }
        Command::Run { flags, until_input_ends } => {
            let stop = stopped()?;
            if until_input_ends {
                dev::stop_when_input_ends(stop.clone());
            }
            Ok(node::run(&Config::load(&flags)?, stop).await?)
        }
        Command::Admin { account, flags } => {
            let password =
                node::reset_admin(&Config::load(&flags)?, &account).await.map_err(Failure)?;
            println!("{password}");
            Ok(())
        }
        Command::Config(ConfigCommand::Check(flags)) => {
            let config = Config::load(&flags)?;
            print!("# data = {:?}\n{}", config.data, config.to_toml());
            Ok(())
        }
    }
}

/// Cancelled by the first SIGTERM or SIGINT.
fn stopped() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = signals.0.recv() => {}
            _ = signals.1.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

async fn init(config: &Config) -> Result<(), Failure> {
    let founded = node::init(config).await?;
    println!("{} is the first server of a new cluster.", config.name);
    println!("Account `admin`, password `{}`", founded.password);
    println!("Start it with `knot-server run --data {}`", config.data.display());
    Ok(())
}

async fn token(config: &Config) -> Result<(), Failure> {
    match control::ask(&config.data, &Request::JoinToken).await? {
        Reply::JoinToken(token) => {
            println!("{token}");
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

async fn join(config: &Config, address: &str, token: &str) -> Result<(), Failure> {
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

async fn remove(server: String, stolen: bool, data: Option<PathBuf>) -> Result<(), Failure> {
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

async fn changes(config: &Config, server: String) -> Result<(), Failure> {
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

async fn revert(config: &Config, doc: String, before: String) -> Result<(), Failure> {
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

async fn import(config: &Config, folder: &Path) -> Result<(), Failure> {
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

async fn drop_old(config: &Config, whoever_knows: bool) -> Result<(), Failure> {
    match control::ask(&config.data, &Request::DropOldKey { whoever_knows }).await? {
        Reply::KeyRenewed(key) => {
            println!("The old key opens no door any more; the key is {key}.");
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

async fn rekey(config: &Config) -> Result<(), Failure> {
    match control::ask(&config.data, &Request::Rekey).await? {
        Reply::Rekeyed { key, sealed } => {
            println!("Data key {key} is the newest. Each secret takes it when it is next edited.");
            list("Still under older keys:", &sealed);
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

async fn recover(config: &Config, others_are_gone: bool) -> Result<(), Failure> {
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

fn unexpected() -> Failure {
    Failure("the server gave another answer: is it of another version?".to_owned())
}
