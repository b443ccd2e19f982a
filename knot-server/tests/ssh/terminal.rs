//! Terminals: size, modes, signals, and the client's shell on one.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, SpecialCodeIndex, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};

use crate::client::Client;

/// A person at a terminal, with `ssh` on it.
pub(crate) struct Person {
    screen: File,
    line: OwnedFd,
    pub(crate) child: Child,
}

impl Person {
    pub(crate) fn sit_down(client: &Client, arguments: &[&str]) -> Self {
        Self::at(&mut client.ssh(arguments))
    }

    /// A person with some other program on the terminal.
    pub(crate) fn at(command: &mut Command) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let line = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        resize(&line, 101, 33);
        let mut modes = tcgetattr(&line).unwrap();
        modes.special_codes[SpecialCodeIndex::VERASE] = 8;
        tcsetattr(&line, OptionalActions::Now, &modes).unwrap();
        command
            .env("TERM", "xterm-256color")
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap());
        Self { screen: File::from(screen), line, child: command.spawn().unwrap() }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads the screen until it shows the words.
    pub(crate) fn sees(&mut self, words: &str) -> String {
        let (mut seen, mut piece) = (String::new(), [0; 1024]);
        while !seen.contains(words) {
            let count = self.screen.read(&mut piece).unwrap();
            assert!(count > 0, "the screen went dark before `{words}`: {seen}");
            seen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        seen
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn resize(line: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(line, size).unwrap();
}

#[test]
fn a_terminal_has_the_size_modes_and_kind_of_the_clients() {
    let Some(client) = Client::start() else { return };
    let script = "stty size; stty -a | grep -o 'erase = ^.'; echo $TERM; \
        trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut person = Person::sit_down(&client, &["-tt", "dev@gate", script]);
    let seen = person.sees("ready");
    assert!(seen.contains("33 101"), "{seen}");
    assert!(seen.contains("erase = ^H"), "{seen}");
    assert!(seen.contains("xterm-256color"), "{seen}");
    resize(&person.line, 77, 22);
    // It is not the client's controlling terminal: nobody else tells it.
    let pid = Pid::from_raw(i32::try_from(person.child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::WINCH).unwrap();
    person.sees("22 77");
    assert_eq!(person.child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_login_shell_hears_keys_and_ends_with_its_status() {
    let Some(client) = Client::start() else { return };
    let mut person = Person::sit_down(&client, &["dev@gate"]);
    person.types("echo \"shell$0-$((40 + 2))\"\n");
    let seen = person.sees("-42");
    // What a shell is called that reads its login files.
    assert!(seen.contains("shell-"), "{seen}");
    // It is in the foreground before it says so: a key that came while the shell is just starting it would be lost on it.
    person.types("sh -c 'echo started-$((1 + 2)); exec sleep 1000'\n");
    person.sees("started-3");
    person.types("\u{3}");
    person.types("echo interrupted-$?\n");
    person.sees("interrupted-130");
    person.types("exit 5\n");
    assert_eq!(person.child.wait().unwrap().code(), Some(5));
}
