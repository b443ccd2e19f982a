//! `knot ssh-config`: what OpenSSH's client needs to reach spaces by name, with the cluster's host key
//! pinned and no check turned off.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use super::client::Answer;
use super::context::Context;
use super::failure::Failure;
use crate::api::types::{Gateway, Gateways};

/// By which the host key of every server is known: they share it.
const ALIAS: &str = "knot-cluster";
/// The name of whichever server answers.
const ANY: &str = "knot-servers";
const BEGIN: &str = "# knot: begin (written by `knot ssh-config --write`)";
const END: &str = "# knot: end";

#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Write it to ~/.ssh/knot_config, which ~/.ssh/config is made to include
    #[arg(long)]
    write: bool,
}

/// Prints or writes it.
pub(crate) async fn run(context: &Context, wanted: Wanted) -> Result<(), Failure> {
    let answer: Answer<Gateways> = context.client()?.get(&["ssh"]).await?;
    let Gateways { host_key, gateways } = &answer.value;
    if gateways.is_empty() {
        return Err(Failure::local("no server of this cluster has an SSH gateway".to_owned()));
    }
    let folder = folder()?;
    let knot = std::env::current_exe().unwrap_or_else(|_| "knot".into());
    let config = config(&folder, &knot, gateways);
    let known = format!("{ALIAS} {}\n", clean(host_key));
    if !wanted.write {
        let result = json!({ "config": config, "known_hosts": known });
        return context.reader.show(&result, |_| {
            format!("{config}\n# {}/knot_known_hosts:\n# {known}", folder.display())
        });
    }
    let written = write(&folder, &config, &known);
    written.map_err(|error| {
        let why = super::client::cause(&error);
        Failure::local(format!("{} cannot be written: {why}", folder.display()))
    })?;
    let result = json!({ "folder": folder });
    context
        .reader
        .show(&result, |_| "~/.ssh/knot_config is written: try `ssh SPACE.knot`\n".to_owned())
}

fn folder() -> Result<PathBuf, Failure> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.ok_or_else(|| Failure::local("HOME is not set".to_owned()))?;
    Ok(Path::new(&home).join(".ssh"))
}

/// A word of a configuration file: what a server answers is no reason to end a line.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '"').collect()
}

fn split(address: &str) -> (String, String) {
    let address = clean(address).replace(' ', "");
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, "2222"));
    (host.trim_matches(['[', ']']).to_owned(), port.to_owned())
}

/// A block for each server, one for whichever answers where there are several, and one for the names
/// of spaces. `knot` is this program.
fn config(folder: &Path, knot: &Path, gateways: &[Gateway]) -> String {
    let known = folder.join("knot_known_hosts").display().to_string();
    let pinned = format!(
        "    HostKeyAlias {ALIAS}\n    UserKnownHostsFile \"{}\"\n    HostKeyAlgorithms ssh-ed25519\n    \
         StrictHostKeyChecking yes\n    ServerAliveInterval 10\n",
        clean(&known)
    );
    let mut text = String::new();
    let mut jump = None;
    for gateway in gateways {
        let (host, port) = split(&gateway.address);
        let name = clean(&gateway.server).replace(' ', "-");
        text.push_str(&format!(
            "# `ssh SPACE@{name}.knot-server`\nHost {name}.knot-server\n    HostName {host}\n    Port {port}\n{pinned}\n"
        ));
        jump.get_or_insert(format!("{name}.knot-server"));
    }
    if gateways.len() > 1 {
        text.push_str(&format!(
            "# `ssh SPACE@{ANY}`, by the first server that answers\n\
             Host {ANY}\n    ProxyCommand {}\n    ProxyUseFdpass yes\n{pinned}\n",
            dial(knot, gateways)
        ));
        jump = Some(ANY.to_owned());
    }
    if let Some(jump) = jump {
        // The names are no hosts: the gateway knows them.
        text.push_str(&format!(
            "# `ssh SPACE.knot`, and `ssh USER+SPACE.knot` for what is shared with you\n\
             Host *.knot\n    ProxyJump {jump}\n{pinned}"
        ));
    }
    text
}

/// What a shell runs, which ssh looks through for its percent signs first.
fn dial(knot: &Path, gateways: &[Gateway]) -> String {
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''").replace('%', "%%"));
    let mut command = format!("{} ssh-dial", quoted(&clean(&knot.display().to_string())));
    for gateway in gateways {
        command.push(' ');
        command.push_str(&quoted(&clean(&gateway.address)));
    }
    command
}

fn write(folder: &Path, config: &str, known: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    replace(&folder.join("knot_known_hosts"), known)?;
    let file = folder.join("knot_config");
    let before = read(&file)?;
    replace(&file, &between(&before, config))?;
    let main = folder.join("config");
    let before = read(&main)?;
    if !before.lines().any(|line| line.trim() == INCLUDE) {
        // In front: behind a Host line it would be that host's only.
        let text = match before.as_str() {
            "" => format!("{INCLUDE}\n"),
            before => format!("{INCLUDE}\n\n{before}"),
        };
        replace(&main, &text)?;
    }
    Ok(())
}

const INCLUDE: &str = "Include knot_config";

fn read(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Puts a text between the markers, or after what is there where there are none.
fn between(before: &str, text: &str) -> String {
    let block = format!("{BEGIN}\n{text}{END}\n");
    let found = before.split_once(BEGIN).and_then(|(above, rest)| {
        let (_, below) = rest.split_once(END)?;
        Some(format!("{above}{block}{}", below.strip_prefix('\n').unwrap_or(below)))
    });
    found.unwrap_or_else(|| match before {
        "" => block,
        before => format!("{}\n\n{block}", before.trim_end()),
    })
}

/// Writes a file whole or not at all; a link stays one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = path.with_extension("knot-new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_again_changes_nothing_and_keeps_what_is_others() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".ssh");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("config"), "Host other\n    Port 2\n").unwrap();
        fs::write(folder.join("knot_config"), "# mine\n").unwrap();
        let gateways = [Gateway { server: "a".to_owned(), address: "host:2222".to_owned() }];
        let config = config(&folder, Path::new("/bin/knot"), &gateways);
        write(&folder, &config, "k\n").unwrap();
        let all = || {
            ["config", "knot_config", "knot_known_hosts"]
                .map(|name| fs::read_to_string(folder.join(name)).unwrap())
        };
        let once = all();
        write(&folder, &config, "k\n").unwrap();
        assert_eq!(all(), once);
        assert_eq!(once[0], "Include knot_config\n\nHost other\n    Port 2\n");
        assert!(once[1].starts_with("# mine\n\n# knot: begin"), "{}", once[1]);
        assert!(!once[1].contains("StrictHostKeyChecking no"));
        write(&folder, "changed\n", "k\n").unwrap();
        assert!(all()[1].contains("\nchanged\n") && !all()[1].contains("HostName"));
    }

    #[test]
    fn one_server_needs_no_program_between_and_several_are_tried_in_turn() {
        let gateway = |name: &str| Gateway {
            server: name.to_owned(),
            address: format!("{name}.example:2222"),
        };
        let knot = Path::new("/opt/100% knot's/knot");
        let one = config(Path::new("/f"), knot, &[gateway("a")]);
        assert!(one.contains("ProxyJump a.knot-server") && !one.contains("ProxyCommand"), "{one}");
        let two = config(Path::new("/f"), knot, &[gateway("a"), gateway("b")]);
        let command = r"    ProxyCommand '/opt/100%% knot'\''s/knot' ssh-dial 'a.example:2222' 'b.example:2222'";
        assert!(two.lines().any(|line| line == command), "{two}");
        assert!(two.contains("Host *.knot\n    ProxyJump knot-servers\n"), "{two}");
    }

    #[test]
    fn what_a_server_answers_is_no_command_and_ends_no_line() {
        let gateways = ["x\nProxyCommand touch", "y"].map(|server| Gateway {
            server: server.to_owned(),
            address: "h'; touch '\n%h:1".to_owned(),
        });
        let text = config(Path::new("/f"), Path::new("/bin/knot"), &gateways);
        let commands: Vec<&str> =
            text.lines().filter(|line| line.trim().starts_with("ProxyCommand")).collect();
        let address = r"'h'\''; touch '\''%%h:1'";
        assert_eq!(
            commands,
            [format!("    ProxyCommand '/bin/knot' ssh-dial {address} {address}")]
        );
    }
}
