//! The wall that every change passes before automerge's state sees it.
//!
//! automerge 0.12 panics, spins or allocates without bound on some malformed input, and does not
//! verify a change's checksum. So only single uncompressed changes are taken, of a bounded size,
//! whose own hash we have computed ourselves, and they are parsed where a panic is caught.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use automerge::{
    ActorId, Change, ScalarValue,
    legacy::{self, Key, ObjectId, OpType},
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{first, message, view};
use crate::{clock::Millis, id::ChangeHash, schema::Scalar};

/// The longest change, in bytes: 1 MiB. A constant of the protocol.
pub const MAX_CHANGE: usize = 1 << 20;
/// The most dependencies of a change. A constant of the protocol.
pub const MAX_DEPS: usize = 1_024;
/// The most operations of a change. A constant of the protocol.
pub const MAX_OPERATIONS: usize = 4_096;
/// The longest commit message, in bytes: room for an author, a layer and
/// [`MAX_BELOW`](message::MAX_BELOW) heads. A constant of the protocol.
pub const MAX_MESSAGE: usize = 24 << 10;

/// automerge's chunk header: four bytes of magic, four of checksum, one of type.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const TYPE_CHANGE: u8 = 1;

/// Why a change is not held. Whoever sent it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It is longer than [`MAX_CHANGE`].
    #[error("a change of {0} bytes, where {MAX_CHANGE} is the limit")]
    TooLong(usize),
    /// It is something other than one uncompressed change.
    #[error("the bytes are not one uncompressed change")]
    NotAChange,
    /// Its checksum is not that of its content.
    #[error("the change's checksum is not that of its content")]
    Checksum,
    /// automerge cannot parse it.
    #[error("the change does not parse")]
    Unparsable,
    /// It does something else than put scalars at keys of the root, or delete such keys.
    #[error("the change does more than put scalars at keys of the root")]
    NotFlat,
    /// It has more dependencies, operations or message than a change may have.
    #[error("the change is past the limits of the protocol")]
    PastLimits,
}

/// A change that has passed.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its hash.
    pub hash: ChangeHash,
    /// The number of its layer.
    pub layer: u32,
    /// What it depends on in its layer.
    pub deps: Vec<ChangeHash>,
    /// What it depends on in lower layers.
    pub below: Vec<ChangeHash>,
    /// Its bytes, as they came.
    pub bytes: Bytes,
    pub(super) change: Change,
    pub(super) operations: Vec<Operation>,
    /// Where it is the first of its layer, it is read as it is: see [`first`].
    pub(super) plain: bool,
}

/// One operation of a change: a put or a delete at a key of the root.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) key: Arc<str>,
    /// The operations that it overwrites: counter and actor of each.
    pub(super) overwrites: Vec<(u64, ActorId)>,
    /// What it puts, where that is a scalar of ours.
    pub(super) value: Option<Scalar>,
}

impl Checked {
    /// A change of which we know that it has passed.
    pub(super) fn trusted(change: Change) -> Option<Self> {
        let operations = operations(&change).ok()?;
        Some(Self::of(change, operations, Bytes::new()))
    }

    /// A change that automerge has just made here, held to the limits that it meets elsewhere.
    pub(super) fn own(change: Change) -> Result<Self, Malformed> {
        let bytes = Bytes::copy_from_slice(change.raw_bytes());
        if bytes.len() > MAX_CHANGE {
            return Err(Malformed::TooLong(bytes.len()));
        }
        within_limits(&change)?;
        let operations = operations(&change)?;
        Ok(Self::of(change, operations, bytes))
    }

    fn of(change: Change, operations: Vec<Operation>, bytes: Bytes) -> Self {
        let said = message::read(change.message());
        let deps = change.deps().iter().map(|dep| ChangeHash(dep.0)).collect();
        let hash = ChangeHash(change.hash().0);
        let (layer, below) = (said.layer, said.below);
        let plain = first::is_plain(&change, &operations);
        Self { hash, layer, deps, below, bytes, change, operations, plain }
    }

    /// Everything that it depends on.
    pub fn parents(&self) -> impl Iterator<Item = &ChangeHash> {
        self.deps.iter().chain(&self.below)
    }

    /// When the change was made, by the clock of the server that took it.
    pub fn time(&self) -> Millis {
        Millis(self.change.timestamp())
    }
}

/// Checks one change. Nothing outside of it is looked at.
pub fn inspect(bytes: &Bytes) -> Result<Checked, Malformed> {
    if bytes.len() > MAX_CHANGE {
        return Err(Malformed::TooLong(bytes.len()));
    }
    let (magic, checksum, content) = match (bytes.get(..4), bytes.get(4..8), bytes.get(8..)) {
        (Some(magic), Some(checksum), Some(content)) => (magic, checksum, content),
        _ => return Err(Malformed::NotAChange),
    };
    if magic != MAGIC || content.first() != Some(&TYPE_CHANGE) {
        return Err(Malformed::NotAChange);
    }
    let digest: [u8; 32] = Sha256::digest(content).into();
    if !digest.starts_with(checksum) {
        return Err(Malformed::Checksum);
    }
    let change = catch_unwind(AssertUnwindSafe(|| Change::from_bytes(bytes.to_vec()).ok()))
        .ok()
        .flatten()
        .ok_or(Malformed::Unparsable)?;
    if change.hash().0 != digest || change.raw_bytes() != bytes.as_ref() {
        return Err(Malformed::Unparsable);
    }
    within_limits(&change)?;
    let operations = operations(&change)?;
    Ok(Checked::of(change, operations, bytes.clone()))
}

fn within_limits(change: &Change) -> Result<(), Malformed> {
    let message = change.message().map_or(0, str::len);
    let sound =
        change.deps().len() <= MAX_DEPS && change.len() <= MAX_OPERATIONS && message <= MAX_MESSAGE;
    if sound { Ok(()) } else { Err(Malformed::PastLimits) }
}

/// Whether bytes that we have stored ourselves are still those of one change: its checksum says so.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    let (Some(checksum), Some(content)) = (bytes.get(4..8), bytes.get(8..)) else { return false };
    Sha256::digest(content).starts_with(checksum)
}

fn operations(change: &Change) -> Result<Vec<Operation>, Malformed> {
    let decoded = catch_unwind(AssertUnwindSafe(|| change.decode().operations));
    let operations = decoded.map_err(|_| Malformed::Unparsable)?;
    operations.into_iter().map(flat).collect::<Option<_>>().ok_or(Malformed::NotFlat)
}

/// Documents are flat: what automerge has besides (objects, lists, text, marks, counters) is neither
/// written nor taken, and so none of its code meets foreign bytes.
fn flat(operation: legacy::Op) -> Option<Operation> {
    let value = match &operation.action {
        OpType::Put(ScalarValue::Counter(_) | ScalarValue::Unknown { .. }) => return None,
        OpType::Put(value) => view::from_scalar(value),
        OpType::Delete => None,
        _ => return None,
    };
    let Key::Map(key) = operation.key else { return None };
    if operation.insert || operation.obj != ObjectId::Root {
        return None;
    }
    let overwrites = operation.pred.iter().map(|id| (id.0, id.1.clone())).collect();
    Some(Operation { key: key.as_str().into(), overwrites, value })
}
