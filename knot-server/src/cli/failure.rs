//! Why a command failed: one line for people, problem JSON for programs, and the exit code.

use std::fmt;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::output::clean;
use crate::api::types::Problem;

/// The status that the program ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The server said no, or the operation failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Not signed in, or not allowed.
    NotAllowed = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The name is taken or ambiguous, or someone else changed it at the same time.
    Conflict = 5,
    /// The server cannot be reached.
    Unreachable = 6,
    /// Timed out waiting for the outcome.
    TimedOut = 7,
    /// `exec` and `terminal`: the command could not be run, or was lost.
    CouldNotRun = 125,
    /// Whoever read our output has gone: as if SIGPIPE had ended the program.
    OutputClosed = 141,
}

/// Why a command failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    exit: Exit,
    problem: Value,
}

impl Failure {
    fn new(exit: Exit, code: &str, title: &str, detail: impl fmt::Display) -> Self {
        let problem = json!({ "type": "about:blank", "title": title, "code": code, "detail": detail.to_string() });
        Self { exit, problem }
    }

    /// The command line makes no sense.
    pub(crate) fn usage(detail: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, "usage", "Wrong usage", detail)
    }

    /// No server or token is known.
    pub(crate) fn not_signed_in(detail: impl fmt::Display) -> Self {
        Self::new(Exit::NotAllowed, "not_signed_in", "Not signed in", detail)
    }

    /// Something on this machine went wrong.
    pub(crate) fn local(detail: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, "local", "Failed on this machine", detail)
    }

    /// The server did what it was asked, and the operation failed.
    pub(crate) fn operation(detail: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, "operation_failed", "The operation failed", detail)
    }

    /// What answers is no knot server.
    pub(crate) fn not_knot(detail: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, "not_a_knot_server", "Not a knot server", detail)
    }

    /// The server cannot be reached.
    pub(crate) fn unreachable(detail: impl fmt::Display) -> Self {
        Self::new(Exit::Unreachable, "unreachable", "The server cannot be reached", detail)
    }

    /// The outcome did not come in time.
    pub(crate) fn timed_out(detail: impl fmt::Display) -> Self {
        Self::new(Exit::TimedOut, "timed_out", "Timed out", detail)
    }

    /// A command could not be run in a space, or was lost.
    pub(crate) fn could_not_run(detail: impl fmt::Display) -> Self {
        Self::new(Exit::CouldNotRun, "could_not_run", "The command could not be run", detail)
    }

    /// Standard output could not be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::OutputClosed,
            _ => Exit::Failed,
        };
        let detail = format!("the output could not be written: {error}");
        Self::new(exit, "output", "The output could not be written", detail)
    }

    /// The same with a hint, if the server said no with this code.
    #[must_use]
    pub(crate) fn with_hint(mut self, code: &str, hint: &str) -> Self {
        if self.problem.get("code").and_then(Value::as_str) == Some(code)
            && let Some(fields) = self.problem.as_object_mut()
        {
            let said = fields.get("detail").and_then(Value::as_str).unwrap_or_default();
            let said = format!("{}; {hint}", said.trim_end_matches('.'));
            fields.insert("detail".to_owned(), Value::String(said));
        }
        self
    }

    /// The server said no. `hint` is added to what it said.
    pub(crate) fn refused(problem: &Problem, raw: Value, hint: Option<&str>) -> Self {
        let exit = match problem.status {
            401 | 403 => Exit::NotAllowed,
            404 => Exit::NotFound,
            409 => Exit::Conflict,
            _ => Exit::Failed,
        };
        let mut raw = raw;
        if let (Some(hint), Some(fields)) = (hint, raw.as_object_mut()) {
            let said = problem.detail.trim_end_matches('.');
            fields.insert("detail".to_owned(), Value::String(format!("{said}; {hint}")));
        }
        Self { exit, problem: raw }
    }

    /// The same failure with the exit code that `exec` keeps for itself.
    pub(crate) fn into_could_not_run(mut self) -> Self {
        if self.exit != Exit::OutputClosed {
            self.exit = Exit::CouldNotRun;
        }
        self
    }

    /// The status to end with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether the server said no with this code.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.problem.get("code").and_then(Value::as_str) == Some(code)
    }

    /// Whether asking again later may help.
    pub(crate) fn is_passing(&self) -> bool {
        let status = self.problem.get("status").and_then(Value::as_u64);
        self.exit == Exit::Unreachable
            || status.is_some_and(|status| status >= 500 || status == 429)
    }

    /// Tells on standard error what happened; nobody is left to tell where the output was closed.
    pub(crate) fn report(&self, json: bool) {
        if self.exit == Exit::OutputClosed {
            return;
        }
        let mut lines = format!("knot: {self}\n");
        if json {
            lines.push_str(&self.problem.to_string());
            lines.push('\n');
        }
        // There is no one to tell where standard error is closed too.
        let _ = io::stderr().write_all(lines.as_bytes());
    }

    fn text(&self, field: &str) -> &str {
        self.problem.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.text("detail");
        f.write_str(&clean(if detail.is_empty() { self.text("title") } else { detail }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16) -> (Problem, Value) {
        let raw = json!({"type": "about:blank", "title": "No", "status": status, "code": "no", "detail": "no\u{1b}[2J way."});
        (serde_json::from_value(raw.clone()).unwrap(), raw)
    }

    #[test]
    fn each_status_has_its_exit_code() {
        for (status, exit) in [
            (400, Exit::Failed),
            (401, Exit::NotAllowed),
            (403, Exit::NotAllowed),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (500, Exit::Failed),
        ] {
            let (problem, raw) = problem(status);
            assert_eq!(Failure::refused(&problem, raw, None).exit(), exit, "{status}");
        }
    }

    #[test]
    fn a_hint_joins_the_servers_words_and_escapes_do_not_reach_the_terminal() {
        let (problem, raw) = problem(401);
        let failure = Failure::refused(&problem, raw, Some("sign in"));
        assert_eq!(failure.to_string(), "no [2J way; sign in");
    }
}
