//! How many may knock at a time: connections that have not signed in cost little, and are few.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Connections that have not signed in, in all.
const ALL: usize = 100;
/// Those of one address: a whole office may come from one.
const EACH: usize = 20;

/// Those that have not signed in, by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    limits: Limits,
    address: IpAddr,
}

impl Limits {
    /// A place for one more from `address`, where there is one.
    pub(super) fn take(&self, address: IpAddr) -> Option<Slot> {
        let address = address.to_canonical();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.get(&address).copied().unwrap_or_default();
        if own >= EACH || held.values().sum::<usize>() >= ALL {
            return None;
        }
        held.insert(address, own + 1);
        drop(held);
        Some(Slot { limits: self.clone(), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_gives_it_back() {
        let limits = Limits::default();
        let own: IpAddr = [192, 0, 2, 1].into();
        let slots: Vec<_> = (0..EACH).map(|_| limits.take(own).unwrap()).collect();
        assert!(limits.take(own).is_none());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(limits.take(mapped).is_none(), "it is the same address");
        let other = limits.take([192, 0, 2, 2].into());
        assert!(other.is_some());
        drop(slots);
        assert!(limits.take(own).is_some());
    }
}
