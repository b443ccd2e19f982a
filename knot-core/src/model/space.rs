//! Spaces and their volumes: what people want of them, and what their home observes.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Server, Template, User, words};
use crate::{
    clock::Millis,
    generation::Generation,
    id::{Id, ServerId},
    net::PublicKey,
    schema::by_text,
};

words! {
    /// What is wanted of a space. Deleted is no value of it, but the document's grave.
    pub enum Desired {
        /// No container.
        #[default]
        Stopped = "stopped",
        /// A container of the newest generation.
        Running = "running",
    }
}

words! {
    /// Who may open a port of a space over HTTP.
    pub enum PortAccess {
        /// Whoever may use the space.
        #[default]
        Owner = "owner",
        /// Everybody who is signed in to the cluster.
        SignedIn = "signed-in",
        /// Everybody.
        Public = "public",
    }
}

/// Where a port of a space leads to in another space, as `forwards` has it: `<id of the space>/<port>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The other space.
    pub space: Id<Space>,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.port)
    }
}

impl FromStr for Forward {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (space, port) = text.split_once('/').ok_or(())?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(())?;
        Ok(Self { space: space.parse().map_err(|_| ())?, port })
    }
}

by_text!([] Forward);

words! {
    /// What a space's home last saw of it.
    pub enum Observed {
        /// Nothing has been started yet.
        #[default]
        Created = "created",
        /// Volumes and image are being prepared.
        Provisioning = "provisioning",
        /// The container runs; its agent has not linked yet.
        Starting = "starting",
        /// The agent is linked, or has been.
        Running = "running",
        /// The container is being ended.
        Stopping = "stopping",
        /// The container is gone; volumes remain.
        Stopped = "stopped",
        /// The last operation failed, for the stated cause.
        Failed = "failed",
        /// The space was deleted; its container is being removed.
        Deleting = "deleting",
        /// The space was deleted and nothing of it is left but its volumes' grace.
        Gone = "gone",
    }
}

/// Which server a space runs on, in which term. Of concurrent placements the larger is it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// Raised only when a space is moved or recovered.
    pub term: u64,
    /// Its home.
    pub server: ServerId,
}

/// A placement on no server, smaller than any other.
impl Default for Placement {
    fn default() -> Self {
        Self { term: 0, server: ServerId(Uuid::nil()) }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}/{}", self.term, self.server)
    }
}

impl FromStr for Placement {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (term, server) = text.split_once('/').ok_or(())?;
        Ok(Self {
            term: term.parse().map_err(|_| ())?,
            server: ServerId(server.parse().map_err(|_| ())?),
        })
    }
}

by_text!([] Placement);

/// A placement that somebody has asked for, and that the present home carries out once it has stopped
/// the space. Of several the one with the larger placement is it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The placement to be.
    pub placement: Placement,
    /// Whether the space begins there with new, empty volumes: somebody was told which stay behind.
    pub empty: bool,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.placement, if self.empty { "/empty" } else { "" })
    }
}

impl FromStr for Move {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (placement, empty) = match text.strip_suffix("/empty") {
            Some(placement) => (placement, true),
            None => (text, false),
        };
        Ok(Self { placement: placement.parse()?, empty })
    }
}

by_text!([] Move);

crate::entity! {
    /// A development environment of one user.
    pub struct Space("space", 4) {
        /// Its name, unique among its owner's where no partition let two be made.
        name: Field<String>,
        /// For people.
        description: Field<String>,
        /// What its users tell each other about it.
        note: Field<String>,
        /// Whose it is.
        owner: Field<Id<User>>,
        /// Who else may use it.
        shares: Set<Id<User>> [RemovalWins],
        /// What it is made from.
        template: Field<Id<Template>>,
        /// The values given for the template's parameters, by name.
        parameters: Map<String, String>,
        /// Other names that it is reached by, each with the port that it leads to.
        alt_names: Map<String, u64>,
        /// Who may open which of its ports over HTTP, by the port's number; whoever may use the space,
        /// where nothing is said.
        port_access: Map<String, PortAccess> [RemovalWins],
        /// What listens in the space at a port, by its number, and leads to a port of another space.
        forwards: Map<String, Forward> [RemovalWins],
        /// Spaces that have to run before it starts.
        depends_on: Set<Id<Space>>,
        /// Where it runs.
        placement: Field<Placement> [LargestWins],
        /// Where it is to run next, for its home to carry out; over once its term is that of the
        /// placement or below.
        moving: Field<Move> [LargestWins],
        /// The placement that its template's volumes were last begun anew with, because what they
        /// held could not follow; the least placement for never.
        emptied: Field<Placement> [LargestWins],
        /// Whether it should run.
        desired: Field<Desired>,
        /// A restart is wanted of every generation up to this one: two servers that are told the
        /// same thing end it once.
        restart: Field<Generation> [LargestWins],
        /// The heads of the template that the taker of the last start or restart held, in
        /// hexadecimal: the home waits for them before it starts.
        template_heads: Field<Vec<String>>,
        /// What that taker had seen of the variables that the template names, as the text of a
        /// [`Token`](crate::replica::Token): the home waits for it too.
        variables_seen: Field<String>,
        /// When it was created, by the clock of the server that took the request.
        created: Field<Millis>,
    }
}

/// What the home of a space observes of it: the record about the space's document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceStatus {
    /// The state.
    pub state: Observed,
    /// Since when, by the home's clock.
    pub since: Millis,
    /// The newest generation that was begun.
    pub generation: Generation,
    /// The revision of the template that generation was started from.
    pub revision: String,
    /// The driver that runs it.
    pub driver: String,
    /// Why the state is `failed`.
    pub cause: Option<String>,
    /// The key of the running generation's agent, the only one that is let in.
    pub agent: Option<PublicKey>,
    /// When the newest generation was begun, by the home's clock.
    #[serde(default)]
    pub started: Millis,
    /// What the health checks of the newest generation say; `None` where there is no check.
    #[serde(default)]
    pub health: Option<SpaceHealth>,
    /// What the home has done of itself or waits for, and why, where there is something to say.
    #[serde(default)]
    pub note: Option<String>,
    /// How often in a row the home has started it again because it was unwell or had crashed.
    #[serde(default)]
    pub restarts: u64,
    /// When the home tries again what has failed, by its clock; `None` for never.
    #[serde(default)]
    pub retry: Option<Millis>,
    /// Up to where its schedule has been followed.
    #[serde(default)]
    pub schedule: Option<ScheduleMark>,
    /// Whether the newest generation was started with a shutdown script, which takes its time.
    #[serde(default)]
    pub has_shutdown: bool,
    /// The number that an engine which servers share had given to the last thing that happened to the
    /// space there, when this was written; 0 for an engine that has none.
    #[serde(default)]
    pub index: u64,
    /// What a server that is not the home says of the space, where that is out of reach and both use
    /// one engine.
    #[serde(default)]
    pub witness: Option<Witness>,
}

impl SpaceStatus {
    /// Whether its server has never run the space, and says something of it in place of its home only.
    pub fn is_witness_only(&self) -> bool {
        self.witness.is_some() && self.generation.n == 0 && self.state == Observed::Created
    }
}

/// What a server sees and does of a space in place of its home, on an engine that both use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The state.
    pub state: Observed,
    /// Since when, by this server's clock.
    pub since: Millis,
    /// The generation that is there.
    pub generation: Generation,
    /// The engine's number for what was seen last: of several records the highest counts.
    pub index: u64,
    /// What there is to say of it, for people.
    pub words: Option<String>,
}

/// What the health checks of a space say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceHealth {
    /// Whether it is well.
    pub well: bool,
    /// Since when, by the home's clock.
    pub since: Millis,
    /// What the check that decided it has said.
    pub words: String,
}

/// Up to where a schedule has been followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleMark {
    /// The schedule and the time zone, as one text: another schedule is followed from when it was
    /// first seen.
    pub rule: String,
    /// Starts and stops up to this time are done with, by the home's clock.
    pub seen: Millis,
}

impl Space {
    /// Where it is to be moved, while that has not been done.
    pub fn moving_to(&self) -> Option<Move> {
        Some(self.moving).filter(|wanted| wanted.placement.term > self.placement.term)
    }
}

/// A volume on an engine that was set aside and is to be its space's again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Adopted {
    /// The id that the engine knows it by.
    pub engine: Uuid,
    /// The placement that the space's volumes were last begun anew with when somebody chose this one:
    /// the choice is over when they are begun anew again.
    pub emptied: Placement,
}

impl fmt::Display for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.engine, self.emptied)
    }
}

impl FromStr for Adopted {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (engine, emptied) = text.split_once('@').ok_or(())?;
        Ok(Self { engine: engine.parse().map_err(|_| ())?, emptied: emptied.parse()? })
    }
}

by_text!([] Adopted);

crate::entity! {
    /// Storage that outlives the generations of the space it belongs to. The id of one that a template
    /// declares is the hash of space and name; one that a user made has an id of its own.
    pub struct Volume("volume", 4) {
        /// The name that the template gives it, or its maker.
        name: Field<String>,
        /// The space that it belongs to; nil for none.
        space: Field<Id<Space>>,
        /// Whose it is.
        owner: Field<Id<User>>,
        /// The platform whose engine holds it.
        platform: Field<String>,
        /// The server whose engine holds it; nil where nobody has made it yet.
        server: Field<Id<Server>>,
        /// Where it is mounted in its space, for one that no template declares.
        path: Field<String>,
        /// The id that its engine knows it by, where that does not follow from the document.
        engine: Field<Option<Uuid>>,
        /// What was set aside for it and is to be the volume again, in its space's next start.
        adopted: Field<Option<Adopted>>,
        /// Volumes on engines that were set aside for this one and are to be removed, by the id that
        /// the engine knows them by.
        discard: Set<String>,
        /// Its size in bytes, where it has one.
        size: Field<Option<u64>>,
        /// What makes it, where it is not the platform's own way, as
        /// [`Template::volume_kinds`](struct@Template) has it.
        volume_kind: Field<String>,
        /// Whether it stays when its space is deleted.
        keep: Field<bool>,
    }
}

impl Volume {
    /// The id of the volume of this name of `space`: the same on every server.
    pub fn id_of(space: Id<Space>, name: &str) -> Id<Self> {
        Id::of_key(&[space.uuid().as_bytes(), name.as_bytes()])
    }

    /// The id that the engine of the home knows the volume of this id by, given when the space's
    /// volumes were last begun anew: another each time, so that what was set aside is never attached.
    pub fn engine_id_of(id: Id<Self>, emptied: Placement) -> Uuid {
        if emptied == Placement::default() {
            return id.uuid();
        }
        let begun = emptied.to_string();
        Id::<Self>::of_key(&[id.uuid().as_bytes(), begun.as_bytes()]).uuid()
    }

    /// The same of this one, unless its users have chosen another since then.
    pub fn engine_id_since(&self, id: Id<Self>, emptied: Placement) -> Uuid {
        let chosen = self.adopted.filter(|adopted| adopted.emptied == emptied);
        chosen.map_or_else(|| Self::engine_id_of(id, emptied), |adopted| adopted.engine)
    }

    /// Whether a template's declaration made this document, and not a user.
    pub fn is_declared(&self, id: Id<Self>) -> bool {
        !self.space.uuid().is_nil() && Self::id_of(self.space, &self.name) == id
    }
}

/// What a server observes of a volume on its engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// What the engine calls it; `None` once it has been removed.
    pub engine_id: Option<String>,
    /// What was the volume here before its space went on elsewhere: kept by these names, neither
    /// attached nor removed unless somebody asks.
    #[serde(default)]
    pub aside: BTreeSet<String>,
    /// Why it could not be made, resized or removed, if it could not.
    #[serde(default)]
    pub cause: Option<String>,
    /// Whether it was on its engine and is there no more, though nobody asked to have it removed.
    #[serde(default)]
    pub lost: bool,
    /// The size that the engine was last asked for.
    #[serde(default)]
    pub size: Option<u64>,
}
