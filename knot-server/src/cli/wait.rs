//! Waiting for the outcome of a request: driven by the server's events, through lost connections, until a deadline.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Answer, Client};
use super::events::Decoder;
use super::failure::{Exit, Failure};
use super::progress::Progress;
use super::time::format_duration;
use crate::api::types::{Desired, Observed, Space, SpaceDeleted};

/// How long a silent stream of events is trusted before the space is read again.
const SILENCE: Duration = Duration::from_secs(30);

/// The shortest and the longest pause before a lost connection is made again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The space runs.
    Running,
    /// The space runs, with a later generation than before.
    Restarted,
    /// The space does not run.
    Stopped,
    /// Nothing is left of the space.
    Gone,
}

impl Goal {
    fn verb(self) -> &'static str {
        match self {
            Self::Running => "start",
            Self::Restarted => "restart",
            Self::Stopped => "stop",
            Self::Gone => "be deleted",
        }
    }
}

/// A goal, and how the space was before it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    goal: Goal,
    before: Option<Before>,
}

#[derive(Clone, Debug)]
struct Before {
    generation: Option<(u64, u64)>,
    /// Of a failure that was there already: its generation and time.
    failure: Option<(Option<String>, Option<String>)>,
}

/// What a space's state means for the goal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Waiting,
    Reached,
    Failed(String),
    /// Somebody asked for the opposite meanwhile.
    Overruled,
}

impl Aim {
    /// The goal for a space that was like `before`; None for one that is new.
    pub(crate) fn new(goal: Goal, before: Option<&Space>) -> Self {
        let before = before.map(|space| Before {
            generation: generation(space),
            failure: (space.observed == Observed::Failed)
                .then(|| (space.generation.clone(), space.since.clone())),
        });
        Self { goal, before }
    }

    fn judge(&self, space: &Space) -> Verdict {
        let overruled = match self.goal {
            Goal::Running | Goal::Restarted => space.desired == Desired::Stopped,
            Goal::Stopped => space.desired == Desired::Running,
            Goal::Gone => false,
        };
        if overruled {
            return Verdict::Overruled;
        }
        let reached = match (self.goal, space.observed) {
            (Goal::Running, Observed::Running) => true,
            (Goal::Restarted, Observed::Running) => {
                generation(space) > self.before.as_ref().and_then(|before| before.generation)
            }
            (Goal::Stopped, Observed::Stopped | Observed::Created) => true,
            (Goal::Gone, Observed::Gone) => true,
            _ => false,
        };
        if reached {
            return Verdict::Reached;
        }
        let failure = (space.generation.clone(), space.since.clone());
        let is_old =
            self.before.as_ref().is_some_and(|before| before.failure.as_ref() == Some(&failure));
        if space.observed == Observed::Failed && !is_old {
            return Verdict::Failed(
                space.cause.clone().unwrap_or_else(|| "no cause was given".to_owned()),
            );
        }
        Verdict::Waiting
    }

    /// What to show while waiting.
    fn words(&self, space: &Space) -> String {
        let state = space.observed.to_string();
        match (space.observed, &space.cause) {
            (Observed::Unreachable, _) => {
                format!("its home {} cannot be reached, waiting", space.home)
            }
            (Observed::Created | Observed::Stopped | Observed::Failed | Observed::Running, _) => {
                format!("{state}, waiting for {}", space.home)
            }
            (_, Some(cause)) => format!("{state}, {cause}"),
            (_, None) => state,
        }
    }
}

fn generation(space: &Space) -> Option<(u64, u64)> {
    let (term, number) = space.generation.as_deref()?.split_once('.')?;
    Some((term.parse().ok()?, number.parse().ok()?))
}

/// Waits until the space that `first` shows is as aimed; the space then, or None where it is gone.
pub(crate) async fn outcome(
    client: &Client,
    aim: &Aim,
    first: &Space,
    limit: Duration,
    progress: &Progress,
) -> Result<Option<Answer<Space>>, Failure> {
    let waiting = Waiting { client, aim, id: &first.id, name: &first.name, progress };
    let deadline = Instant::now() + limit;
    progress.say(&aim.words(first));
    let result = tokio::select! {
        result = timeout_at(deadline, waiting.follow()) => result,
        () = progress.run() => return Err(Failure::local("the display of progress ended")),
    };
    result.unwrap_or_else(|_| {
        let (name, state, limit) = (&first.name, progress.state(), format_duration(limit));
        Err(Failure::timed_out(format!(
            "{name} did not {} within {limit} ({state}); it goes on at the server: see `knot space show {name}`, or \
             wait longer with --timeout",
            aim.goal.verb()
        )))
    })
}

struct Waiting<'a> {
    client: &'a Client,
    aim: &'a Aim,
    id: &'a str,
    name: &'a str,
    progress: &'a Progress,
}

/// The end of a wait: the space as it was aimed to be, or gone.
type End = Option<Answer<Space>>;

impl Waiting<'_> {
    /// Follows the space through lost connections.
    async fn follow(&self) -> Result<End, Failure> {
        let mut pause = PAUSE.0;
        loop {
            let connected = Instant::now();
            match self.attend().await {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => (),
                Err(failure) if failure.is_passing() => {
                    self.progress.say(&format!("{failure}; trying again"))
                }
                Err(failure) => return Err(failure),
            }
            if connected.elapsed() > PAUSE.1 {
                pause = PAUSE.0;
            }
            sleep(pause).await;
            pause = PAUSE.1.min(pause * 2);
        }
    }

    /// Follows the space over one connection; None where that ended before the wait did.
    async fn attend(&self) -> Result<Option<End>, Failure> {
        let mut stream = self.client.events().await?;
        // What happened before the stream began is in no event.
        if let Some(end) = self.read().await? {
            return Ok(Some(end));
        }
        let mut decoder = Decoder::default();
        loop {
            let Ok(piece) = tokio::time::timeout(SILENCE, stream.chunk()).await else {
                if let Some(end) = self.read().await? {
                    return Ok(Some(end));
                }
                continue;
            };
            let Some(piece) = piece.map_err(|error| self.client.no_answer(&error))? else {
                return Ok(None);
            };
            for event in decoder.feed(&piece).map_err(Failure::not_knot)? {
                if let Some(end) = self.event(&event.name, &event.data)? {
                    return Ok(Some(end));
                }
            }
        }
    }

    async fn read(&self) -> Result<Option<End>, Failure> {
        match self.client.get::<Space>(&["spaces", self.id]).await {
            Ok(answer) => self.judge(answer),
            Err(failure) if failure.exit() == Exit::NotFound && self.aim.goal == Goal::Gone => {
                Ok(Some(None))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Events of other spaces, and of a later version of the server, are passed over.
    fn event(&self, name: &str, data: &str) -> Result<Option<End>, Failure> {
        match name {
            "space" => {
                let Ok(raw) = serde_json::from_str::<Value>(data) else { return Ok(None) };
                match serde_json::from_value::<Space>(raw.clone()) {
                    Ok(value) if value.id == self.id => {
                        self.judge(Answer { value, raw, now: None })
                    }
                    _ => Ok(None),
                }
            }
            "space-deleted" => match serde_json::from_str::<SpaceDeleted>(data) {
                Ok(deleted) if deleted.id != self.id => Ok(None),
                Ok(_) if self.aim.goal == Goal::Gone => Ok(Some(None)),
                Ok(_) => Err(Failure::operation(format!("{} was deleted meanwhile", self.name))),
                Err(_) => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn judge(&self, space: Answer<Space>) -> Result<Option<End>, Failure> {
        let name = self.name;
        match self.aim.judge(&space.value) {
            Verdict::Reached if self.aim.goal == Goal::Gone => Ok(Some(None)),
            Verdict::Reached => Ok(Some(Some(space))),
            Verdict::Waiting => {
                self.progress.say(&self.aim.words(&space.value));
                Ok(None)
            }
            Verdict::Failed(cause) => Err(Failure::operation(format!(
                "{name} failed to {}: {cause}",
                self.aim.goal.verb()
            ))),
            Verdict::Overruled => Err(Failure::operation(format!(
                "{name} was told to be {} by someone else meanwhile",
                space.value.desired
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(desired: Desired, observed: Observed, generation: Option<&str>) -> Space {
        let text = |text: &str| text.to_owned();
        Space {
            id: text("1"),
            name: text("dev"),
            owner: text("anna"),
            owner_id: text("2"),
            template: text("rust"),
            template_id: text("3"),
            without: Vec::new(),
            desired,
            observed,
            cause: None,
            health: None,
            since: Some(text("2026-11-22T14:39:05Z")),
            generation: generation.map(text),
            revision: None,
            driver: None,
            home: text("alpha"),
            home_id: text("4"),
            home_reachable: true,
            reached: None,
            update_available: false,
            parameters: Default::default(),
            conflicts: Vec::new(),
            description: String::new(),
            note: String::new(),
            shares: Vec::new(),
            alt_names: Default::default(),
            forwards: Vec::new(),
            depends_on: Vec::new(),
            term: 1,
            moving_to: None,
            empty_volumes: false,
            created: text("2026-11-22T14:39:05Z"),
        }
    }

    #[test]
    fn a_restart_is_over_when_a_later_generation_runs() {
        let before = space(Desired::Running, Observed::Running, Some("1.9"));
        let aim = Aim::new(Goal::Restarted, Some(&before));
        assert_eq!(aim.judge(&before), Verdict::Waiting, "the one to end still runs");
        for (generation, verdict) in
            [("1.8", Verdict::Waiting), ("1.10", Verdict::Reached), ("2.1", Verdict::Reached)]
        {
            let now = space(Desired::Running, Observed::Running, Some(generation));
            assert_eq!(aim.judge(&now), verdict, "{generation}");
        }
    }

    #[test]
    fn an_old_failure_is_not_the_outcome() {
        let before = space(Desired::Stopped, Observed::Failed, Some("1.1"));
        let aim = Aim::new(Goal::Running, Some(&before));
        let same = Space { desired: Desired::Running, ..before };
        assert_eq!(aim.judge(&same), Verdict::Waiting);
        let again = Space { since: Some("2026-11-22T14:40:00Z".to_owned()), ..same.clone() };
        assert_eq!(aim.judge(&again), Verdict::Failed("no cause was given".to_owned()));
        assert!(
            matches!(Aim::new(Goal::Running, None).judge(&same), Verdict::Failed(_)),
            "a new space has no past"
        );
    }

    #[test]
    fn whoever_asks_for_the_opposite_ends_the_wait() {
        let aim = Aim::new(Goal::Running, None);
        assert_eq!(
            aim.judge(&space(Desired::Stopped, Observed::Stopping, None)),
            Verdict::Overruled
        );
        let aim = Aim::new(Goal::Stopped, None);
        assert_eq!(
            aim.judge(&space(Desired::Running, Observed::Running, None)),
            Verdict::Overruled
        );
        assert_eq!(aim.judge(&space(Desired::Stopped, Observed::Created, None)), Verdict::Reached);
    }
}
