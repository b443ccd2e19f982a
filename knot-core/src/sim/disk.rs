//! A virtual disk: what is committed survives a crash, and a commit can be made to fail.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    doc::{Chunk, Compaction, Stored, StoredChange},
    id::DocId,
    store::{Contents, Error, Store, Transaction, memory::MemoryStore},
};

/// What damaged rows have: their checksums are wrong.
const DAMAGED: &[u8] = b"damaged";

/// How the next commit of a server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, and an error is returned.
    Fails,
    /// Everything is written, and an error is returned all the same.
    InDoubt,
}

/// A server's disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    store: MemoryStore,
    fault: Option<Fault>,
    full: bool,
    /// What became durable and was not yet asked for.
    durable: Vec<Transaction>,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail_next(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// From now on every commit fails.
    pub(super) fn fill(&self) {
        self.state().full = true;
    }

    /// The disk works again.
    pub(super) fn mend(&self) {
        let mut state = self.state();
        (state.fault, state.full) = (None, false);
    }

    /// What became durable since this was last asked.
    pub(super) fn durable(&self) -> Vec<Transaction> {
        mem::take(&mut self.state().durable)
    }

    pub(super) fn image(&self) -> MemoryStore {
        self.state().store.clone()
    }

    pub(super) fn replace(&self, image: MemoryStore) {
        self.state().store = image;
    }

    /// Overwrites a stored change with what is none.
    pub(super) fn damage(&self, doc: DocId, number: u32) -> Result<(), Error> {
        let bytes = Bytes::from_static(DAMAGED);
        let changes = vec![(doc, StoredChange { layer: 0, number, bytes })];
        self.state().store.commit(&Transaction { changes, ..Transaction::default() })
    }

    /// Overwrites what has been put together of a layer with what is nothing.
    pub(super) fn damage_chunk(&self, doc: DocId, layer: u32) -> Result<(), Error> {
        let bytes = Bytes::from_static(DAMAGED);
        let chunks = vec![Chunk { layer, bytes, replaces: Vec::new() }];
        let compactions = vec![(doc, Compaction { chunks, base: None })];
        self.state().store.commit(&Transaction { compactions, ..Transaction::default() })
    }
}

impl Store for Disk {
    fn open(&mut self) -> Result<Contents, Error> {
        self.state().store.open()
    }

    fn load(&mut self, doc: DocId, whole: bool) -> Result<Stored, Error> {
        let mut stored = self.state().store.load(doc, whole)?;
        let chunks = stored.chunks.len();
        stored.chunks.retain(|_, bytes| bytes != DAMAGED);
        stored.damaged = stored.chunks.len() < chunks;
        Ok(stored)
    }

    fn is_buried(&mut self, doc: DocId) -> Result<bool, Error> {
        self.state().store.is_buried(doc)
    }

    fn maintain(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        let mut state = self.state();
        let fault = state.fault.take().or(state.full.then_some(Fault::Fails));
        if fault != Some(Fault::Fails) {
            state.store.commit(transaction)?;
            state.durable.push(transaction.clone());
        }
        match fault {
            None => Ok(()),
            Some(_) => Err(Error::Failed {
                what: "committing",
                source: "the simulated disk failed".into(),
            }),
        }
    }
}
