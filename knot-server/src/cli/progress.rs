//! How far a wait has come, on standard error: one line that changes on a terminal, else a line for each change.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use super::output::clean;
use super::time::format_duration;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Lines,
    OneLine,
}

/// The progress of one wait; it leaves no trace on a terminal when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    place: Place,
    subject: String,
    started: Instant,
    state: RefCell<String>,
}

impl Progress {
    /// Starts to show the progress of `subject`.
    pub(crate) fn new(subject: &str, shown: bool) -> Self {
        let place = match (shown, io::stderr().is_terminal()) {
            (false, _) => Place::Nowhere,
            (true, false) => Place::Lines,
            (true, true) => Place::OneLine,
        };
        Self { place, subject: clean(subject), started: Instant::now(), state: RefCell::default() }
    }

    /// Says where it stands now.
    pub(crate) fn say(&self, state: &str) {
        let state = clean(state);
        if *self.state.borrow() == state {
            return;
        }
        *self.state.borrow_mut() = state;
        match self.place {
            Place::Nowhere => (),
            Place::Lines => write(&format!("{}\n", self.line())),
            Place::OneLine => self.draw(),
        }
    }

    /// What was said last.
    pub(crate) fn state(&self) -> String {
        self.state.borrow().clone()
    }

    /// How long it has been.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Keeps the elapsed time on a terminal right; never ends.
    pub(crate) async fn run(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            if self.place == Place::OneLine && !self.state.borrow().is_empty() {
                self.draw();
            }
        }
    }

    fn line(&self) -> String {
        format!("{}: {} ({})", self.subject, self.state.borrow(), format_duration(self.elapsed()))
    }

    fn draw(&self) {
        let width = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let line: String = self.line().chars().take(width.saturating_sub(1)).collect();
        write(&format!("\r\u{1b}[K{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.place == Place::OneLine {
            write("\r\u{1b}[K");
        }
    }
}

/// Progress that cannot be shown is no reason to fail.
fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
