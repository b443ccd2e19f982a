//! `knot space terminal`: a shell on this terminal, which is as before afterwards, however it ended.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;

use axum::extract::ws::{Message, WebSocket};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};

use super::exec::{end, out, pid, text};
use super::knot;
use super::server::{Script, World, space};

/// The server's side: it says what it was told, and obeys single keys.
pub(crate) async fn shell(socket: &mut WebSocket, open: &Value) -> Option<()> {
    let size = &open["terminal"];
    let hello = format!("{}x{} {}\r\n", size["columns"], size["rows"], open["environment"]["TERM"]);
    out(socket, 1, hello.as_bytes()).await?;
    loop {
        match socket.recv().await?.ok()? {
            Message::Binary(key) => match key.as_ref() {
                b"q" => return end(socket, json!({ "exit": { "code": 3 } })).await,
                b"x" => return None,
                b"v" => out(socket, 1, b"\x1b[?1049hvim").await?,
                key => out(socket, 1, format!("key {key:?}\r\n").as_bytes()).await?,
            },
            message => {
                let size = text(Some(Ok(message)))?["resize"].clone();
                out(socket, 1, format!("now {}x{}\r\n", size["columns"], size["rows"]).as_bytes())
                    .await?;
            }
        }
    }
}

/// A person at a terminal, with the program running on it.
struct Person {
    screen: File,
    line: OwnedFd,
    before: Termios,
    child: Child,
    _world: World,
}

impl Person {
    fn sit_down() -> Self {
        Self::run(Script::default(), &["space", "terminal", "dev"])
    }

    fn run(script: Script, arguments: &[&str]) -> Self {
        let world = World::start(script);
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let line = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        resize(&line, 100, 30);
        let before = tcgetattr(&line).unwrap();
        let mut command = knot(&world, arguments);
        command.env("TERM", "xterm-256color");
        command
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap());
        let child = command.spawn().unwrap();
        Self { screen: File::from(screen), line, before, child, _world: world }
    }

    fn types(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads the screen until it shows the words.
    fn sees(&mut self, words: &str) -> String {
        let (mut seen, mut piece) = (String::new(), [0; 1024]);
        while !seen.contains(words) {
            let count = self.screen.read(&mut piece).unwrap();
            seen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        seen
    }

    fn has_the_terminal_back(&self) {
        let now = tcgetattr(&self.line).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
    }
}

fn resize(line: &OwnedFd, columns: u16, rows: u16) {
    tcsetwinsize(line, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
        .unwrap();
}

#[test]
fn keys_go_through_as_typed_and_the_end_is_told() {
    let mut person = Person::sit_down();
    person.sees("100x30 \"xterm-256color\"");
    person.types("\u{3}");
    person.sees("key [3]");
    resize(&person.line, 120, 40);
    kill_process(pid(&person.child), Signal::WINCH).unwrap();
    person.sees("now 120x40");
    person.types("q");
    person.sees("knot: the terminal of dev ended: the shell exited with status 3");
    assert_eq!(person.child.wait().unwrap().code(), Some(3));
    person.has_the_terminal_back();
}

#[test]
fn a_lost_connection_leaves_a_usable_terminal() {
    let mut person = Person::sit_down();
    person.sees("100x30");
    person.types("v");
    person.sees("vim");
    person.types("x");
    let seen = person.sees("knot space terminal dev");
    assert!(seen.contains("\u{1b}[?1049l"), "{seen:?}");
    assert!(seen.contains("the connection to http://"), "{seen:?}");
    assert_eq!(person.child.wait().unwrap().code(), Some(125));
    person.has_the_terminal_back();
}

#[test]
fn a_signal_leaves_a_usable_terminal() {
    let mut person = Person::sit_down();
    person.sees("100x30");
    kill_process(pid(&person.child), Signal::TERM).unwrap();
    person.sees("signal 15 ended this program");
    assert_eq!(person.child.wait().unwrap().code(), Some(143));
    person.has_the_terminal_back();
}

#[test]
fn progress_is_one_line_that_leaves_no_trace() {
    let states = [
        space("stopped", "stopped", "1.2"),
        space("running", "provisioning", "1.3"),
        space("running", "running", "1.3"),
    ];
    let mut person = Person::run(Script::states(&states), &["space", "start", "dev"]);
    let seen = person.sees("(after ");
    let drawn = seen.replace("\u{1b}[K", "|");
    assert!(!drawn.trim_end().contains('\n'), "{drawn:?}");
    assert!(drawn.starts_with("\r|dev: provisioning (0s)"), "{drawn:?}");
    assert!(drawn.contains("\r|dev is running on alpha, generation 1.3"), "{drawn:?}");
    assert_eq!(person.child.wait().unwrap().code(), Some(0));
}
