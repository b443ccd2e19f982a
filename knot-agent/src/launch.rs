//! What the agent is started with: read from the environment, and kept from what it starts.

use std::ffi::{OsStr, OsString};

use knot_core::{
    agent::{COMMAND_VARIABLE, LAUNCH_VARIABLE, Launch},
    net::{KeyPair, keys},
};
use serde::de::DeserializeOwned;

use crate::program::Environment;

/// The agent cannot start: its environment was not made by a knot server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no launch.
    #[error("{LAUNCH_VARIABLE} is not set: this program is started by a knot server, in a space")]
    Missing,
    /// A variable is not the JSON that it has to be.
    #[error("{variable} cannot be read as JSON ({cause}): start this space from a knot server")]
    Malformed {
        /// The variable's name.
        variable: &'static str,
        /// What is wrong with it. The content is a secret and is not shown.
        cause: String,
    },
    /// The launch holds no usable key.
    #[error("the key in {LAUNCH_VARIABLE} is of no use: {0}")]
    Key(#[source] keys::Error),
}

/// Everything that an agent is told at its start.
#[derive(Debug)]
pub struct Settings {
    /// The launch, without its secret.
    pub launch: Launch,
    /// The key of the secret, good once.
    pub secret: KeyPair,
    /// The space's main command: program and arguments, empty for none.
    pub command: Vec<String>,
    /// The environment of everything the agent starts: its own without its secrets.
    pub environment: Environment,
}

impl Settings {
    /// Reads the variables that a server sets, and keeps them out of [`Settings::environment`].
    pub fn from_environment(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let mut environment: Environment = variables.into_iter().collect();
        let launch = environment.remove(OsStr::new(LAUNCH_VARIABLE)).ok_or(Error::Missing)?;
        let command = environment.remove(OsStr::new(COMMAND_VARIABLE)).unwrap_or_default();
        let mut launch: Launch = parse(LAUNCH_VARIABLE, &launch)?;
        let secret = KeyPair::from_base64(&std::mem::take(&mut launch.key)).map_err(Error::Key)?;
        let command =
            if command.is_empty() { Vec::new() } else { parse(COMMAND_VARIABLE, &command)? };
        Ok(Self { launch, secret, command, environment })
    }
}

fn parse<T: DeserializeOwned>(variable: &'static str, text: &OsString) -> Result<T, Error> {
    let malformed = |cause| Error::Malformed { variable, cause };
    let text = text.to_str().ok_or_else(|| malformed("not UTF-8".to_owned()))?;
    serde_json::from_str(text).map_err(|error| {
        // serde's messages may quote the input, and the input holds a key.
        let (line, column) = (error.line(), error.column());
        malformed(format!("{:?} error at {line}:{column}", error.classify()))
    })
}

#[cfg(test)]
mod tests {
    use knot_core::generation::Generation;
    use uuid::Uuid;

    use super::*;

    fn launch(key: &str) -> String {
        serde_json::to_string(&Launch {
            space: Uuid::nil(),
            name: "calm-otter".to_owned(),
            generation: Generation::default(),
            key: key.to_owned(),
            ..Launch::default()
        })
        .unwrap()
    }

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::from_environment(variables.iter().map(|(k, v)| (k.into(), v.into())))
    }

    #[test]
    fn the_agents_own_variables_do_not_reach_what_it_starts() {
        let key = KeyPair::generate().unwrap();
        let launch = launch(&key.to_base64());
        let command = r#"["sleep","1"]"#;
        let settings =
            read(&[(LAUNCH_VARIABLE, &launch), (COMMAND_VARIABLE, command), ("HOME", "/root")])
                .unwrap();
        assert_eq!(settings.secret.public(), key.public());
        assert_eq!(settings.command, ["sleep", "1"]);
        assert_eq!(settings.environment.len(), 1);
        assert!(!format!("{settings:?}").contains(&key.to_base64()));
    }

    #[test]
    fn a_wrong_launch_is_one_line_that_shows_no_secret() {
        assert!(matches!(read(&[]), Err(Error::Missing)));
        for (variable, text) in [(LAUNCH_VARIABLE, "{\"key\":\"hush\""), (LAUNCH_VARIABLE, "")] {
            let message = read(&[(variable, text)]).unwrap_err().to_string();
            assert!(message.starts_with(variable) && !message.contains('\n'), "{message}");
            assert!(!message.contains("hush"), "{message}");
        }
        assert!(matches!(read(&[(LAUNCH_VARIABLE, &launch("AAAA"))]), Err(Error::Key(_))));
    }
}
