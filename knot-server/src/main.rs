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
        Command::Remove { server, data } => remove(server, data).await,
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

async fn remove(server: String, data: Option<PathBuf>) -> Result<(), Failure> {
    let folders = dev::server_folders(data.as_deref());
    let folders = if folders.is_empty() {
        vec![Config::load(&Flags { data, ..Flags::default() })?.data]
    } else {
        folders
    };
    let mut last = unexpected();
    for folder in folders {
        match control::ask(&folder, &Request::Remove(server.clone())).await {
            Ok(Reply::Removed) => {
                println!("{server} has been removed from the cluster.");
                return Ok(());
            }
            Ok(_) => last = unexpected(),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn unexpected() -> Failure {
    Failure("the server gave another answer: is it of another version?".to_owned())
}
