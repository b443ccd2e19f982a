//! The agent's program: arguments, logging and the runtime, wired to the library.

use std::{env, io, process::ExitCode, time::Duration};

use knot_agent::{agent, launch::Settings, leader};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// What makes the agent log more or less: a filter such as `debug` or `knot_agent=trace`.
const LOG_VARIABLE: &str = "KNOT_LOG";

/// The exit status for a wrong invocation: starting again would not help.
const WRONG_USE: u8 = 2;

/// How long what still blocks a thread is waited for at the end: a look through many files, or a log
/// that nobody reads.
const REST: Duration = Duration::from_secs(1);

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
    start_log();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(agent::run(settings));
            runtime.shutdown_timeout(REST);
            ended
        }
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

/// Logs to standard error, which is where the engine of a space keeps a container's log.
fn start_log() {
    let wanted = env::var(LOG_VARIABLE).ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::stderr);
    tracing_subscriber::registry().with(lines).with(filter).init();
}
