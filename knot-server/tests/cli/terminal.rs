//! `knot space terminal`: a shell on this terminal, which is as before afterwards, however it ended.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Mutex;

use axum::extract::Path;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use rustix::process::{Signal, kill_process};
use rustix::termios::{Termios, tcgetattr};
use serde_json::{Value, json};

use super::exec::{end, pid, text};
use super::server::{Script, World, space};
use super::{knot, run};
use crate::screen::{Screen, put_on, resize};

/// What terminals have said and taken, by their ids: they outlive their viewers.
static KEPT: Mutex<Vec<(String, Vec<u8>, u64)>> = Mutex::new(Vec::new());

/// Changes what is kept of a terminal, and gives its output and how much it took.
fn kept(id: &str, change: impl FnOnce(&mut Vec<u8>, &mut u64)) -> (Vec<u8>, u64) {
    let mut all = KEPT.lock().unwrap();
    if !all.iter().any(|(known, ..)| known == id) {
        all.push((id.to_owned(), Vec::new(), 0));
    }
    let (_, output, taken) = all.iter_mut().find(|(known, ..)| known == id).unwrap();
    change(output, taken);
    (output.clone(), *taken)
}

/// The space's only terminal that was there before.
pub(crate) fn list() -> Value {
    let terminal = json!({
        "id": "0199c5a4-2f4e-7c51-b6a3-0d1f5e8c9a77", "name": "build", "command": "make",
        "size": {"columns": 80, "rows": 24}, "viewers": 1, "since": "2026-01-01T00:00:00.000Z",
    });
    json!({ "terminals": [terminal] })
}

/// The server's side of a terminal.
pub(crate) async fn serve(
    Path((_, id)): Path<(String, String)>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        shell(&mut socket, &id).await;
    })
}

async fn say(socket: &mut WebSocket, id: &str, words: &str) -> Option<()> {
    kept(id, |output, _| output.extend_from_slice(words.as_bytes()));
    socket.send(Message::Binary(words.to_owned().into())).await.ok()
}

/// It says what it was told, and obeys single keys.
async fn shell(socket: &mut WebSocket, id: &str) -> Option<()> {
    let view = text(socket.recv().await)?;
    if view["make"].is_object() {
        let (size, term) = (&view["size"], &view["make"]["environment"]["TERM"]);
        let hello = format!("{}x{} {term}\r\n", size["columns"], size["rows"]);
        kept(id, |output, _| *output = hello.into_bytes());
    }
    let (output, taken) = kept(id, |_, _| ());
    let from = view["from"].as_u64().unwrap_or_default();
    let attached = json!({
        "from": from, "head": output.len(), "taken": taken, "size": view["size"], "leads": true,
    });
    socket.send(Message::Text(json!({ "attached": attached }).to_string().into())).await.ok()?;
    let rest = output[usize::try_from(from).unwrap()..].to_vec();
    socket.send(Message::Binary(rest.into())).await.ok()?;
    loop {
        match socket.recv().await?.ok()? {
            Message::Binary(keys) => {
                for key in &keys {
                    let (_, taken) = kept(id, |_, taken| *taken += 1);
                    let told = json!({ "taken": taken }).to_string();
                    match key {
                        b'q' => {
                            let over =
                                json!({"reason": "ended", "detail": "", "exit": {"code": 3}});
                            return end(socket, json!({ "over": over })).await;
                        }
                        b's' => {
                            let over = json!({"reason": "space_stopped", "detail": "the space has stopped"});
                            return end(socket, json!({ "over": over })).await;
                        }
                        // The connection is lost, with something said that does not arrive.
                        b'x' => {
                            kept(id, |output, _| output.extend_from_slice(b"said in vain\r\n"));
                            return None;
                        }
                        b'v' => say(socket, id, "\x1b[?1049hvim").await?,
                        key => say(socket, id, &format!("key [{key}]\r\n")).await?,
                    }
                    socket.send(Message::Text(told.into())).await.ok()?;
                }
            }
            message => {
                let size = text(Some(Ok(message)))?["resize"].clone();
                if size.is_object() {
                    let words = format!("now {}x{}\r\n", size["columns"], size["rows"]);
                    say(socket, id, &words).await?;
                }
            }
        }
    }
}

/// A person at a terminal, with the program running on it.
struct Person {
    screen: Screen,
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
        let (screen, line) = Screen::new();
        resize(&line, 100, 30);
        let before = tcgetattr(&line).unwrap();
        let child = put_on(&mut knot(&world, arguments), &line).spawn().unwrap();
        Self { screen, line, before, child, _world: world }
    }

    fn types(&mut self, keys: &str) {
        self.screen.types(keys);
    }

    /// Looks until the screen shows the words, and gives all that it showed.
    #[track_caller]
    fn sees(&mut self, words: &str) -> String {
        self.screen.sees(words)
    }

    fn has_the_terminal_back(&self) {
        let now = tcgetattr(&self.line).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
    }
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
fn a_lost_connection_is_opened_again_and_the_screen_goes_on() {
    let mut person = Person::sit_down();
    person.sees("100x30");
    person.types("a");
    person.sees("key [97]\r\n");
    // What is typed before the other connection is there waits for it.
    person.types("xb");
    let seen = person.sees("key [98]\r\n");
    assert_eq!(seen.matches("said in vain").count(), 1, "{seen:?}");
    assert!(seen.starts_with("said in vain"), "nothing is said of the loss: {seen:?}");
    person.types("q");
    person.sees("knot: the terminal of dev ended: the shell exited with status 3");
    assert_eq!(person.child.wait().unwrap().code(), Some(3));
}

#[test]
fn a_space_that_stops_leaves_a_usable_terminal() {
    let mut person = Person::sit_down();
    person.sees("100x30");
    person.types("v");
    person.sees("vim");
    person.types("s");
    let seen = person.sees("the terminal of dev ended: the space has stopped");
    assert!(seen.contains("\u{1b}[?1049l"), "{seen:?}");
    assert_eq!(person.child.wait().unwrap().code(), Some(125));
    person.has_the_terminal_back();
}

#[test]
fn enter_tilde_and_dot_let_go_of_a_terminal_that_goes_on() {
    let mut person = Person::sit_down();
    person.sees("100x30");
    person.types("\r~.");
    let seen = person.sees("look at it again with `knot space terminal dev --join");
    assert!(seen.contains("goes on"), "{seen:?}");
    assert_eq!(person.child.wait().unwrap().code(), Some(0));
    person.has_the_terminal_back();
}

#[test]
fn a_command_gets_this_terminal_where_it_is_asked_for() {
    let command = ["space", "exec", "-it", "dev", "--", "tty"];
    let mut person = Person::run(Script::default(), &command);
    person.sees("{\"columns\":100,\"rows\":30} \"xterm-256color\"");
    person.types("\u{3}");
    person.sees("keys b\"\\x03\"");
    resize(&person.line, 120, 40);
    kill_process(pid(&person.child), Signal::WINCH).unwrap();
    person.sees("now {\"resize\":{\"columns\":120,\"rows\":40}}");
    assert_eq!(person.child.wait().unwrap().code(), Some(4));
    person.has_the_terminal_back();
    let world = World::start(Script::default());
    let (status, _, errors) = run(knot(&world, &command));
    assert!(status != 0 && errors.contains("leave out -t"), "{status} {errors}");
}

#[test]
fn terminals_are_listed_and_ended_by_name() {
    let world = World::start(Script::default());
    let (status, listed, _) = run(knot(&world, &["space", "terminals", "dev"]));
    assert!(status == 0 && listed.contains("build  make  80x24"), "{listed}");
    let ended = run(knot(&world, &["space", "terminal", "dev", "--end", "build"]));
    assert_eq!((ended.0, ended.1.as_str()), (0, "build is ended\n"), "{ended:?}");
    let path = "/spaces/dev/terminals/0199c5a4-2f4e-7c51-b6a3-0d1f5e8c9a77";
    assert!(world.requests().contains(&format!("DELETE {path}")), "{:?}", world.requests());
    let (status, _, errors) = run(knot(&world, &["space", "terminal", "dev", "--end", "other"]));
    assert!(status == 2 && errors.contains("knot space terminals dev"), "{errors}");
}

#[test]
fn a_signal_leaves_a_usable_terminal() {
    let mut person = Person::sit_down();
    person.sees("100x30");
    kill_process(pid(&person.child), Signal::TERM).unwrap();
    person.sees("goes on: signal 15 ended this program");
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
    assert!(drawn.starts_with("\r|dev: provisioning ("), "{drawn:?}");
    assert!(drawn.contains("\r|dev is running on alpha, generation 1.3"), "{drawn:?}");
    assert_eq!(person.child.wait().unwrap().code(), Some(0));
}
