//! Who the agent runs as, read from `/etc/passwd` without the C library.
//!
//! The C library's lookups load modules from the image that the agent runs in, which a statically
//! linked program must not do.

use std::{fs, path::Path};

/// The longest `/etc/passwd` that is looked at, in bytes.
const MAX_LENGTH: u64 = 1 << 20;

/// Shells to fall back to, best first.
const SHELLS: &[&str] = &[
    "/bin/bash",
    "/usr/bin/bash",
    "/bin/sh",
    "/usr/bin/sh",
    "/bin/ash",
    "/bin/dash",
    "/bin/zsh",
    "/busybox/sh",
];

/// Programs that are set as a shell to keep people from logging in. Who may use a space is decided
/// before the agent hears of it.
const NO_SHELLS: &[&str] = &["nologin", "false"];

/// The account that the agent and all that it starts run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's name; the number where there is none.
    pub name: String,
    /// The home directory; `/` where none is known.
    pub home: String,
    /// The shell that the account names, which need not exist.
    shell: Option<String>,
}

impl Account {
    /// The account of this process, or a plain one where the image does not name it.
    pub fn current() -> Self {
        let id = rustix::process::getuid().as_raw();
        let passwd = Path::new("/etc/passwd");
        let short = fs::metadata(passwd).is_ok_and(|file| file.len() <= MAX_LENGTH);
        let text = if short { fs::read(passwd).unwrap_or_default() } else { Vec::new() };
        Self::find(&String::from_utf8_lossy(&text), id)
    }

    fn find(passwd: &str, id: u32) -> Self {
        passwd.lines().find_map(|line| Self::parse(line, id)).unwrap_or_else(|| {
            let name = if id == 0 { "root".to_owned() } else { id.to_string() };
            Self { name, home: "/".to_owned(), shell: None }
        })
    }

    fn parse(line: &str, id: u32) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        if fields.nth(1)?.parse() != Ok(id) {
            return None;
        }
        let home = fields.nth(2).filter(|home| home.starts_with('/')).unwrap_or("/");
        let shell = fields.next().filter(|shell| shell.starts_with('/'));
        Some(Self { name: name.to_owned(), home: home.to_owned(), shell: shell.map(str::to_owned) })
    }

    /// The shell to log in with, if the image has any.
    pub fn login_shell(&self) -> Option<String> {
        let own = self.shell.iter().map(String::as_str).filter(|shell| {
            let name = Path::new(shell).file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| !NO_SHELLS.contains(&name))
        });
        own.chain(SHELLS.iter().copied())
            .find(|shell| crate::program::is_executable(Path::new(shell)))
            .map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\n\
        daemon:x:1:1::/nowhere:/usr/sbin/nologin\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\n";

    #[test]
    fn an_account_is_found_by_its_number() {
        let ada = Account::find(PASSWD, 1000);
        assert_eq!((ada.name.as_str(), ada.home.as_str()), ("ada", "/home/ada"));
        assert_eq!(ada.shell.as_deref(), Some("/bin/sh"));
    }

    #[test]
    fn an_image_without_accounts_still_has_a_user() {
        let root = Account::find("", 0);
        assert_eq!((root.name.as_str(), root.home.as_str()), ("root", "/"));
        assert_eq!(Account::find(PASSWD, 7).name, "7");
    }

    #[test]
    fn a_shell_that_refuses_people_is_passed_over() {
        let shell = Account::find(PASSWD, 1).login_shell().unwrap();
        assert!(SHELLS.contains(&shell.as_str()), "{shell}");
    }
}
