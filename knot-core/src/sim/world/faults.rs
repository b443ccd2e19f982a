//! What goes wrong in a world: links, servers, disks and clocks.

use super::{Backup, Event, TICK, World};
use crate::{
    id::DocId,
    replica::Core,
    schema::Schema,
    sim::{Failure, Fault, network::pair},
};

impl World {
    /// Separates the groups; a server in none of them stands alone.
    pub fn cut(&mut self, groups: &[&[usize]]) {
        self.links.cut(self.servers.len(), groups);
        for pair in self.pairs() {
            if self.links.is_cut(pair) {
                self.drop_link(pair);
            } else {
                self.plan_connect(pair);
            }
        }
    }

    /// Ends every separation.
    pub fn heal(&mut self) {
        self.links.heal();
        self.pairs().into_iter().for_each(|pair| self.plan_connect(pair));
    }

    /// Breaks the connection of two servers; it is made again.
    pub fn break_link(&mut self, a: usize, b: usize) {
        self.drop_link(pair(a, b));
        self.plan_connect(pair(a, b));
    }

    /// Kills a server: what was not committed is gone.
    pub fn crash(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        server.life += 1;
        server.core = None;
        server.inbox.clear();
        server.stepping = false;
        server.observing.clear();
        server.deleting.clear();
        server.durable.clear();
        server.disk.mend();
        self.links.forget(at);
        for peer in (0..self.servers.len()).filter(|peer| *peer != at) {
            self.drop_link(pair(at, peer));
        }
    }

    /// Starts a server that does not run.
    ///
    /// # Errors
    /// Its store cannot be opened.
    pub fn start(&mut self, at: usize) -> Result<(), Failure> {
        let seed = self.random();
        let now = self.now;
        let Some(server) = self.servers.get_mut(at).filter(|server| server.core.is_none()) else {
            return Ok(());
        };
        let core =
            Core::open(server.id, server.schema.clone(), Box::new(server.disk.clone()), seed)
                .map_err(|error| Failure::new(format!("server {at} does not start: {error}")))?;
        server.core = Some(core);
        server.life += 1;
        server.began = now;
        let life = server.life;
        let first = self.up_to(TICK);
        self.plan(first, Event::Tick { at, life });
        for peer in (0..self.servers.len()).filter(|peer| *peer != at) {
            self.plan_connect(pair(at, peer));
        }
        Ok(())
    }

    /// Starts a server with another declaration of its types, as an upgrade does.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn upgrade(&mut self, at: usize, schema: Schema) -> Result<(), Failure> {
        self.crash(at);
        if let Some(server) = self.servers.get_mut(at) {
            server.schema = schema;
        }
        self.start(at)
    }

    /// Makes the next commit of a server fail.
    pub fn fail_next_commit(&mut self, at: usize, fault: Fault) {
        if let Some(server) = self.servers.get(at) {
            server.disk.fail_next(fault);
        }
    }

    /// Makes every commit of a server fail, as a full disk does, until the world settles or the
    /// server crashes.
    pub fn fill_disk(&mut self, at: usize) {
        if let Some(server) = self.servers.get(at) {
            server.disk.fill();
        }
    }

    /// Copies a server's disk.
    pub fn backup(&self, at: usize) -> Option<Backup> {
        let image = self.servers.get(at)?.disk.image();
        Some(Backup { image, holdings: self.judge.holdings(at)?.clone() })
    }

    /// Puts a copy on a server's disk, whose own content is lost, and starts the server.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn restore(&mut self, at: usize, backup: Backup) -> Result<(), Failure> {
        self.crash(at);
        let Some(server) = self.servers.get(at) else { return Ok(()) };
        server.disk.replace(backup.image);
        self.judge.replaced(at, server.id, backup.holdings);
        self.start(at)
    }

    /// Kills a server, overwrites one of its stored changes, and starts it.
    ///
    /// # Errors
    /// As [`World::start`], or there is no such document.
    pub fn damage(&mut self, at: usize, doc: impl Into<DocId>, number: u32) -> Result<(), Failure> {
        self.crash(at);
        let Some(server) = self.servers.get(at) else { return Ok(()) };
        server.disk.damage(doc.into(), number).map_err(|error| Failure::new(error.to_string()))?;
        self.start(at)
    }
}
