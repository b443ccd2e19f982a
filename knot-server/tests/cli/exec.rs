//! `knot space exec`: bytes, signals and statuses go through unchanged.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use axum::extract::Path;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::server::{Script, World, problem};
use super::{knot, read, run};

/// The server's side: a few commands that the test names in the first word.
pub(crate) async fn serve(Path(name): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    match name.as_str() {
        "stopped" => {
            problem(StatusCode::CONFLICT, "not_running", "stopped is not running: start it")
        }
        _ => upgrade.on_upgrade(async |socket| {
            converse(socket).await;
        }),
    }
}

async fn converse(mut socket: WebSocket) -> Option<()> {
    let open = text(socket.recv().await)?;
    let command = open["command"][0].as_str().unwrap_or("shell").to_owned();
    match command.as_str() {
        "cat" => loop {
            match socket.recv().await?.ok()? {
                Message::Binary(data) => out(&mut socket, 1, &data).await?,
                message => {
                    assert_eq!(text(Some(Ok(message)))?, json!({ "end_of_input": true }));
                    return end(&mut socket, json!({ "exit": { "code": 0 } })).await;
                }
            }
        },
        "both" => {
            out(&mut socket, 1, b"to output\n").await?;
            out(&mut socket, 2, b"to errors\n").await?;
            end(&mut socket, json!({ "exit": { "code": 42 } })).await
        }
        "tty" => {
            let said = format!("{} {}\r\n", open["terminal"], open["environment"]["TERM"]);
            out(&mut socket, 1, said.as_bytes()).await?;
            let Message::Binary(keys) = socket.recv().await?.ok()? else { return None };
            out(&mut socket, 1, format!("keys {keys:?}\r\n").as_bytes()).await?;
            let size = text(socket.recv().await)?;
            out(&mut socket, 1, format!("now {size}\r\n").as_bytes()).await?;
            end(&mut socket, json!({ "exit": { "code": 4 } })).await
        }
        "killed" => end(&mut socket, json!({ "exit": { "signal": 9 } })).await,
        "missing" => {
            end(&mut socket, json!({ "failed": "no program is called missing: check its name" }))
                .await
        }
        "lost" => None,
        "endless" => loop {
            out(&mut socket, 1, &[b'y'; 8192]).await?;
        },
        "signals" => {
            out(&mut socket, 1, b"ready\n").await?;
            loop {
                let message = text(socket.recv().await)?;
                if let Some(signal) = message["signal"].as_i64() {
                    return end(&mut socket, json!({ "exit": { "signal": signal } })).await;
                }
            }
        }
        other => panic!("{other}"),
    }
}

pub(crate) fn text(message: Option<Result<Message, axum::Error>>) -> Option<Value> {
    match message?.ok()? {
        Message::Text(text) => serde_json::from_str(&text).ok(),
        _ => Some(Value::Null),
    }
}

pub(crate) async fn out(socket: &mut WebSocket, stream: u8, data: &[u8]) -> Option<()> {
    socket.send(Message::Binary([&[stream], data].concat().into())).await.ok()
}

/// Says how it ended, and reads on until the client has heard it.
pub(crate) async fn end(socket: &mut WebSocket, how: Value) -> Option<()> {
    socket.send(Message::Text(how.to_string().into())).await.ok()?;
    socket.send(Message::Close(None)).await.ok()?;
    while let Some(Ok(_)) = socket.recv().await {}
    Some(())
}

#[test]
fn any_bytes_go_there_and_back() {
    let world = World::start(Script::default());
    let bytes: Vec<u8> =
        (0..3_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut cat = knot(&world, &["space", "exec", "dev", "--", "cat"]);
    let mut child =
        cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut input, sent) = (child.stdin.take().unwrap(), bytes.clone());
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == bytes, "{} of {} bytes came back", output.stdout.len(), bytes.len());
}

#[test]
fn output_and_errors_stay_apart_and_the_status_is_the_commands() {
    let world = World::start(Script::default());
    let both = run(knot(&world, &["space", "exec", "dev", "--", "both"]));
    assert_eq!(both, (42, "to output\n".to_owned(), "to errors\n".to_owned()));
    assert_eq!(run(knot(&world, &["space", "exec", "dev", "--", "killed"])).0, 137);
}

#[test]
fn what_could_not_be_run_ends_with_125() {
    let world = World::start(Script::default());
    for (space, command, words) in [
        ("dev", "missing", "knot: no program is called missing: check its name\n"),
        ("stopped", "cat", "knot: stopped does not run, and no connection starts it: start it\n"),
    ] {
        let (status, _, errors) = run(knot(&world, &["space", "exec", space, "--", command]));
        assert_eq!((status, errors.as_str()), (125, words));
    }
    let (status, _, errors) = run(knot(&world, &["space", "exec", "dev", "--", "lost"]));
    assert_eq!(status, 125);
    assert!(
        errors.contains("was lost") && errors.contains("may still be running in dev"),
        "{errors}"
    );
}

#[test]
fn signals_are_passed_on() {
    let world = World::start(Script::default());
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = knot(&world, &["space", "exec", "dev", "--", "signals"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        kill_process(pid(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status));
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let world = World::start(Script::default());
    let mut endless = knot(&world, &["space", "exec", "dev", "--", "endless"]);
    let mut child = endless.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 8];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let (status, _, errors) = read(&child.wait_with_output().unwrap());
    assert_eq!((status, errors.as_str()), (141, ""));
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}
