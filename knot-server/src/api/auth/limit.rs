//! Failed sign-ins cost time: each name and each address has a bucket that fills with failures and
//! empties slowly, and a full bucket refuses.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many failures a name may have at once, and an address: behind one may be a whole office.
const NAME_FAILURES: u32 = 10;
const ADDRESS_FAILURES: u32 = 50;
/// How long one failure is remembered.
const MEMORY: Duration = Duration::from_secs(30);
/// The most buckets. Where there are more, those that are nearest to empty are given up.
const BUCKETS: usize = 10_000;
/// The longest name that has a bucket of its own; no user has a longer one.
const NAME: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bucket {
    Name(String),
    Address(IpAddr),
}

/// The failed sign-ins of this server, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// When each bucket is empty again.
    empty_at: Mutex<HashMap<Bucket, Instant>>,
}

impl Limiter {
    /// Whether somebody at this address may try this name now; else how long until then.
    pub(crate) fn check(
        &self,
        name: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Duration> {
        let buckets = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |(bucket, most): (Bucket, u32)| {
            let full = buckets.get(&bucket)?.saturating_duration_since(now);
            full.checked_sub(MEMORY * (most - 1)).filter(|wait| !wait.is_zero())
        };
        match Self::buckets(name, address).filter_map(wait).max() {
            Some(wait) => Err(wait),
            None => Ok(()),
        }
    }

    /// Remembers an attempt as a failure, until it has succeeded.
    pub(crate) fn failed(&self, name: &str, address: Option<IpAddr>, now: Instant) {
        let mut buckets = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        for (bucket, _) in Self::buckets(name, address) {
            let empty_at = buckets.entry(bucket).or_insert(now);
            *empty_at = (*empty_at).max(now) + MEMORY;
        }
        if buckets.len() > BUCKETS {
            let mut ends: Vec<_> = buckets.values().copied().collect();
            let middle = ends.len() / 2;
            let (_, median, _) = ends.select_nth_unstable(middle);
            let median = *median;
            buckets.retain(|_, empty_at| *empty_at > median);
        }
    }

    /// Forgets the failures of a name, whose owner has signed in, and one of the address.
    pub(crate) fn succeeded(&self, name: &str, address: Option<IpAddr>) {
        let mut buckets = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.remove(&Bucket::Name(short(name)));
        let address = address.map(|address| Bucket::Address(network(address)));
        if let Some(empty_at) = address.and_then(|address| buckets.get_mut(&address)) {
            *empty_at = empty_at.checked_sub(MEMORY).unwrap_or(*empty_at);
        }
    }

    fn buckets(name: &str, address: Option<IpAddr>) -> impl Iterator<Item = (Bucket, u32)> {
        let address = address.map(|address| (Bucket::Address(network(address)), ADDRESS_FAILURES));
        [(Bucket::Name(short(name)), NAME_FAILURES)].into_iter().chain(address)
    }
}

fn short(name: &str) -> String {
    name.chars().take(NAME).collect()
}

/// One subscriber has a whole /64 of IPv6 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn a_name_is_refused_after_ten_failures_and_let_in_again_later() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for attempt in 0..NAME_FAILURES {
            assert_eq!(limiter.check("anna", HERE, now), Ok(()), "{attempt}");
            limiter.failed("anna", HERE, now);
        }
        let wait = limiter.check("anna", HERE, now).unwrap_err();
        assert!(wait <= MEMORY);
        assert_eq!(limiter.check("bert", HERE, now), Ok(()), "another name");
        assert_eq!(limiter.check("anna", HERE, now + wait), Ok(()), "later");
        limiter.succeeded("anna", HERE);
        assert_eq!(limiter.check("anna", HERE, now), Ok(()), "the owner came in");
    }

    #[test]
    fn an_address_that_tries_many_names_is_refused() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for attempt in 0..ADDRESS_FAILURES {
            limiter.failed(&format!("user{attempt}"), HERE, now);
        }
        assert!(limiter.check("anna", HERE, now).is_err());
        assert_eq!(limiter.check("anna", Some("10.0.0.1".parse().unwrap()), now), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for attempt in 0..3 * BUCKETS {
            limiter.failed(
                &format!("user{attempt}"),
                None,
                now + Duration::from_millis(attempt as u64),
            );
        }
        assert!(limiter.empty_at.lock().unwrap().len() <= BUCKETS);
    }
}
