//! Terminals that outlive their viewers' streams: which there are, and what is asked of them.
//!
//! A terminal lives until its command ends or it is hung up. Its last output and how it ended are kept a
//! while longer, for a viewer that was cut off then.

mod kept;
mod log;
mod screen;
mod state;
mod viewer;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use knot_core::agent::{
    Answer, Attach, Command, MAX_TERMINAL_NAME, MAX_TERMINALS, Make, Refusal, TerminalInfo,
};
use quinn::SendStream;
use uuid::Uuid;

use self::kept::Kept;
use super::{Gone, Refused, Shared, answer, finish, refuse};
use crate::process;

/// How many terminals that have ended are kept for who was cut off, and for how long.
const ENDED: usize = 16;
const ENDED_FOR: Duration = Duration::from_secs(10 * 60);
/// The most characters of a command in a list.
const MAX_COMMAND: usize = 120;
/// The name of a terminal whose command is the login shell.
const SHELL: &str = "shell";

/// All terminals of this agent.
#[derive(Debug, Default)]
pub(super) struct Terminals(Mutex<HashMap<Uuid, Arc<Kept>>>);

impl Terminals {
    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Kept>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut ended: Vec<(Instant, Uuid)> =
            all.iter().filter_map(|(id, kept)| Some((kept.ended()?, *id))).collect();
        ended.sort();
        let over = ended.len().saturating_sub(ENDED);
        let old = |(index, (ended, _)): &(usize, (Instant, Uuid))| {
            *index < over || now.duration_since(*ended) > ENDED_FOR
        };
        for (_, (_, id)) in ended.into_iter().enumerate().filter(old) {
            all.remove(&id);
        }
        all
    }

    fn living(&self, id: Uuid) -> Result<Arc<Kept>, Refused> {
        let found = self.all().get(&id).filter(|kept| kept.ended().is_none()).cloned();
        found.ok_or_else(unknown)
    }

    fn list(&self) -> Vec<TerminalInfo> {
        let all = self.all();
        let living = all.values().filter(|kept| kept.ended().is_none());
        let mut list: Vec<TerminalInfo> = living.map(|kept| kept.info()).collect();
        list.sort_by_key(|terminal| (terminal.since, terminal.id));
        list
    }

    fn rename(&self, id: Uuid, name: &str) -> Result<(), Refused> {
        let terminal = self.living(id)?;
        let name = clean(name, MAX_TERMINAL_NAME);
        let failed = |why: &str| Refused { refusal: Refusal::Failed, why: why.to_owned() };
        if name.is_empty() {
            return Err(failed("a terminal's name has at least one character"));
        }
        if self.list().iter().any(|other| other.name == name && other.id != id) {
            return Err(failed("another terminal of this space has this name"));
        }
        terminal.rename(name);
        Ok(())
    }
}

impl Shared {
    /// Says which terminals there are.
    pub(super) async fn list_terminals(&self, mut send: SendStream) -> Result<(), Gone> {
        answer(&mut send, &Answer::Ready).await?;
        finish(send, &self.terminals.list()).await
    }

    /// Gives a terminal another name.
    pub(super) async fn rename_terminal(
        &self,
        id: Uuid,
        name: &str,
        send: SendStream,
    ) -> Result<(), Gone> {
        match self.terminals.rename(id, name) {
            Ok(()) => finish(send, &Answer::Ready).await,
            Err(refused) => refuse(send, refused).await,
        }
    }

    /// Hangs a terminal up.
    pub(super) async fn end_terminal(&self, id: Uuid, send: SendStream) -> Result<(), Gone> {
        match self.terminals.living(id) {
            Ok(terminal) => {
                terminal.hang_up();
                finish(send, &Answer::Ready).await
            }
            Err(refused) => refuse(send, refused).await,
        }
    }

    /// The terminal that is to be looked at, made if it is not there and that is wanted.
    fn find_or_make(&self, attach: &Attach) -> Result<Arc<Kept>, Refused> {
        let mut all = self.terminals.all();
        if let Some(kept) = all.get(&attach.terminal) {
            return Ok(Arc::clone(kept));
        }
        let Make { run, name } = attach.make.clone().ok_or_else(unknown)?;
        if self.shutdown.is_cancelled() {
            let why = "the space is stopping".to_owned();
            return Err(Refused { refusal: Refusal::Failed, why });
        }
        let living = || all.values().filter(|kept| kept.ended().is_none());
        if living().count() >= MAX_TERMINALS {
            let why = format!("{MAX_TERMINALS} terminals are open in this space: end some");
            return Err(Refused { refusal: Refusal::TooMany, why });
        }
        let command = shown(&run.command);
        let wanted = match clean(&name, MAX_TERMINAL_NAME - 4) {
            name if name.is_empty() => called(&run.command),
            name => name,
        };
        let taken = |name: &str| living().any(|kept| kept.info().name == name);
        let names = (2..).map(|n| format!("{wanted}-{n}"));
        let mut names = std::iter::once(wanted.clone()).chain(names);
        let name = names.find(|name| !taken(name)).unwrap_or(wanted);
        let size = screen::bounded(attach.size);
        let run = knot_core::agent::Run { terminal: Some(size), ..run };
        let process = process::start(&run, &self.surroundings, &self.children)
            .map_err(|error| Refused { refusal: Refusal::Failed, why: error.to_string() })?;
        let (kept, work) = Kept::new(attach.terminal, name, command, size, process);
        let kept = Arc::new(kept);
        tracing::debug!(terminal = %attach.terminal, "terminal made");
        let (own, activity, shutdown) =
            (Arc::clone(&kept), self.activity.clone(), self.shutdown.clone());
        self.tasks.spawn(async move { own.run(work, &activity, &shutdown).await });
        all.insert(attach.terminal, Arc::clone(&kept));
        Ok(kept)
    }
}

fn unknown() -> Refused {
    let why =
        "there is no such terminal in this space: it has ended, or the space was started again";
    Refused { refusal: Refusal::NotFound, why: why.to_owned() }
}

fn clean(text: &str, max: usize) -> String {
    let shown = text.chars().filter(|character| !character.is_control());
    shown.collect::<String>().trim().chars().take(max).collect()
}

/// A command in a few words.
fn shown(command: &Command) -> String {
    let text = match command {
        Command::Login => SHELL.to_owned(),
        Command::Line(line) => line.clone(),
        Command::Program(words) => words.join(" "),
    };
    clean(&text, MAX_COMMAND)
}

/// What a command's terminal is called where nobody says so.
fn called(command: &Command) -> String {
    let text = shown(command);
    let first = text.split_whitespace().next().unwrap_or(SHELL);
    clean(first.rsplit('/').next().unwrap_or(SHELL), MAX_TERMINAL_NAME - 4)
}
