//! Asking for a secret on the terminal, without echo.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

/// What to do where nobody can be asked.
pub(crate) const NO_TERMINAL: &str =
    "there is no terminal to ask on: use --user NAME --password-stdin, or --token TOKEN";

/// The longest secret.
const LIMIT: usize = 4096;

/// A terminal that gives each key as it is pressed and shows none; it is as before when this is dropped.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Switches the terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        enable_raw_mode().map(|()| Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // There is no terminal left to restore where this fails.
        let _ = disable_raw_mode();
    }
}

/// Asks for a secret on the terminal, whatever standard input is.
pub(crate) async fn secret(question: &str) -> Result<String, Failure> {
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| Failure::usage(NO_TERMINAL))?;
    let failed = |error: io::Error| Failure::local(format!("the terminal cannot be used: {error}"));
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(failed)?;
    terminal.write_all(question.as_bytes()).map_err(failed)?;
    let raw = RawMode::enter().map_err(failed)?;
    let reader = terminal.try_clone().map_err(failed)?;
    let answer = tokio::select! {
        answer = tokio::task::spawn_blocking(move || read(reader)) => answer,
        _ = terminated.recv() => Ok(Ok(None)),
        _ = hung_up.recv() => Ok(Ok(None)),
    };
    drop(raw);
    let _ = terminal.write_all(b"\n");
    let answer = answer.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
    let answer = answer.ok_or_else(|| Failure::local("signing in was given up"))?;
    String::from_utf8(answer).map_err(|_| Failure::usage("the password is not text in UTF-8"))
}

/// Reads to the end of the line; None where the user gave up.
fn read(mut terminal: File) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut key = [0u8; 1];
    while terminal.read(&mut key)? == 1 {
        if !press(&mut line, key) {
            continue;
        }
        return Ok((!matches!(key, [INTERRUPT | END])).then_some(line));
    }
    Ok(None)
}

const INTERRUPT: u8 = 3;
const END: u8 = 4;

/// Takes one byte as a line editor would; whether the line is complete.
fn press(line: &mut Vec<u8>, [key]: [u8; 1]) -> bool {
    match key {
        b'\r' | b'\n' | INTERRUPT | END => return true,
        // Backspace takes a whole character: its continuation bytes, then the first.
        0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
        // Control-U takes the line.
        0x15 => line.clear(),
        _ if line.len() < LIMIT => line.push(key),
        _ => (),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_edited_by_whole_characters() {
        let typed = |keys: &[u8]| {
            let mut line = Vec::new();
            let end = keys.iter().position(|key| press(&mut line, [*key]));
            (String::from_utf8(line).unwrap(), end.is_some())
        };
        assert_eq!(typed(b"secret\r"), ("secret".to_owned(), true));
        assert_eq!(typed("aß\u{7f}b\r".as_bytes()), ("ab".to_owned(), true));
        assert_eq!(typed(b"wrong\x15right"), ("right".to_owned(), false));
        assert_eq!(typed(b"\x7f\x7fx\n"), ("x".to_owned(), true));
    }
}
