//! What goes wrong in a world: links, servers, disks and clocks.

use super::{Backup, Event, PROBE, TICK, Watcher, World};
use crate::{
    clock::Millis,
    doc::history::History,
    id::DocId,
    replica::{Core, Replica},
    schema::Schema,
    sim::{Failure, Fault, network::pair},
    store::Store as _,
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
        server.watcher = None;
        server.inbox.clear();
        server.stepping = false;
        server.wake = None;
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
        let (now, wall, layering) = (self.now, Millis(self.wall(at)), self.layering);
        let Some(server) = self.servers.get_mut(at).filter(|server| server.core.is_none()) else {
            return Ok(());
        };
        let (schema, disk) = (server.schema.clone(), Box::new(server.disk.clone()));
        let mut core = Core::open(server.id, schema.clone(), disk, seed, wall, layering)
            .map_err(|error| Failure::new(format!("server {at} does not start: {error}")))?;
        if let Some(direct) = self.direct {
            core.set_direct(direct);
        }
        let replica = Replica::reader(server.id, core.run(), schema, core.shown());
        server.watcher = Some(Watcher::new(replica));
        server.core = Some(core);
        server.life += 1;
        server.began = now;
        let life = server.life;
        let first = self.up_to(TICK);
        self.plan(first, Event::Tick { at, life });
        let first = self.up_to(PROBE);
        self.plan(first, Event::Probe { at, life });
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

    /// What a server's disk has of a document's history; `None` where that is nothing.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn history(&self, at: usize, doc: impl Into<DocId>) -> Result<Option<History>, Failure> {
        let Some(server) = self.servers.get(at) else { return Ok(None) };
        let stored = server.disk.image().load(doc.into(), true);
        let history = History::read(&stored.map_err(|error| Failure::new(error.to_string()))?);
        Ok((!history.is_empty()).then_some(history))
    }

    /// Kills a server, overwrites what its disk has put together of a layer, and starts it.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn damage_chunk(
        &mut self,
        at: usize,
        doc: impl Into<DocId>,
        layer: u32,
    ) -> Result<(), Failure> {
        self.crash(at);
        let Some(server) = self.servers.get(at) else { return Ok(()) };
        let damaged = server.disk.damage_chunk(doc.into(), layer);
        damaged.map_err(|error| Failure::new(error.to_string()))?;
        self.start(at)
    }
}
