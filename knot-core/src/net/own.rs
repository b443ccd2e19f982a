//! The keys that this server presents: the one it has used, and the one that is to follow it once
//! its peers have shown that they know it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::CertificateDer;

use super::{
    identity::{self, Identity},
    keys::{KeyPair, PublicKey},
};
use crate::id::ServerId;

/// A key and the certificates it is presented with.
#[derive(Clone, Debug)]
pub(super) struct Presented {
    pub(super) key: Arc<KeyPair>,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Presented {
    fn new(identity: &Identity, key: &Arc<KeyPair>) -> Result<Self, identity::Error> {
        Ok(Self { key: Arc::clone(key), chain: identity.chain(key)? })
    }
}

#[derive(Debug)]
struct State {
    current: Presented,
    next: Option<Presented>,
    /// The peers that have shown that they accept `next`.
    know: BTreeSet<ServerId>,
    /// What is presented to whoever dials.
    accepting: PublicKey,
}

/// This server's keys. What a peer has shown is forgotten when the process ends: it shows it again.
#[derive(Debug)]
pub(super) struct OwnKeys(Mutex<State>);

impl OwnKeys {
    pub(super) fn new(identity: &Identity) -> Result<Self, identity::Error> {
        let current = Presented::new(identity, &identity.key)?;
        let next = identity.next.as_ref().map(|key| Presented::new(identity, key)).transpose()?;
        let accepting = identity.key.public();
        Ok(Self(Mutex::new(State { current, next, know: BTreeSet::new(), accepting })))
    }

    /// Takes the keys of an identity that was read again: a renewal has begun or is over.
    pub(super) fn take(&self, identity: &Identity) -> Result<(), identity::Error> {
        let fresh = Self::new(identity)?;
        let fresh = fresh.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        *state = State { accepting: state.accepting, ..fresh };
        Ok(())
    }

    /// What to present to one peer.
    pub(super) fn for_peer(&self, peer: ServerId) -> Presented {
        let state = self.lock();
        match &state.next {
            Some(next) if state.know.contains(&peer) => next.clone(),
            _ => state.current.clone(),
        }
    }

    /// What to present from now on to whoever dials, who has not yet said who it is; `None` where
    /// that is what is presented already.
    pub(super) fn switch(&self, peers: &BTreeMap<ServerId, String>) -> Option<Presented> {
        let mut state = self.lock();
        let wanted = match &state.next {
            Some(next) if peers.keys().all(|peer| state.know.contains(peer)) => next.clone(),
            _ => state.current.clone(),
        };
        let before = std::mem::replace(&mut state.accepting, wanted.key.public());
        (before != state.accepting).then_some(wanted)
    }

    /// The key of a renewal that is under way.
    pub(super) fn next(&self) -> Option<PublicKey> {
        self.lock().next.as_ref().map(|next| next.key.public())
    }

    /// The key in use, or the old one while a renewal is under way.
    pub(super) fn current(&self) -> PublicKey {
        self.lock().current.key.public()
    }

    /// A peer has shown which of our keys it accepts; whether it has not shown before that the next
    /// one is among them.
    pub(super) fn shown(&self, peer: ServerId, accepts: &[PublicKey]) -> bool {
        let mut state = self.lock();
        let knows = state.next.as_ref().is_some_and(|next| accepts.contains(&next.key.public()));
        if knows {
            return state.know.insert(peer);
        }
        // It may have been set back to an older copy of its database.
        state.know.remove(&peer);
        false
    }

    /// Whether a peer has shown that it accepts the next key.
    pub(super) fn knows(&self, peer: ServerId) -> bool {
        self.lock().know.contains(&peer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_old_key_is_presented_until_each_peer_has_shown_the_new_one() {
        let mut identity = Identity::generate().unwrap();
        let next = Arc::new(KeyPair::generate().unwrap());
        identity.next = Some(Arc::clone(&next));
        let (old, new) = (identity.key.public(), next.public());
        let keys = OwnKeys::new(&identity).unwrap();
        let [a, b] = [1, 2].map(|n| ServerId(Uuid::from_u128(n)));
        let peers = [(a, String::new()), (b, String::new())].into();
        let now = |keys: &OwnKeys| {
            keys.switch(&peers);
            let accepting = keys.lock().accepting;
            [keys.for_peer(a).key.public(), keys.for_peer(b).key.public(), accepting]
        };
        assert_eq!(now(&keys), [old, old, old]);
        assert!(!keys.shown(a, &[old]));
        assert!(keys.shown(a, &[old, new]));
        assert_eq!(now(&keys), [new, old, old]);
        assert!(keys.shown(b, &[new]));
        assert_eq!(now(&keys), [new, new, new]);
        // b was restored from a backup.
        keys.shown(b, &[old]);
        assert_eq!(now(&keys), [new, old, old]);
    }
}
