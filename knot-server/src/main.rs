//! `knot-server`: the command line of a server. Each command is a call into the library.

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use knot_core::net::join::JoinToken;
use knot_server::{
    causes::with_causes,
    config::{Config, Flags},
    control::{self, Reply, Request},
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
        /// Somebody else may have what was on it: end all sessions, too
        #[arg(long)]
        stolen: bool,
        /// Data folder of a server of the cluster, or of `knot-server dev`
        #[arg(long, env = "KNOT_DATA", value_name = "DIR")]
        data: Option<PathBuf>,
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
            Ok(Reply::Removed { exposed, sessions_retired }) => {
                println!("{server} has been removed from the cluster.");
                if stolen {
                    println!(
                        "{sessions_retired} session key(s) retired: everybody signs in again."
                    );
                    println!(
                        "Look through what it changed on its own account, and revert what is wrong."
                    );
                }
                list("It could open these secrets; have their owners change them:", &exposed);
                return Ok(());
            }
            Ok(_) => last = unexpected(),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
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
