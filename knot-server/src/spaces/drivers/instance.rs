//! What a driver finds on an engine, and the labels that say whose it is.

use std::{collections::HashMap, fmt};

use knot_core::generation::Generation;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{StopError, VolumeError};

pub(super) const CLUSTER: &str = "knot.cluster";
const SPACE: &str = "knot.space";
const HOME: &str = "knot.home";
const GENERATION: &str = "knot.generation";
const REVISION: &str = "knot.revision";
pub(super) const VOLUME: &str = "knot.volume";

/// The server that a driver acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The cluster's id.
    pub cluster: Uuid,
    /// The server's id: the home of the spaces that it runs.
    pub home: Uuid,
}

impl Owner {
    /// The labels of a volume that this server makes.
    pub(super) fn volume_labels(self, volume: Uuid) -> HashMap<String, String> {
        [
            (CLUSTER, self.cluster.to_string()),
            (HOME, self.home.to_string()),
            (VOLUME, volume.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Sees that a volume, which `maker` made, belongs to this server's cluster.
    pub(super) fn must_share(self, volume: Uuid, maker: Option<Self>) -> Result<(), VolumeError> {
        let maker = match maker {
            Some(maker) if maker.cluster == self.cluster => return Ok(()),
            Some(maker) => format!("server {} of cluster {}", maker.home, maker.cluster),
            None => "something other than knot".to_owned(),
        };
        Err(VolumeError::Foreign { volume, maker })
    }

    /// Who made a volume that carries `labels`, if they are a volume's of that id.
    pub(super) fn of_volume(volume: Uuid, labels: &HashMap<String, String>) -> Option<Self> {
        let id = |key| Uuid::try_parse(labels.get(key)?).ok();
        (id(VOLUME)? == volume).then_some(Self { cluster: id(CLUSTER)?, home: id(HOME)? })
    }
}

/// Whose an instance is, and which run of which space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Labels {
    /// The server that made it.
    pub owner: Owner,
    /// The space that runs in it.
    pub space: Uuid,
    /// Which run of the space it is.
    pub generation: Generation,
    /// The revision of the template that it was made from.
    pub revision: String,
}

impl Labels {
    /// The filters that an engine's list takes for all that `owner` made.
    pub(super) fn filters_by_owner(owner: Owner) -> [String; 2] {
        [format!("{CLUSTER}={}", owner.cluster), format!("{HOME}={}", owner.home)]
    }

    /// The filters for all that any server of the cluster made for a space.
    pub(super) fn filters_by_space(cluster: Uuid, space: Uuid) -> [String; 2] {
        [format!("{CLUSTER}={cluster}"), format!("{SPACE}={space}")]
    }

    /// The name of the instance on a platform that has no names of its own.
    pub(super) fn instance_id(&self) -> InstanceId {
        InstanceId(format!("{}/{}", self.space, self.generation))
    }

    /// As an engine keeps them.
    pub(super) fn to_map(&self) -> HashMap<String, String> {
        [
            (CLUSTER, self.owner.cluster.to_string()),
            (SPACE, self.space.to_string()),
            (HOME, self.owner.home.to_string()),
            (GENERATION, self.generation.to_string()),
            (REVISION, self.revision.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Back from an engine; none if one is missing or cannot be read.
    pub(super) fn from_map(map: &HashMap<String, String>) -> Option<Self> {
        let id = |key| Uuid::try_parse(map.get(key)?).ok();
        Some(Self {
            owner: Owner { cluster: id(CLUSTER)?, home: id(HOME)? },
            space: id(SPACE)?,
            generation: map.get(GENERATION)?.parse().ok()?,
            revision: map.get(REVISION)?.clone(),
        })
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} of space {}", self.generation, self.space)?;
        write!(f, " of server {} in cluster {}", self.owner.home, self.owner.cluster)
    }
}

/// The engine's own name for an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceId(pub String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One run of a space on an engine: a container, or an agent's process with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The engine's name for it.
    pub id: InstanceId,
    /// Whose it is.
    pub labels: Labels,
    /// What it does now.
    pub state: State,
}

impl Instance {
    /// Sees that what was found in its place carries exactly its labels.
    pub(super) fn expect(&self, found: Option<&Labels>) -> Result<(), StopError> {
        if found == Some(&self.labels) {
            return Ok(());
        }
        Err(StopError::Foreign { id: self.id.to_string(), wanted: Box::new(self.labels.clone()) })
    }
}

/// What an instance does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there, and was never started: a start was broken off, or is under way.
    Created,
    /// It runs.
    Running,
    /// It has run, and its agent has ended without being told to.
    Ended(Ended),
}

/// How an agent ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit status, or 128 and the number of the signal that ended it. None where nobody was
    /// there to see: the machine or the server was restarted in between.
    pub status: Option<i32>,
    /// The engine ended it because it took more memory than its limit.
    pub out_of_memory: bool,
    /// What the engine says of it, if anything.
    pub detail: Option<String>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "ended with status {status}")?,
            None => f.write_str("ended, and its status was not seen")?,
        }
        if self.out_of_memory {
            f.write_str(", out of memory")?;
        }
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, " ({detail})"))
    }
}

/// What a stop did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It has ended, before or now, and has been removed.
    Ended(Ended),
    /// It had never run, and has been removed.
    NeverStarted,
    /// It was not there.
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_back_and_none_may_be_missing() {
        let labels = Labels {
            owner: Owner { cluster: Uuid::from_u128(1), home: Uuid::from_u128(2) },
            space: Uuid::from_u128(3),
            generation: Generation { term: 4, n: 5 },
            revision: "abc".to_owned(),
        };
        let map = labels.to_map();
        assert_eq!(map.get("knot.generation").map(String::as_str), Some("4.5"));
        assert_eq!(Labels::from_map(&map), Some(labels));
        for key in map.keys() {
            let mut less = map.clone();
            less.remove(key);
            assert_eq!(Labels::from_map(&less), None, "without {key}");
        }
    }

    #[test]
    fn a_volume_is_known_by_its_own_id_only() {
        let owner = Owner { cluster: Uuid::from_u128(1), home: Uuid::from_u128(2) };
        let labels = owner.volume_labels(Uuid::from_u128(7));
        assert_eq!(Owner::of_volume(Uuid::from_u128(7), &labels), Some(owner));
        assert_eq!(Owner::of_volume(Uuid::from_u128(8), &labels), None);
    }
}
