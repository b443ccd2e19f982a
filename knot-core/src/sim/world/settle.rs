//! The end of a schedule: all faults end, and the judge speaks.

use std::time::Duration;

use super::World;
use crate::{
    replica::{Core, CoreInput as Input},
    sim::{Failure, invariants, joiner},
};

/// How long a healed world may take until all replicas are equal.
const SETTLE: Duration = Duration::from_secs(120);
/// How long equal replicas must stay so.
const STAY: Duration = Duration::from_millis(2_500);

impl World {
    /// Ends all faults and separations, starts every server, and lets time pass until all replicas
    /// are equal and stay so; then judges what they have come to. Returns how long it took.
    ///
    /// # Errors
    /// They do not become equal, or not rightly so.
    pub fn settle(&mut self) -> Result<Duration, Failure> {
        let began = self.now;
        self.links.set_lossless(true);
        self.heal();
        for at in 0..self.servers.len() {
            if let Some(server) = self.servers.get(at) {
                server.disk.mend();
            }
            self.start(at)?;
        }
        let mut equal_since = None;
        while equal_since.is_none_or(|since| self.now < since + STAY) {
            self.run(Duration::from_millis(100))?;
            if self.is_still() {
                equal_since.get_or_insert(self.now);
            } else if equal_since.take().is_none() && self.now > began + SETTLE {
                let roots: Vec<_> = self.cores().map(|(at, core)| (at, core.root())).collect();
                let what = format!("the replicas did not become equal: {roots:?}");
                return Err(Failure::new(what).at(self.now));
            }
        }
        self.links.set_lossless(false);
        for watcher in self.servers.iter_mut().filter_map(|server| server.watcher.as_mut()) {
            watcher.rest().map_err(|failure| failure.at(self.now))?;
        }
        self.verdict().map_err(|failure| failure.at(self.now))?;
        Ok(equal_since.unwrap_or(self.now).saturating_sub(began))
    }

    /// Whether all servers run, hold the same, and nothing but roots is on its way.
    fn is_still(&self) -> bool {
        let idle = self.servers.iter().all(|server| {
            server.core.is_some()
                && !server
                    .inbox
                    .iter()
                    .any(|input| !matches!(input, Input::Tick(_) | Input::Message(..)))
        });
        let linked = self.pairs().iter().all(|pair| self.links.is_alive(*pair));
        let mut roots = self.cores().map(|(_, core)| core.root());
        let first = roots.next();
        idle && linked && roots.all(|root| Some(root) == first)
    }

    fn verdict(&self) -> Result<(), Failure> {
        let mut looks = self.cores().map(|(at, core)| (at, core.look()));
        let Some((_, first)) = looks.next() else { return Ok(()) };
        for (at, look) in looks {
            if look != first {
                let what = format!("servers 0 and {at} differ: {first:#?} and {look:#?}");
                return Err(Failure::new(what));
            }
        }
        for server in &self.servers {
            let Some(core) = &server.core else { continue };
            invariants::whole(core, &server.schema, server.id, &mut server.disk.clone())?;
        }
        if let Some(server) = self.servers.first()
            && let Some(core) = &server.core
        {
            joiner::joins(core, &server.schema, server.id, &server.disk)?;
        }
        self.judge.verdict(&first.documents, &first.graves, &first.records)
    }

    fn cores(&self) -> impl Iterator<Item = (usize, &Core)> {
        let servers = self.servers.iter().enumerate();
        servers.filter_map(|(at, server)| Some((at, server.core.as_ref()?)))
    }
}
