//! What `knot space` takes.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::super::terminal;
use super::super::time::parse_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a space
    Create {
        /// The new space's name
        name: String,
        /// The name or id of its template
        #[arg(long, short, value_name = "NAME")]
        template: String,
        /// Start it at once
        #[arg(long)]
        start: bool,
        /// The server to be its home; chosen if left out
        #[arg(long, value_name = "SERVER")]
        server: Option<String>,
        /// A key that makes the command safe to repeat, through any server: one space is made
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Give a parameter of the template a value (repeatable)
        #[arg(long = "param", short, value_name = "NAME=VALUE", value_parser = parse_variable)]
        parameters: Vec<(String, String)>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show or set a space's values for its template's parameters
    Parameters {
        /// The space's name or id
        name: String,
        /// Give a parameter a value (repeatable)
        #[arg(long = "param", short, value_name = "NAME=VALUE", value_parser = parse_variable)]
        set: Vec<(String, String)>,
        /// Take a parameter's value away (repeatable)
        #[arg(long, value_name = "NAME")]
        unset: Vec<String>,
    },
    /// List spaces
    #[command(visible_alias = "list")]
    Ls,
    /// Show a space
    Show {
        /// The space's name or id
        name: String,
    },
    /// Start a space
    Start(Change),
    /// Stop a space
    Stop(Change),
    /// Stop a space and start it again, with the newest revision of its template
    Restart(Change),
    /// Delete a space and its volumes
    #[command(visible_alias = "rm")]
    Delete(Change),
    /// Change what is said of a space: its names, description, note, dependencies
    Edit(EditSpace),
    /// Let another user see a space, open terminals in it, start and stop it
    Share(Share),
    /// Share a space with a user no longer
    Unshare(Share),
    /// Give a space and its volumes to another user
    Transfer(Share),
    /// Move a space to another server: its home stops it and hands it over
    Move(Rehome),
    /// Give a space whose home is lost another one; the old home may still be running it
    Recover {
        #[command(flatten)]
        to: Rehome,
        /// Do so though its home answers
        #[arg(long)]
        force: bool,
    },
    /// Have a port that listens in a space lead to a port of another one
    Forward {
        /// The space's name or id
        name: String,
        /// The port that listens there, on loopback
        port: u16,
        /// Where it leads
        #[arg(value_name = "SPACE:PORT", value_parser = parse_place, required_unless_present = "remove")]
        to: Option<(String, u16)>,
        /// Have it lead nowhere any more
        #[arg(long, conflicts_with = "to")]
        remove: bool,
    },
    /// Run a command in a space
    Exec {
        /// The space's name or id
        name: String,
        /// Where to run it; the home folder if left out
        #[arg(long, short, value_name = "FOLDER")]
        directory: Option<String>,
        /// Set a variable for it (repeatable)
        #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_variable)]
        environment: Vec<(String, String)>,
        /// Pass standard input on. It is in any case: the option is there for the habit of writing -it
        #[arg(long, short)]
        interactive: bool,
        /// Run it on a terminal, which is this one
        #[arg(long, short)]
        terminal: bool,
        /// The command and its arguments, after --
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Show what a space's container wrote, or how it was brought up
    Logs {
        /// The space's name or id
        name: String,
        /// Show how it was brought up instead
        #[arg(long)]
        provision: bool,
        /// Of which start, such as 1.3; the newest if left out
        #[arg(long, value_name = "NUMBER")]
        generation: Option<String>,
        /// Of the start before the newest
        #[arg(long, short, conflicts_with_all = ["generation", "follow"])]
        previous: bool,
        /// Go on for as long as more may come
        #[arg(long, short)]
        follow: bool,
    },
    /// Show the line for a shell that starts the agent of a space of platform manual
    Launch {
        /// The space's name or id
        name: String,
    },
    /// List the starts of a space that there are logs of
    Starts {
        /// The space's name or id
        name: String,
    },
    /// Show what a space takes up now, and did over the last day
    Usage {
        /// The space's name or id
        name: String,
    },
    /// Open a terminal in a space: it lives until its shell ends. Enter, ~ and . let go of it
    Terminal(terminal::Arguments),
    /// List the terminals of a space
    Terminals {
        /// The space's name or id
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EditSpace {
    /// The space's name or id
    pub(crate) name: String,
    /// Its new name
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) new_name: Option<String>,
    /// What it is
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// What its users tell each other about it
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// Another name to reach it by, and the port that it leads to (repeatable)
    #[arg(long, value_name = "NAME=PORT", value_parser = parse_alternative)]
    pub(crate) alt: Vec<(String, u16)>,
    /// Take another name away (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) no_alt: Vec<String>,
    /// All spaces that have to run before it starts (repeatable)
    #[arg(long, value_name = "SPACE")]
    pub(crate) depends_on: Vec<String>,
    /// It depends on no space
    #[arg(long, conflicts_with = "depends_on")]
    pub(crate) no_dependencies: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Share {
    /// The space's name or id
    pub(crate) name: String,
    /// The user's name or id
    pub(crate) user: String,
}

#[derive(Debug, Args)]
pub(crate) struct Rehome {
    /// The space's name or id
    pub(crate) name: String,
    /// The server to be its home
    #[arg(long, value_name = "SERVER")]
    pub(crate) to: String,
    /// Begin there with new, empty volumes where its own cannot follow
    #[arg(long)]
    pub(crate) with_empty_volumes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// The space's name or id
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Whether and how long to wait for the outcome.
#[derive(Clone, Debug, Args)]
pub(crate) struct Wait {
    /// Wait for the outcome; --wait=false or --no-wait returns once the request is taken
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        hide_possible_values = true,
        action = clap::ArgAction::Set,
        overrides_with = "no_wait"
    )]
    wait: bool,
    #[arg(long, hide = true, overrides_with = "wait")]
    no_wait: bool,
    /// How long to wait, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,
}

impl Wait {
    /// How long to wait; None for not at all.
    pub(crate) fn limit(&self) -> Option<Duration> {
        (self.wait && !self.no_wait).then_some(self.timeout)
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it like NAME=VALUE".to_owned()),
    }
}

fn parse_place(text: &str) -> Result<(String, u16), String> {
    let parts = text.rsplit_once(':').map(|(space, port)| (space, port.parse::<u16>()));
    match parts {
        Some((space, Ok(port))) if !space.is_empty() && port > 0 => Ok((space.to_owned(), port)),
        _ => Err("write it like SPACE:PORT".to_owned()),
    }
}

fn parse_alternative(text: &str) -> Result<(String, u16), String> {
    let parts = text.split_once('=').map(|(name, port)| (name, port.parse::<u16>()));
    match parts {
        Some((name, Ok(port))) if !name.is_empty() => Ok((name.to_owned(), port)),
        _ => Err("write it like NAME=PORT".to_owned()),
    }
}
