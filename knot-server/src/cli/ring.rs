//! The servers that a command may ask: the one that it was told of, and, where that cannot be reached, the
//! others of its cluster.
//!
//! An API token goes to whoever has these addresses, so they are taken only from a server of the cluster, on a
//! connection that nobody on the way can change: HTTPS, or this very machine. What is learnt over HTTPS is HTTPS, and
//! what is learnt on this machine is on this machine. They are kept by a hash of the token, since a token belongs to
//! one cluster.

use knot_core::clock::Millis;
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::config::Folder;
use super::seen;

/// The file's name in the config folder.
const FILE: &str = "servers.json";

/// How many clusters are remembered, and how many servers of each.
const CLUSTERS: usize = 16;
const SERVERS: usize = 32;

/// For how long addresses are used without being told anew, in milliseconds: a server may leave its cluster.
const AGE: i64 = 30 * DAY;

/// After how long they are asked for anew, in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1_000;

/// The servers, and which of them answers.
pub(crate) struct Ring {
    folder: Option<Folder>,
    key: String,
    /// Those that were given: at least one.
    given: Vec<Address>,
    /// Those that a server has told of.
    told: Vec<Address>,
    current: usize,
    /// Whether only those that were given are asked.
    alone: bool,
    /// Whether it is time to ask for the others.
    due: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Clusters {
    clusters: Vec<Cluster>,
}

#[derive(Serialize, Deserialize)]
struct Cluster {
    key: String,
    /// When they were told, in milliseconds since 1970.
    at: i64,
    servers: Vec<String>,
}

impl Cluster {
    fn has_any(&self, addresses: &[Address]) -> bool {
        addresses.iter().any(|one| self.servers.contains(&one.to_string()))
    }
}

impl Ring {
    /// The servers that were given, and those known of the cluster of this token.
    pub(crate) fn new(
        given: Vec<Address>,
        token: Option<&str>,
        folder: Option<Folder>,
        alone: bool,
    ) -> Self {
        let key = seen::key(token.unwrap_or_default());
        let mut ring = Self { folder, key, given, told: Vec::new(), current: 0, alone, due: false };
        if token.is_some() && !alone {
            let known = read(ring.folder.as_ref()).clusters;
            let known = known.into_iter().find(|cluster| cluster.key == ring.key);
            // An address that never answered is a mistake, not a server that is away.
            let known = known.filter(|cluster| cluster.has_any(&ring.given));
            let age = |cluster: &Cluster| Millis::now().0.saturating_sub(cluster.at);
            ring.due = known.as_ref().is_none_or(|cluster| age(cluster) > DAY);
            let fresh = known.filter(|cluster| age(cluster) < AGE);
            ring.told = ring.taken(fresh.iter().flat_map(|cluster| &cluster.servers));
        }
        ring
    }

    /// The server that answered last.
    pub(crate) fn current(&self) -> Option<&Address> {
        self.all().nth(self.current)
    }

    /// All servers, in the order in which they are to be asked.
    pub(crate) fn order(&self) -> Vec<Address> {
        let mut all: Vec<_> = self.all().cloned().collect();
        let current = self.current.min(all.len());
        all.rotate_left(current);
        all
    }

    /// Goes on with a server that has answered. Says whether that is another one than before.
    pub(crate) fn prefer(&mut self, address: &Address) -> bool {
        let at = self.all().position(|one| one == address).unwrap_or(0);
        std::mem::replace(&mut self.current, at) != at
    }

    /// Whether there is another server to go on with.
    pub(crate) fn has_others(&self) -> bool {
        self.all().count() > 1
    }

    /// Whether the server that answers is to be asked for the others: true once a day.
    pub(crate) fn take_due(&mut self) -> bool {
        let safe = self.current().is_some_and(|server| !server.is_exposed());
        std::mem::take(&mut self.due) && safe
    }

    /// Takes what `from` has said of the cluster's servers, in the place of what was known of them.
    pub(crate) fn learn<'a>(&mut self, from: &Address, urls: impl Iterator<Item = &'a String>) {
        if self.alone || from.is_exposed() {
            return;
        }
        let current = self.current().cloned();
        self.told = self.taken(urls);
        self.current =
            current.and_then(|one| self.all().position(|other| *other == one)).unwrap_or(0);
        self.due = false;
        // Those that were given now need not be the next time.
        let servers = self.all().filter(|one| !one.is_exposed()).map(Address::to_string).collect();
        self.keep(Some(Cluster { key: self.key.clone(), at: Millis::now().0, servers }));
    }

    /// Forgets what was known of the cluster's servers.
    pub(crate) fn forget(&mut self) {
        self.told.clear();
        self.current = 0;
        self.keep(None);
    }

    fn all(&self) -> impl Iterator<Item = &Address> {
        self.given.iter().chain(&self.told)
    }

    /// Those of some URLs that a token may be sent to beside the given servers.
    fn taken<'a>(&self, urls: impl Iterator<Item = &'a String>) -> Vec<Address> {
        let Some(first) = self.given.first() else { return Vec::new() };
        let mut taken: Vec<Address> = Vec::new();
        for address in
            urls.filter(|url| url.contains("://")).filter_map(|url| Address::parse(url).ok())
        {
            let safe = !first.is_exposed() && !address.is_exposed();
            let alike = address.is_https() == first.is_https();
            let new = !self.given.contains(&address) && !taken.contains(&address);
            if safe && alike && new && taken.len() < SERVERS {
                taken.push(address);
            }
        }
        taken
    }

    /// Writes down what is known of this cluster, in the place of what was. Best effort: without it a command has one
    /// server only.
    fn keep(&self, known: Option<Cluster>) {
        let Some(folder) = &self.folder else { return };
        let mut clusters = read(Some(folder)).clusters;
        clusters.retain(|cluster| cluster.key != self.key);
        clusters.extend(known);
        let excess = clusters.len().saturating_sub(CLUSTERS);
        clusters.drain(..excess);
        if let Ok(text) = serde_json::to_string(&Clusters { clusters }) {
            let _ = folder.write(FILE, &text);
        }
    }
}

fn read(folder: Option<&Folder>) -> Clusters {
    let text = folder.and_then(|folder| folder.read(FILE).ok().flatten());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(given: &[&str]) -> Ring {
        let given = given.iter().map(|url| Address::parse(url).unwrap()).collect();
        Ring::new(given, Some("token"), None, false)
    }

    fn told(ring: &mut Ring, from: &str, urls: &[&str]) -> Vec<String> {
        let urls: Vec<String> = urls.iter().map(|&url| url.to_owned()).collect();
        ring.learn(&Address::parse(from).unwrap(), urls.iter());
        ring.order().iter().map(Address::to_string).collect()
    }

    #[test]
    fn a_token_goes_nowhere_that_it_could_be_read_on_the_way() {
        let all = [
            "https://a",
            "https://b",
            "https://b/",
            "http://c",
            "http://127.0.0.1:1",
            "d:1",
            "ftp://e",
            "",
        ];
        assert_eq!(told(&mut ring(&["https://a"]), "https://a", &all), ["https://a", "https://b"]);
        // On this machine, what is on this machine.
        let first = "http://127.0.0.1:2";
        assert_eq!(told(&mut ring(&[first]), first, &all), [first, "http://127.0.0.1:1"]);
        // Who could have been changed on the way is not believed.
        assert_eq!(told(&mut ring(&["http://c"]), "http://c", &all), ["http://c"]);
        let mut mixed = ring(&["https://a", "http://c"]);
        assert_eq!(told(&mut mixed, "http://c", &all), ["https://a", "http://c"]);
    }

    #[test]
    fn it_goes_on_with_whoever_answered() {
        let mut ring = ring(&["https://a"]);
        told(&mut ring, "https://a", &["https://b", "https://c"]);
        assert!(ring.has_others());
        assert!(ring.prefer(&Address::parse("https://b").unwrap()));
        assert!(!ring.prefer(&Address::parse("https://b").unwrap()));
        // What is told anew changes nothing of that, unless it belongs to the cluster no more.
        let all = told(&mut ring, "https://b", &["https://c", "https://b", "https://a"]);
        assert_eq!(all, ["https://b", "https://a", "https://c"]);
        assert_eq!(told(&mut ring, "https://b", &["https://c"]), ["https://a", "https://c"]);
        ring.forget();
        assert_eq!(ring.order().len(), 1);
    }

    #[test]
    fn what_is_kept_is_of_one_token_and_grows_old() {
        let at = tempfile::tempdir().unwrap();
        let folder = Folder::at(at.path());
        let open = |token, alone| {
            let given = vec![Address::parse("https://a").unwrap()];
            Ring::new(given, Some(token), Some(folder.clone()), alone)
        };
        told(&mut open("one", false), "https://a", &["https://b"]);
        told(&mut open("two", true), "https://a", &["https://b"]);
        let mistaken = vec![Address::parse("https://aa").unwrap()];
        let mut mistaken = Ring::new(mistaken, Some("one"), Some(folder.clone()), false);
        assert_eq!((mistaken.order().len(), mistaken.take_due()), (1, true));
        let known = |token, alone| open(token, alone).order().len();
        assert_eq!((known("one", false), known("two", false), known("one", true)), (2, 1, 1));
        let due = |token, alone| open(token, alone).take_due();
        assert_eq!((due("one", false), due("two", false), due("two", true)), (false, true, false));
        let old = folder.read(FILE).unwrap().unwrap();
        let mut clusters: Clusters = serde_json::from_str(&old).unwrap();
        let mut grow = |older| {
            clusters.clusters[0].at -= older;
            folder.write(FILE, &serde_json::to_string(&clusters).unwrap()).unwrap();
        };
        grow(DAY + 1);
        let mut ring = open("one", false);
        assert_eq!((ring.order().len(), ring.take_due(), ring.take_due()), (2, true, false));
        grow(AGE);
        assert_eq!(known("one", false), 1);
    }
}
