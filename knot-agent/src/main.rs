//! The agent's program: arguments, logging and the runtime, wired to the library.

use std::{env, io, process::ExitCode};

use knot_agent::{agent, launch::Settings, leader};
use tracing_subscriber::EnvFilter;

/// What makes the agent log more or less: a filter such as `debug` or `knot_agent=trace`.
const LOG_VARIABLE: &str = "KNOT_LOG";

/// The exit status for a wrong invocation: starting again would not help.
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    match arguments.next() {
        None => {}
        Some(first) if first == "--version" => {
            println!("knot-agent {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some(first) if first == leader::ARGUMENT => return leader::run(arguments),
        Some(first) => {
            eprintln!("knot-agent: unknown argument {first:?}: it takes none but --version");
            return ExitCode::from(WRONG_USE);
        }
    }
    let settings = match Settings::from_environment(env::vars_os()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("knot-agent: {error}");
            return ExitCode::from(WRONG_USE);
        }
    };
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(agent::run(settings)),
        Err(error) => Err(agent::Error::Runtime(error)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("knot-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
