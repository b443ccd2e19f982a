//! What one life of a server is called among the others.

use foca::Identity;

use crate::id::ServerId;

/// One life of a server. Who was called down never returns under the same name, but under a higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) server: ServerId,
    /// The run of the server, which each start raises.
    pub(super) run: u64,
    /// How often it was called down in this run and went on living.
    pub(super) renewal: u32,
}

impl Name {
    /// The name of a run that has not been called down.
    pub(super) fn new(server: ServerId, run: u64) -> Self {
        Self { server, run, renewal: 0 }
    }

    /// Whether this name comes after the other, of the same server.
    pub(super) fn is_after(&self, other: &Self) -> bool {
        (self.run, self.renewal) > (other.run, other.renewal)
    }
}

impl Identity for Name {
    type Addr = ServerId;

    fn renew(&self) -> Option<Self> {
        Some(match self.renewal.checked_add(1) {
            Some(renewal) => Self { renewal, ..*self },
            None => Self::new(self.server, self.run.checked_add(1)?),
        })
    }

    fn addr(&self) -> ServerId {
        self.server
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.is_after(adversary)
    }
}
