//! `knot-server`: the command line of a server. Each command is a call into the library.

mod commands;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use knot_server::{
    config::{Config, Flags},
    control::{self, Reply, Request},
    dev, node,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use self::commands::{
    Failure, changes, drop_old, import, init, join, recover, rekey, remove, renew_host_key, revert,
    token, unexpected,
};

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
    /// Make a new SSH host key for all servers; connections that are open stay
    RenewHostKey(Flags),
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
        Command::RenewHostKey(flags) => renew_host_key(&Config::load(&flags)?).await,
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
