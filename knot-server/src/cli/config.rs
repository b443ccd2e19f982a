//! What the command line remembers between runs: the server, and the tokens for it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// Files of ours are small; one that is not is not ours.
const FILE_LIMIT: u64 = 1024 * 1024;

/// The folder of the program's files: `$XDG_CONFIG_HOME/knot`, or `~/.config/knot`.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Where the folder is, whether it is there or not. None where the environment names no home.
    pub(crate) fn find() -> Option<Self> {
        let absolute = |name: &str| {
            let path = PathBuf::from(std::env::var_os(name)?);
            path.is_absolute().then_some(path)
        };
        let base =
            absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
        Some(Self(base.join("knot")))
    }

    /// This folder, for a test.
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a file; None where there is none.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<String>> {
        let file = match File::open(self.file(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut text = String::new();
        file.take(FILE_LIMIT).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Replaces a file as a whole, readable by its owner only. Whoever reads it meanwhile sees the old or the new one.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let new = self.file(&format!(".{name}.{}", std::process::id()));
        // One of that name can only be left from a dead process that had our number.
        let _ = fs::remove_file(&new);
        let written = write_private(&new, text).and_then(|()| fs::rename(&new, self.file(name)));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The config file, `config.toml`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Config {
    /// The server that commands are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// API tokens by URL: a token is sent to the server that gave it, never to another.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tokens: BTreeMap<String, String>,
    /// What another version of the program wrote.
    #[serde(flatten)]
    other: toml::Table,
}

/// The config file's name.
const CONFIG: &str = "config.toml";

impl Config {
    /// Reads the config file; an empty config where there is none. Says on standard error when others can read it.
    pub(crate) fn load(folder: Option<&Folder>) -> Result<Self, Failure> {
        let Some(folder) = folder else { return Ok(Self::default()) };
        let path = folder.file(CONFIG);
        let text = folder.read(CONFIG).map_err(|error| {
            Failure::local(format!("{} cannot be read: {error}", path.display()))
        })?;
        let Some(text) = text else { return Ok(Self::default()) };
        let mode = fs::metadata(&path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            let path = path.display();
            eprintln!("knot: warning: others can read your tokens in {path}: chmod 600 {path}");
        }
        toml::from_str(&text).map_err(|error| {
            let (path, why) = (path.display(), error.message());
            Failure::local(format!(
                "{path} is damaged ({why}): correct it, or delete it and sign in again"
            ))
        })
    }

    /// Writes the config file, readable by its owner only.
    pub(crate) fn store(&self, folder: Option<&Folder>) -> Result<(), Failure> {
        let Some(folder) = folder else {
            return Err(Failure::local(
                "there is no place for the config file: set HOME, or use KNOT_URL and KNOT_TOKEN instead",
            ));
        };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::local(format!("{} cannot be written: {error}", folder.file(CONFIG).display()))
        };
        let text = toml::to_string(self).map_err(|error| failed(&error))?;
        folder.write(CONFIG, &text).map_err(|error| failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(at: &tempfile::TempDir) -> Folder {
        Folder(at.path().join("deep/knot"))
    }

    #[test]
    fn what_is_stored_is_loaded_and_private() {
        let at = tempfile::tempdir().unwrap();
        let folder = folder(&at);
        folder.write(CONFIG, "colour = 'green'\n").unwrap();
        let mut config = Config::load(Some(&folder)).unwrap();
        config.url = Some("https://a".to_owned());
        config.tokens.insert("https://a".to_owned(), "secret".to_owned());
        config.store(Some(&folder)).unwrap();

        let again = Config::load(Some(&folder)).unwrap();
        assert_eq!(again.url.as_deref(), Some("https://a"));
        assert_eq!(again.tokens["https://a"], "secret");
        assert_eq!(
            again.other["colour"].as_str(),
            Some("green"),
            "another version's setting is kept"
        );
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.file(CONFIG)), 0o600);
        assert_eq!(mode(folder.0.clone()), 0o700);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let at = tempfile::tempdir().unwrap();
        let folder = folder(&at);
        folder.write(CONFIG, "url = [").unwrap();
        let failure = Config::load(Some(&folder)).err().unwrap();
        assert!(failure.to_string().contains("config.toml is damaged"), "{failure}");
    }
}
