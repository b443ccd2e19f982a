//! The `knot` command-line client: a person's or program's hands on a knot server, through its HTTP API only.
//!
//! Standard output carries the result, standard error everything else. The exit code says what kind of failure there
//! was: see the module `failure` and `knot --help`.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use self::arguments::{Arguments, Command, Parsed};
use self::context::Context;
use self::failure::Failure;

mod address;
mod arguments;
mod client;
mod config;
mod context;
mod cp;
mod events;
mod exec;
mod failure;
mod groups;
mod insight;
mod keys;
mod listings;
mod login;
mod output;
mod port_forward;
mod ports;
mod progress;
mod prompt;
mod ring;
mod seen;
mod socket;
mod spaces;
mod ssh_config;
mod ssh_dial;
mod templates;
mod terminal;
mod time;
mod up;
mod update;
mod variables;
mod volumes;
mod wait;
mod websocket;

/// Runs the command that the program's arguments name, and says how it ended.
pub fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args_os()) {
        Parsed::Run(arguments) => arguments,
        Parsed::Help(text) => return end(output::print(&text).map(|()| 0), false),
        Parsed::Incomplete(help) => {
            let _ = std::io::stderr().write_all(help.as_bytes());
            return ExitCode::from(failure::Exit::Usage as u8);
        }
        Parsed::Wrong { failure, json } => return end(Err(failure), json),
    };
    let json = arguments.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(Err(Failure::local(format!("the program cannot start: {error}"))), json);
        }
    };
    let result = runtime.block_on(run(*arguments));
    // A read of standard input or the terminal may still be waiting in a thread of its own.
    runtime.shutdown_background();
    end(result, json)
}

/// Runs one command; the status is the command's own for `exec` and `terminal`, else 0.
async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let context = Context::new(&arguments)?;
    let done = match arguments.command {
        Command::Login(login) => login::sign_in(&context, login).await,
        Command::Logout => login::sign_out(&context),
        Command::Whoami => listings::whoami(&context).await,
        Command::TimeZone { zone } => listings::time_zone(&context, zone).await,
        Command::Template(command) => templates::run(&context, command).await,
        Command::Space(command) => return spaces::run(&context, command).await,
        Command::Variable(command) => variables::run(&context, command).await,
        Command::Group(command) => groups::run(&context, command).await,
        Command::Key(command) => keys::run(&context, command).await,
        Command::SshConfig(wanted) => ssh_config::run(&context, wanted).await,
        Command::SshDial(wanted) => ssh_dial::run(wanted).await,
        Command::Volume(command) => volumes::run(&context, command).await,
        Command::Cp(wanted) => cp::run(&context, wanted).await,
        Command::Port(command) => ports::run(&context, command).await,
        Command::PortForward(wanted) => port_forward::run(&context, wanted).await,
        Command::Server(_) => listings::servers(&context).await,
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            context.reader.show(&json!({ "version": version }), |_| format!("knot {version}\n"))
        }
    };
    done.map(|()| 0)
}

fn end(result: Result<u8, Failure>, json: bool) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            failure.report(json);
            ExitCode::from(failure.exit() as u8)
        }
    }
}
