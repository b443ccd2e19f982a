//! The command line.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use super::failure::Failure;
use super::{
    cp, groups, keys, port_forward, ports, spaces, ssh_config, ssh_dial, templates, variables,
    volumes,
};

/// The heading of the options that all commands have.
const EVERYWHERE: &str = "Options of all commands";

const AFTER_HELP: &str = "\
Environment:
  KNOT_URL     the server, as a URL or HOST:PORT (http for this machine, https for others); or several, with
               commas between them: the first that can be reached is asked
  KNOT_TOKEN   the API token
  Both win over what `knot login` stored in $XDG_CONFIG_HOME/knot/config.toml; --url and --token win over both.
  KNOT_ONE_SERVER=1 asks no other server of the cluster where that one cannot be reached, as --one-server does.
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
    /// The server: a URL or HOST:PORT, or several with commas between (KNOT_URL)
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Ask no other server of the cluster where this one cannot be reached (KNOT_ONE_SERVER)
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) one_server: bool,
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
    Template(templates::Command),
    /// Work with spaces
    #[command(subcommand, visible_alias = "spaces")]
    Space(spaces::Command),
    /// Work with the ports of a space: who may open them over HTTP, and where
    #[command(subcommand, visible_alias = "ports")]
    Port(ports::Command),
    /// Copy files to or from a space
    Cp(cp::Cp),
    /// Forward ports of this machine to a space
    PortForward(port_forward::PortForward),
    /// Work with volumes
    #[command(subcommand, visible_alias = "volumes")]
    Volume(volumes::Command),
    /// Work with variables: values that templates name
    #[command(subcommand, visible_alias = "variables")]
    Variable(variables::Command),
    /// Work with groups, which templates can be kept to
    #[command(subcommand, visible_alias = "groups")]
    Group(groups::Command),
    /// Work with your SSH keys, which `ssh SPACE@SERVER` goes by
    #[command(subcommand, visible_alias = "keys")]
    Key(keys::Command),
    /// Print what ~/.ssh/config needs for `ssh SPACE.knot`, or write it
    SshConfig(ssh_config::Wanted),
    /// Connect OpenSSH's client to the first gateway that answers, for its ProxyCommand
    SshDial(ssh_dial::Dial),
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
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Parsed {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    fn limit(line: &str) -> Option<Duration> {
        match parse(line) {
            Parsed::Run(arguments) => match arguments.command {
                Command::Space(spaces::Command::Start(change)) => change.wait.limit(),
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
        let Command::Space(spaces::Command::Exec { command, .. }) = arguments.command else {
            panic!()
        };
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
