//! Why a server carries nobody into spaces any more: it stops, or it was removed from its cluster and hears of no
//! right that is taken away.

use super::{
    app::App,
    problem::{Code, Problem},
};

/// Why this server ends the terminals, commands and connections that run through it, and takes no new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It is told to stop.
    Stopping,
    /// It was removed from its cluster.
    Removed,
}

impl Leaving {
    /// What whoever is cut off is told, and what to do.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Stopping => "this server is stopping: open it again, through another server",
            Self::Removed => {
                "this server was removed from its cluster: open it again, through another server"
            }
        }
    }

    fn code(self) -> Code {
        match self {
            Self::Stopping => Code::Draining,
            Self::Removed => Code::Removed,
        }
    }
}

impl App {
    /// Whether this server takes nobody in any more, and why.
    pub(crate) fn leaving(&self) -> Option<Leaving> {
        match (self.drain.is_cancelled(), *self.removed.borrow()) {
            (_, true) => Some(Leaving::Removed),
            (true, _) => Some(Leaving::Stopping),
            (false, false) => None,
        }
    }

    /// Waits until [`App::leaving`] says why.
    pub(crate) async fn leaves(&self) -> Leaving {
        let mut removed = self.removed.clone();
        tokio::select! {
            () = self.drain.cancelled() => Leaving::Stopping,
            // What would say so is gone only when the server has ended.
            Ok(_) = removed.wait_for(|removed| *removed) => Leaving::Removed,
        }
    }

    /// Refuses what is to be opened through this server once it is leaving.
    pub(super) fn stays(&self) -> Result<(), Problem> {
        match self.leaving() {
            Some(why) => Err(Problem::new(why.code(), why.words())),
            None => Ok(()),
        }
    }
}
