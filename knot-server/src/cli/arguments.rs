//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use super::failure::Failure;
use super::time::parse_duration;

/// The heading of the options that all commands have.
const EVERYWHERE: &str = "Options of all commands";

const AFTER_HELP: &str = "\
Environment:
  KNOT_URL     the server, as a URL or HOST:PORT (http for this machine, https for others)
  KNOT_TOKEN   the API token
  Both win over what `knot login` stored in $XDG_CONFIG_HOME/knot/config.toml; --url and --token win over both.
  SSL_CERT_FILE names the CA certificates to trust, NO_COLOR turns colours off.

Exit codes:
  0  done
  1  the server said no, or the operation failed
  2  wrong usage
  3  not signed in, or not allowed
  4  not found
  5  conflict: the name is taken or ambiguous
  6  the server cannot be reached
  7  timed out waiting for the outcome
  `space exec` and `space terminal` end with the command's own status (128 + N where signal N ended it), and with
  125 where the command could not be run or was lost.";

/// Runs and reaches spaces on a knot cluster.
#[derive(Debug, Parser)]
#[command(name = "knot", version, after_help = AFTER_HELP, infer_long_args = false)]
pub(crate) struct Arguments {
    /// The server: a URL or HOST:PORT (KNOT_URL)
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The API token (KNOT_TOKEN)
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Write JSON for programs; errors as problem JSON too
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign in to a server and remember it
    Login(Login),
    /// Forget the token for the server
    Logout,
    /// Show who is signed in, and where
    Whoami,
    /// Set the time zone that schedules of your spaces go by
    TimeZone {
        /// As the IANA names it, such as Europe/Athens
        zone: String,
    },
    /// Work with templates: what spaces are made from
    #[command(subcommand, visible_alias = "templates")]
    Template(Template),
    /// Work with spaces
    #[command(subcommand, visible_alias = "spaces")]
    Space(Space),
    /// Work with the ports of a space: who may open them over HTTP, and where
    #[command(subcommand, visible_alias = "ports")]
    Port(super::ports::Command),
    /// Copy files to or from a space
    Cp(super::cp::Cp),
    /// Forward ports of this machine to a space
    PortForward(super::port_forward::PortForward),
    /// Work with volumes
    #[command(subcommand, visible_alias = "volumes")]
    Volume(Volume),
    /// Work with variables: values that templates name
    #[command(subcommand, visible_alias = "variables")]
    Variable(super::variables::Command),
    /// Work with groups, which templates can be kept to
    #[command(subcommand, visible_alias = "groups")]
    Group(super::groups::Command),
    /// Work with servers
    #[command(subcommand, visible_alias = "servers")]
    Server(List),
    /// Show the program's version
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The server: a URL or HOST:PORT
    #[arg(value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The user's name; asked for if left out
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum List {
    /// List them
    #[command(visible_alias = "list")]
    Ls,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Template {
    /// Create or change a template from a file
    Apply {
        /// The template file (YAML); - for standard input
        file: PathBuf,
    },
    /// List templates
    #[command(visible_alias = "list")]
    Ls,
    /// Show a template
    Show {
        /// The template's name or id
        name: String,
        /// Write the template file instead, for `apply`
        #[arg(long, conflicts_with = "json")]
        yaml: bool,
    },
    /// Delete a template that no space is made from
    #[command(visible_alias = "rm")]
    Delete {
        /// The template's name or id
        name: String,
    },
    /// List what was changed in a template, by whom and when
    History {
        /// The template's name or id
        name: String,
        /// How many revisions to list
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Show what differs between two revisions of a template
    Diff {
        /// The template's name or id
        name: String,
        /// The earlier revision; what the later was made on if left out
        from: Option<String>,
        /// The later revision; how it is now if left out
        to: Option<String>,
    },
    /// Make a template what it was in an earlier revision
    Revert {
        /// The template's name or id
        name: String,
        /// The revision, or its first digits
        revision: String,
    },
    /// Retire a template: its spaces go on, and no new ones are made
    Retire {
        /// The template's name or id
        name: String,
        /// Take it into use again
        #[arg(long)]
        undo: bool,
    },
    /// List the running spaces that a restart brings a newer revision to
    Outdated {
        /// The template's name or id
        name: String,
    },
    /// Restart the outdated running spaces of a template, some at a time
    Update {
        /// The template's name or id
        name: String,
        /// How many to restart at a time
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        wave: u16,
        /// How long each may take, such as 30s, 5m or 1h30m
        #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
        timeout: Duration,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Space {
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
        /// Go on for as long as more may come
        #[arg(long, short)]
        follow: bool,
    },
    /// Show the line for a shell that starts the agent of a space of platform manual
    Launch {
        /// The space's name or id
        name: String,
    },
    /// Show what a space takes up now, and did over the last day
    Usage {
        /// The space's name or id
        name: String,
    },
    /// Open a terminal in a space
    Terminal {
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

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// List volumes
    #[command(visible_alias = "list")]
    Ls {
        /// List what is on engines and of no space or user, and what is missing on them
        #[arg(long)]
        orphans: bool,
    },
    /// Make a volume that is no space's
    Create {
        /// The new volume's name
        name: String,
        /// The server whose engine is to hold it
        #[arg(long, value_name = "SERVER")]
        server: String,
        /// The kind of engine, such as docker
        #[arg(long, value_name = "PLATFORM")]
        platform: String,
        /// Its size in bytes, where the engine bounds sizes
        #[arg(long, value_name = "BYTES")]
        size: Option<u64>,
    },
    /// Keep a volume when its space is deleted
    Keep {
        /// The volume's name, SPACE:NAME or id
        name: String,
        /// Do not keep it
        #[arg(long)]
        no: bool,
    },
    /// Change a volume's size, where its engine can
    Resize {
        /// The volume's name, SPACE:NAME or id
        name: String,
        /// The size in bytes
        size: u64,
    },
    /// Attach a volume to a space, from the space's next start on
    Attach {
        /// The volume's name or id
        name: String,
        /// The space's name or id
        space: String,
        /// Where it is seen in the space
        path: String,
    },
    /// Detach a volume from its space
    Detach {
        /// The volume's name or id
        name: String,
    },
    /// Delete a volume with all that is in it
    #[command(visible_alias = "rm")]
    Delete {
        /// The volume's name or id
        name: String,
        /// Remove only what was set aside for it under this engine id
        #[arg(long, value_name = "ENGINE_ID")]
        set_aside: Option<String>,
    },
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

/// What a command line asks for.
pub(crate) enum Parsed {
    /// To run a command.
    Run(Box<Arguments>),
    /// To be told something.
    Help(String),
    /// Nothing yet: a command is missing, here is the help.
    Incomplete(String),
    /// It makes no sense.
    Wrong {
        /// What is wrong.
        failure: Failure,
        /// Whether JSON was asked for.
        json: bool,
    },
}

/// Reads the command line.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Parsed {
    let arguments: Vec<OsString> = arguments.collect();
    let error = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => return Parsed::Run(Box::new(parsed)),
        Err(error) => error,
    };
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Parsed::Help(text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Parsed::Incomplete(text),
        _ => {
            let json =
                arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json");
            Parsed::Wrong { failure: Failure::usage(one_line(&text)), json }
        }
    }
}

/// A message of several paragraphs as one line: what is wrong, the tips, and the usage.
fn one_line(text: &str) -> String {
    let text = text.trim_start_matches("error: ");
    let paragraphs =
        text.split("\n\n").filter(|paragraph| !paragraph.starts_with("For more information"));
    let paragraphs = paragraphs.map(|paragraph| {
        let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        match words.strip_prefix("Usage: ") {
            Some(usage) => format!("usage: {usage}"),
            None => words,
        }
    });
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Parsed {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    fn limit(line: &str) -> Option<Duration> {
        match parse(line) {
            Parsed::Run(arguments) => match arguments.command {
                Command::Space(Space::Start(change)) => change.wait.limit(),
                _ => panic!("{line}"),
            },
            Parsed::Wrong { failure, .. } => panic!("{failure}"),
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn waiting_is_on_until_it_is_turned_off() {
        let five = Some(Duration::from_secs(300));
        assert_eq!(limit("knot space start dev"), five);
        assert_eq!(limit("knot space start --wait dev"), five);
        assert_eq!(limit("knot space start dev --wait=true"), five);
        assert_eq!(limit("knot space start dev --wait=false"), None);
        assert_eq!(limit("knot space start dev --no-wait"), None);
        assert_eq!(limit("knot space start dev --no-wait --wait"), five);
        assert_eq!(limit("knot space start dev --timeout 2s"), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_command_to_run_keeps_its_own_options() {
        let Parsed::Run(arguments) = parse("knot space exec dev -- ls --json -l") else { panic!() };
        assert!(!arguments.json);
        let Command::Space(Space::Exec { command, .. }) = arguments.command else { panic!() };
        assert_eq!(command, ["ls", "--json", "-l"]);
    }

    #[test]
    fn what_is_wrong_fits_on_one_line() {
        let Parsed::Wrong { failure, json } = parse("knot space create dev --json") else {
            panic!()
        };
        assert!(json);
        assert_eq!(
            failure.to_string(),
            "the following required arguments were not provided: --template <NAME>; usage: knot space create \
             --template <NAME> --json <NAME>"
        );
    }
}
