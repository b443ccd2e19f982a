//! What is to be run for a session, resolved: program, arguments, directory and environment.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use knot_core::agent::{Command, Run};

use crate::account::Account;

/// Names and values.
pub type Environment = BTreeMap<OsString, OsString>;

/// Where programs are looked for when nothing says so.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The kind of terminal that the browser and the command-line client show.
const DEFAULT_TERM: &str = "xterm-256color";
/// The variable with the name of the space.
const SPACE_VARIABLE: &str = "KNOT_SPACE";

/// A command cannot be run here. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A login shell is wanted, and there is none.
    #[error("this image has no shell: name a command, or use an image with /bin/sh")]
    NoShell,
    /// The name is in no directory of `PATH`.
    #[error("`{program}` was not found in {path}")]
    NotFound {
        /// What was looked for.
        program: String,
        /// Where: the value of `PATH`.
        path: String,
    },
    /// There is no such file, or it may not be run.
    #[error("`{0}` is no executable file")]
    NotExecutable(String),
    /// The working directory is none.
    #[error("the working directory `{0}` does not exist in this space")]
    NoDirectory(String),
    /// An argument, a variable or the directory holds a NUL byte.
    #[error("a NUL byte cannot be part of a command, its environment or its directory")]
    Nul,
}

/// A command that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file to run.
    pub file: PathBuf,
    /// The name that it is told it was called by.
    pub name: OsString,
    /// Its arguments, without the name.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: Environment,
    /// Where it starts.
    pub directory: PathBuf,
}

/// What every command of a space starts from.
#[derive(Clone, Debug)]
pub struct Surroundings {
    space: String,
    environment: Environment,
}

impl Surroundings {
    /// Of the space called `space`, with the agent's environment.
    pub fn new(space: String, environment: Environment) -> Self {
        Self { space, environment }
    }

    /// What `run` asks for, found in this file system.
    pub fn resolve(&self, run: &Run) -> Result<Program, Error> {
        let words = match &run.command {
            Command::Login => &[],
            Command::Line(line) => std::slice::from_ref(line),
            Command::Program(words) => words.as_slice(),
        };
        let variables = run.environment.iter().flat_map(|(name, value)| [name, value]);
        if variables.chain(words).chain(&run.directory).any(|text| text.contains('\0')) {
            return Err(Error::Nul);
        }
        let account = Account::current();
        let environment = self.environment(run, &account);
        let directory = directory(run.directory.as_deref(), &environment)?;
        if let (Command::Program(_), Some((first, arguments))) = (&run.command, words.split_first())
        {
            let file = find(first, &environment, &directory)?;
            let name = OsString::from(first);
            let arguments = arguments.to_vec();
            return Ok(Program { file, name, arguments, environment, directory });
        }
        let file = PathBuf::from(account.login_shell().ok_or(Error::NoShell)?);
        let called = file.file_name().unwrap_or_default();
        let (name, arguments) = match words.first() {
            Some(line) => (called.to_owned(), vec!["-c".to_owned(), line.clone()]),
            None => {
                // A shell that is called by a name with a dash in front reads its login files.
                let mut name = OsString::from("-");
                name.push(called);
                (name, Vec::new())
            }
        };
        Ok(Program { file, name, arguments, environment, directory })
    }

    fn environment(&self, run: &Run, account: &Account) -> Environment {
        let mut environment = self.environment.clone();
        // The agent's own terminal, if any, is not the session's.
        environment.remove(OsStr::new("TERM"));
        environment.extend(run.environment.iter().map(|(k, v)| (k.into(), v.into())));
        let mut default = |name: &str, value: &str| {
            let slot = environment.entry(name.into()).or_default();
            if slot.is_empty() {
                *slot = value.into();
            }
        };
        default("HOME", &account.home);
        default("USER", &account.name);
        default("LOGNAME", &account.name);
        default("PATH", DEFAULT_PATH);
        if let Some(shell) = account.login_shell() {
            default("SHELL", &shell);
        }
        if run.terminal.is_some() {
            default("TERM", DEFAULT_TERM);
        }
        environment.insert(SPACE_VARIABLE.into(), self.space.as_str().into());
        environment
    }
}

/// Whether this process could run the file, by its permissions.
pub fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn directory(wanted: Option<&str>, environment: &Environment) -> Result<PathBuf, Error> {
    if let Some(wanted) = wanted {
        let directory = Path::new("/").join(wanted);
        return if directory.is_dir() {
            Ok(directory)
        } else {
            Err(Error::NoDirectory(wanted.to_owned()))
        };
    }
    let home = environment.get(OsStr::new("HOME")).map(PathBuf::from);
    Ok(home.filter(|home| home.is_dir()).unwrap_or_else(|| PathBuf::from("/")))
}

fn find(name: &str, environment: &Environment, directory: &Path) -> Result<PathBuf, Error> {
    if name.contains('/') {
        let file = directory.join(name);
        return if is_executable(&file) {
            Ok(file)
        } else {
            Err(Error::NotExecutable(name.to_owned()))
        };
    }
    let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|folder| directory.join(folder).join(name))
        .find(|file| !name.is_empty() && is_executable(file));
    found.ok_or_else(|| Error::NotFound {
        program: name.to_owned(),
        path: path.to_string_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use knot_core::agent::TerminalSize;

    use super::*;

    fn resolve(run: &Run) -> Result<Program, Error> {
        let environment = [("TERM".into(), "dumb".into()), ("A".into(), "agent".into())];
        Surroundings::new("calm-otter".to_owned(), environment.into_iter().collect()).resolve(run)
    }

    fn command(words: &[&str]) -> Run {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Run { command: Command::Program(words), ..Run::default() }
    }

    fn value<'a>(program: &'a Program, name: &str) -> Option<&'a str> {
        program.environment.get(OsStr::new(name)).and_then(|value| value.to_str())
    }

    #[test]
    fn a_bare_environment_gets_what_programs_rely_on() {
        let program = resolve(&command(&["sh", "-c", "true"])).unwrap();
        for name in ["HOME", "USER", "LOGNAME", "SHELL"] {
            assert!(value(&program, name).is_some_and(|value| !value.is_empty()), "{name}");
        }
        assert_eq!(value(&program, "PATH"), Some(DEFAULT_PATH));
        assert_eq!(value(&program, "KNOT_SPACE"), Some("calm-otter"));
        assert_eq!(value(&program, "TERM"), None, "there is no terminal");
        assert!(program.file.is_absolute() && program.name == "sh");
    }

    #[test]
    fn a_session_overrides_the_agent() {
        let mut run = command(&["sh"]);
        run.terminal = Some(TerminalSize { columns: 80, rows: 24 });
        run.environment = [("A".to_owned(), "session".to_owned())].into();
        let program = resolve(&run).unwrap();
        assert_eq!(value(&program, "A"), Some("session"));
        assert_eq!(value(&program, "TERM"), Some(DEFAULT_TERM));
    }

    #[test]
    fn no_command_is_a_login_shell() {
        let shell = resolve(&Run::default()).unwrap();
        assert!(shell.name.to_string_lossy().starts_with('-'));
    }

    #[test]
    fn a_line_is_for_the_login_shell() {
        let line = Command::Line("echo a; exit 3".to_owned());
        let shell = resolve(&Run { command: line, ..Run::default() }).unwrap();
        assert_eq!(shell.arguments, ["-c", "echo a; exit 3"]);
        assert_eq!(Some(shell.name.as_os_str()), shell.file.file_name());
    }

    #[test]
    fn what_cannot_run_says_why() {
        let missing = resolve(&command(&["no-such-program"])).unwrap_err();
        assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
        let text = resolve(&command(&["/etc/passwd"])).unwrap_err();
        assert!(matches!(text, Error::NotExecutable(_)), "{text}");
        let mut run = command(&["sh"]);
        run.directory = Some("/no/such".to_owned());
        assert!(matches!(resolve(&run), Err(Error::NoDirectory(_))));
        assert!(matches!(resolve(&command(&["sh", "a\0b"])), Err(Error::Nul)));
        assert!(matches!(resolve(&command(&[""])), Err(Error::NotFound { .. })));
    }
}
