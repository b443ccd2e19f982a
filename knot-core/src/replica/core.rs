//! The one owner of a replica's state: takes inputs in batches, commits each batch in one
//! transaction, and only then shows, sends or acknowledges anything of it.
//!
//! No socket, clock or task is here: `now` and randomness come in, and what is to be sent comes out,
//! so that the simulator drives exactly what a server runs.

mod batch;
mod gossip;
mod holding;
mod library;
#[cfg(feature = "sim")]
mod look;
mod pending;
mod presence;
mod publish;
mod recovery;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use batch::Batch;
pub(crate) use batch::{EditFn, Reply};
pub(crate) use holding::HeldReply;
use holding::Holding;
use library::{Item, Library};
use pending::Pending;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    CommitError,
    index::{Entry, Index},
    watch::{Changed, Watch, Watches},
};
use crate::{
    clock::Millis,
    doc::{Layering, Stored},
    id::{Author, ChangeHash, DocId, Kind, ServerId},
    schema::Schema,
    store::{Error as StoreError, Grave, Remains, Store, StoredDocument, Transaction},
    sync::{
        Answer, Engine, Fingerprint, Heads, Input as EngineInput, Message, Output as EngineOutput,
        dead_digest, heads_digest, plumtree::Plumtree, record_digest,
    },
    wire,
};

/// What a core is asked to do.
pub(crate) enum Input {
    /// Edit a document.
    Edit { doc: DocId, must_exist: bool, author: Author, time: Millis, edit: EditFn, reply: Reply },
    /// Bury a document.
    Delete { doc: DocId, author: Author, time: Millis, reply: Reply },
    /// Write this server's record about a subject.
    Observe { subject: DocId, value: Option<bytes::Bytes>, reply: Reply },
    /// Say what this server observes now, without storing it.
    Present { subject: DocId, value: Option<bytes::Bytes> },
    /// Take what another database of the cluster holds.
    Import { answer: Answer, reply: Reply },
    /// Everything that is stored of a document.
    Load { doc: DocId, reply: Box<dyn FnOnce(Result<Stored, StoreError>) + Send> },
    /// Whether all of these changes are held, or the document is dead.
    Holds { doc: DocId, heads: Vec<ChangeHash>, reply: Box<dyn FnOnce(bool) + Send> },
    /// Wait until so many servers hold an edit, this one counted.
    DurableOn { edit: Heads, servers: usize, bound: Duration, reply: HeldReply },
    /// Whether a linked peer was last heard to hold exactly what is held here.
    Equals { peer: ServerId, reply: Box<dyn FnOnce(bool) + Send> },
    /// Tell a linked peer what is held here.
    Probe(ServerId),
    /// A peer is linked.
    PeerUp(ServerId),
    /// The link to a peer is gone.
    PeerDown(ServerId),
    /// A message from a peer.
    Message(ServerId, Message),
    /// The round-trip time to a peer.
    RoundTrip(ServerId, Duration),
    /// Something could not be sent to a peer.
    Missed(ServerId),
    /// Time has passed; it is so late by the wall clock.
    Tick(Millis),
}

/// What a core wants sent, and whom it wants cut off.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Messages, each with its receivers.
    pub(crate) sends: Vec<(Vec<ServerId>, Message)>,
    /// Peers that sent what no sound server sends, and what it was.
    pub(crate) offenders: Vec<(ServerId, String)>,
    /// When the core wants to be told the time, if that is before the next tick.
    pub(crate) wake: Option<Duration>,
}

/// What readers share with the core.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    index: RwLock<Index>,
    watches: Watches,
    root: RwLock<Fingerprint>,
}

impl Shown {
    pub(super) fn read<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, write: impl FnOnce(&mut Index)) {
        write(&mut self.index.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The fingerprint of everything held.
    pub(crate) fn root(&self) -> Fingerprint {
        *self.root.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self, kinds: &[Kind]) -> Watch {
        self.watches.watch(kinds)
    }

    /// A watch of the documents of one kind, and of nothing that is observed of them.
    pub(super) fn watch_documents(&self, kind: Kind) -> Watch {
        self.watches.watch_documents(kind)
    }
}

/// The state of a replica; see the module.
pub(crate) struct Core {
    me: ServerId,
    schema: Schema,
    shown: Arc<Shown>,
    store: Box<dyn Store>,
    library: Library,
    engine: Engine,
    gossip: Plumtree,
    pending: Pending,
    holding: Holding,
    /// Graves that a failed commit may have written: they go into the next one.
    unsure: BTreeMap<DocId, Grave>,
    rng: StdRng,
    run: u64,
    /// The number that this run began with.
    first_run: u64,
    /// The number of the last own record or presence of this run.
    number: u64,
    /// The wall clock at the last tick.
    wall: Millis,
    /// When dead documents were last looked through for those that are to be purged.
    swept: Duration,
    /// Something besides time was told since the last tick.
    busy: bool,
    /// When a document was last looked at for damage, and which.
    scrubbed: (Duration, Option<DocId>),
}

/// So long the content of a dead document stays readable.
const RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// How often it is looked whether that time is over for some.
const SWEEP: Duration = Duration::from_secs(60);

impl Core {
    /// Opens a store: reads views, heads, graves and records, and no change.
    pub(crate) fn open(
        me: ServerId,
        schema: Schema,
        mut store: Box<dyn Store>,
        seed: [u8; 32],
        wall: Millis,
        layering: Layering,
    ) -> Result<Self, StoreError> {
        let contents = store.open()?;
        let shown = Arc::<Shown>::default();
        let mut rng = StdRng::from_seed(seed);
        let gossip = Plumtree::new(rng.random());
        let mut core = Self {
            me,
            schema,
            shown,
            store,
            library: Library::new(layering),
            engine: Engine::new(me),
            gossip,
            pending: Pending::default(),
            holding: Holding::default(),
            unsure: BTreeMap::new(),
            rng,
            run: contents.run,
            first_run: 0,
            number: 0,
            wall,
            swept: Duration::ZERO,
            busy: false,
            scrubbed: (Duration::ZERO, None),
        };
        let mut index = Index::default();
        contents.recent.into_iter().for_each(|doc| index.recent.note(Duration::ZERO, doc));
        for grave in contents.graves {
            index.graves.insert(grave.doc, grave);
            core.put_item(Item::Document(grave.doc), dead_digest());
        }
        for record in contents.records {
            if record.server == me {
                core.run = core.run.max(record.run.saturating_add(1));
            }
            core.put_item(Item::of(&record), record_digest(&record));
            index.records.insert((record.subject, record.server), record);
        }
        core.first_run = core.run;
        let mut renewed = Vec::new();
        for stored in contents.documents {
            if index.graves.contains_key(&stored.doc) {
                continue;
            }
            let doc = stored.doc;
            let (entry, new) = core.entry_of(stored)?;
            core.put_item(Item::Document(doc), heads_digest(&entry.heads));
            renewed.extend(new.then(|| entry.to_stored(doc, &core.schema)));
            index.documents.insert(doc, entry);
        }
        for Remains { document, since } in contents.remains {
            let doc = document.doc;
            index.remain(doc, core.entry_of(document)?.0, since);
        }
        core.write(|shown| *shown = index);
        // So that the next start need not make these views again.
        let renewed = Transaction { documents: renewed, ..Transaction::default() };
        if !renewed.is_empty()
            && let Err(error) = core.store.commit(&renewed)
        {
            tracing::warn!(%error, "new views could not be stored: the next start makes them again");
        }
        core.show_root();
        Ok(core)
    }

    /// What is shown of a stored document, and whether its view had to be made anew.
    fn entry_of(&mut self, stored: StoredDocument) -> Result<(Entry, bool), StoreError> {
        let kind = stored.doc.kind;
        let current = stored.schema == self.schema.version(kind);
        Ok(match stored.view {
            Some(view) if current && view.unapplied == 0 => {
                (Entry::new(kind, &self.schema, stored.heads, view), false)
            }
            _ => (self.reread(stored.doc)?, true),
        })
    }

    /// What readers share.
    pub(crate) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// The number of this run.
    pub(crate) fn run(&self) -> u64 {
        self.run
    }

    /// Takes a batch of inputs: one transaction, then its consequences.
    ///
    /// What answers from what is held comes after the commit, so that it tells of nothing that may
    /// yet fail.
    pub(crate) fn step(&mut self, now: Duration, inputs: Vec<Input>) -> Effects {
        let mut effects = Effects::default();
        let mut batch = Batch::default();
        batch.graves = std::mem::take(&mut self.unsure);
        let only_time = inputs.iter().all(|input| matches!(input, Input::Tick(_)));
        let was_busy = std::mem::replace(&mut self.busy, !only_time);
        let idle = only_time && !was_busy;
        let mut others = Vec::new();
        for input in inputs {
            match input {
                Input::Edit { doc, must_exist, author, time, edit, reply } => {
                    let outcome = self.edit(&mut batch, doc, must_exist, author, time, edit);
                    batch.reply(reply, outcome);
                }
                Input::Delete { doc, author, time, reply } => {
                    let outcome = self.delete(&mut batch, doc, author, time);
                    batch.reply(reply, outcome);
                }
                Input::Observe { subject, value, reply } => {
                    let record = self.own_record(subject, value);
                    batch.record(record, None);
                    batch.reply(reply, Ok(Vec::new()));
                }
                Input::Message(peer, Message::News(news)) => {
                    let news = self.hear(now, &mut batch, peer, news, &mut effects);
                    self.receive(&mut batch, peer, news, &mut effects);
                }
                Input::Import { answer, reply } => {
                    self.receive(&mut batch, self.me, answer, &mut effects);
                    batch.reply(reply, Ok(Vec::new()));
                }
                other => others.push(other),
            }
        }
        self.show_damaged(&mut batch);
        self.sweep(now, &mut batch);
        let missing = std::mem::take(&mut batch.missing);
        self.commit(now, batch, &mut effects);
        self.ask_for_missing(missing, &mut effects);
        for input in others {
            self.take(now, input, &mut effects);
        }
        self.answer_put_off(&mut effects);
        self.library.trim();
        if idle {
            self.tidy();
            self.scrub(now, &mut effects);
        }
        effects.wake = self.gossip.wake();
        effects
    }

    /// Has the store do what is not urgent.
    pub(crate) fn tidy(&mut self) {
        if let Err(error) = self.store.maintain() {
            tracing::warn!(%error, "the store could not be tidied up");
        }
    }

    /// Drops what is left of documents that have been dead for long.
    fn sweep(&mut self, now: Duration, batch: &mut Batch) {
        if now < self.swept + SWEEP {
            return;
        }
        self.swept = now;
        batch.purges = self.read(|index| index.dead_before(self.wall.minus(RETENTION)));
    }

    fn take(&mut self, now: Duration, input: Input, effects: &mut Effects) {
        match input {
            Input::Present { subject, value } => self.present(subject, value, effects),
            Input::Load { doc, reply } => reply(self.store.load(doc, true)),
            Input::Holds { doc, heads, reply } => reply(self.holds(doc, &heads)),
            Input::DurableOn { edit, servers, bound, reply } => {
                self.wait_until_held(now, edit, servers, bound, reply, effects);
            }
            Input::Equals { peer, reply } => reply(self.engine.equals(peer)),
            Input::Probe(peer) => {
                let asked = self.engine.ask(peer).into_iter().collect();
                self.engine_outputs(asked, effects);
            }
            Input::PeerUp(peer) => self.peer_up(now, peer, effects),
            Input::PeerDown(peer) => self.peer_down(now, peer, effects),
            Input::Message(peer, Message::Pull { number, wants }) => {
                let answers = self.answer(number, wants).into_iter();
                effects.sends.extend(answers.map(|message| (vec![peer], message)));
            }
            Input::Message(peer, Message::Presence(records)) => self.hear_presence(peer, records),
            Input::Message(peer, Message::IHave(names)) => self.gossip.i_have(now, peer, &names),
            Input::Message(peer, Message::Graft(wants)) => self.grafted(peer, wants, effects),
            Input::Message(peer, Message::Prune) => self.gossip.prune(now, peer),
            Input::RoundTrip(peer, time) => self.gossip.round_trip(now, peer, time),
            Input::Missed(peer) => self.engine_input(now, EngineInput::Missed(peer), effects),
            Input::Message(peer, Message::AskHeld(edits)) => {
                self.asked_held(now, peer, edits, effects);
            }
            Input::Message(peer, Message::Held(edits)) => self.heard_held(peer, edits),
            Input::Message(peer, walk) => {
                self.engine_input(now, EngineInput::Message(peer, walk), effects);
            }
            Input::Tick(wall) => {
                self.wall = wall;
                let outputs = self.gossip.tick(now);
                self.gossip_outputs(now, outputs, effects);
                self.engine_input(now, EngineInput::Tick, effects);
                self.holding_tick(now, effects);
            }
            Input::Edit { .. }
            | Input::Delete { .. }
            | Input::Observe { .. }
            | Input::Import { .. } => {}
        }
    }

    /// From now on, what begins here is sent to each of up to so many peers, and beyond along the tree.
    #[cfg(feature = "sim")]
    pub(crate) fn set_direct(&mut self, peers: usize) {
        self.gossip.set_direct(peers);
    }

    fn put_item(&mut self, item: Item, digest: [u8; 32]) {
        let key = self.library.name(item);
        self.engine.handle(Duration::ZERO, EngineInput::Put(key, digest));
    }

    fn engine_input(&mut self, now: Duration, input: EngineInput, effects: &mut Effects) {
        let outputs = self.engine.handle(now, input);
        self.engine_outputs(outputs, effects);
    }

    fn engine_outputs(&mut self, outputs: Vec<EngineOutput>, effects: &mut Effects) {
        for output in outputs {
            match output {
                EngineOutput::Send(peer, message) => effects.sends.push((vec![peer], message)),
                EngineOutput::Pull(peer, number, keys) => {
                    let wants = self.wants(keys);
                    effects.sends.push((vec![peer], Message::Pull { number, wants }));
                }
            }
        }
    }

    fn show_root(&self) {
        *self.shown.root.write().unwrap_or_else(PoisonError::into_inner) = self.engine.root();
    }

    fn read<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        self.shown.read(read)
    }

    fn write(&self, write: impl FnOnce(&mut Index)) {
        self.shown.write(write);
    }

    fn random(rng: &mut StdRng) -> [u8; 16] {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        bytes
    }
}

/// How many bytes an answer carries before the next frame begins.
const FRAME: usize = 256 << 10;

/// The size of a value on the wire, where it matters for cutting frames only.
fn wire_size<T: serde::Serialize>(value: &T) -> usize {
    wire::encode(value).map_or(FRAME, |bytes| bytes.len())
}

/// Answers cut so that each stays near [`FRAME`].
fn cut(answers: impl IntoIterator<Item = (usize, Answer)>) -> Vec<Answer> {
    let mut frames: Vec<(usize, Answer)> = Vec::new();
    for (size, answer) in answers {
        match frames.last_mut() {
            Some((filled, frame)) if *filled + size <= FRAME => {
                *filled += size;
                frame.changes.extend(answer.changes);
                frame.graves.extend(answer.graves);
                frame.records.extend(answer.records);
            }
            _ => frames.push((size, answer)),
        }
    }
    frames.into_iter().map(|(_, frame)| frame).collect()
}
