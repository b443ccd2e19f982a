//! A watcher that folds what it is told ends with what a list shows, and sees nothing go back.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/wires.rs"]
mod wires;

use std::{collections::BTreeMap, time::Duration};

use knot_core::{
    entity,
    id::{Author, ChangeHash, Id, ServerId},
    replica::{Changes, Event, Replica, Service},
    schema::{Edit, Schema},
    store::memory::MemoryStore,
};
use proptest::prelude::*;
use uuid::Uuid;
use wires::Wires;

entity! {
    /// Something to watch.
    pub struct Page("page", 1) {
        /// What is in it.
        text: Field<String>,
        /// Raised by every edit.
        edition: Field<u64> [LargestWins],
    }
}

const BOUND: Duration = Duration::from_secs(60);

fn id(n: u8) -> Id<Page> {
    Id::from_uuid(Uuid::from_u128(n.into()))
}

fn start() -> (Service, Replica) {
    let schema = Schema::new().with::<Page>();
    Service::start(ServerId(Uuid::now_v7()), schema, Box::new(MemoryStore::new())).unwrap()
}

async fn write(replica: &Replica, n: u8, text: &str) {
    let text = text.to_owned();
    let author = Author::Server(replica.me());
    let edit = move |page: &mut Edit<'_, Page>| {
        let edition = page.edition + 1;
        page.set(Page::text, text);
        page.set(Page::edition, edition);
        Ok(())
    };
    // It may be dead.
    replica.put(id(n), author, edit).await.ok();
}

/// What a watcher knows: of each document its heads and how it reads; `None` once it is dead.
#[derive(Default)]
struct Known {
    living: BTreeMap<Id<Page>, (Vec<ChangeHash>, String)>,
    editions: BTreeMap<Id<Page>, u64>,
    dead: Vec<Id<Page>>,
    told: Vec<(Id<Page>, Vec<ChangeHash>)>,
}

impl Known {
    fn fold(&mut self, event: &Event<Page>) {
        let id = event.id();
        assert!(!self.dead.contains(&id), "{id} is dead, and was told of: {event:?}");
        match event {
            Event::Changed(page) => {
                let state = (id, page.heads().to_vec());
                assert!(!self.told.contains(&state), "told twice: {state:?}");
                self.told.push(state);
                let edition = self.editions.insert(id, page.edition);
                assert!(edition <= Some(page.edition), "{id} went back");
                self.living.insert(id, (page.heads().to_vec(), page.text.clone()));
            }
            Event::Left(page) => {
                self.editions.insert(id, page.edition);
                assert!(self.living.remove(&id).is_some(), "{id} left and was not there");
            }
            Event::Deleted(_) => {
                self.living.remove(&id);
                self.dead.push(id);
            }
        }
    }

    fn list(&mut self, pages: &[knot_core::replica::Doc<Page>]) {
        for page in pages {
            self.fold(&Event::Changed(page.clone()));
        }
    }

    fn heads(&self) -> Vec<(Id<Page>, Vec<ChangeHash>)> {
        let living = self.living.iter().map(|(id, (heads, _))| (*id, heads.clone()));
        living.chain(self.dead.iter().map(|id| (*id, vec![ChangeHash::DEAD]))).collect()
    }

    async fn take(&mut self, changes: &mut Changes<Page>, count: usize) {
        for _ in 0..count {
            // Only what is there already: the runtime is told to look once at everything first.
            let next = tokio::time::timeout(Duration::ZERO, changes.next()).await;
            let Ok(event) = next else { return };
            self.fold(&event);
        }
    }

    /// Takes everything up to the document that was written last of all.
    async fn take_until(&mut self, changes: &mut Changes<Page>, last: Id<Page>) {
        let all = async {
            loop {
                let event = changes.next().await;
                self.fold(&event);
                if event.id() == last {
                    return;
                }
            }
        };
        tokio::time::timeout(BOUND, all).await.expect("the last change was never told");
    }

    fn is_what_a_list_shows(&self, replica: &Replica, query: impl Fn(&Page) -> bool) {
        let pages = replica.list::<Page>();
        let pages = pages.iter().filter(|page| query(page));
        let shown = pages.map(|page| (page.id(), (page.heads().to_vec(), page.text.clone())));
        assert_eq!(self.living, shown.collect());
    }
}

fn wanted(page: &Page) -> bool {
    page.text.starts_with('a')
}

#[derive(Clone, Debug)]
enum Step {
    Write(bool, u8, String),
    Delete(bool, u8),
    Take(usize),
    TakeWanted(usize),
    TakeAway(usize),
    /// The watcher goes to the other server and says what it knows.
    Move,
    Cut,
    Link,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (any::<bool>(), 0_u8..5, "[abc]").prop_map(|(at, n, text)| Step::Write(at, n, text)),
        1 => (any::<bool>(), 0_u8..5).prop_map(|(at, n)| Step::Delete(at, n)),
        4 => (0_usize..4).prop_map(Step::Take),
        4 => (0_usize..4).prop_map(Step::TakeWanted),
        4 => (0_usize..4).prop_map(Step::TakeAway),
        2 => Just(Step::Move),
        1 => Just(Step::Cut),
        1 => Just(Step::Link),
    ]
}

async fn play(steps: Vec<Step>) {
    let (one_service, one) = start();
    let (two_service, two) = start();
    let mut wires = Some(Wires::connect(&one, &two).await);
    let (list, mut all) = one.watch_all::<Page>();
    let (mut all_known, mut wanted_known, mut away_known) =
        (Known::default(), Known::default(), Known::default());
    all_known.list(&list);
    let (list, mut some) = one.watch_query::<Page>(wanted);
    wanted_known.list(&list);
    let mut away = two.watch_since::<Page>([]);
    let mut away_at_two = true;
    for step in steps {
        match step {
            Step::Write(at_one, n, text) => write(if at_one { &one } else { &two }, n, &text).await,
            Step::Delete(at_one, n) => {
                let at = if at_one { &one } else { &two };
                at.delete(id(n), Author::Server(at.me())).await.ok();
            }
            Step::Take(count) => all_known.take(&mut all, count).await,
            Step::TakeWanted(count) => wanted_known.take(&mut some, count).await,
            Step::TakeAway(count) => away_known.take(&mut away, count).await,
            Step::Move => {
                away_at_two = !away_at_two;
                let to = if away_at_two { &two } else { &one };
                away = to.watch_since(away_known.heads());
            }
            Step::Cut => {
                if let Some(wires) = wires.take() {
                    wires.cut().await;
                }
            }
            Step::Link if wires.is_none() => wires = Some(Wires::connect(&one, &two).await),
            Step::Link => {}
        }
    }
    if wires.is_none() {
        wires = Some(Wires::connect(&one, &two).await);
    }
    one.wait_until_equal(two.me(), BOUND).await.unwrap();
    two.wait_until_equal(one.me(), BOUND).await.unwrap();
    let last = id(255);
    write(&one, 255, "a last").await;
    all_known.take_until(&mut all, last).await;
    wanted_known.take_until(&mut some, last).await;
    away_known.take_until(&mut away, last).await;
    all_known.is_what_a_list_shows(&one, |_| true);
    wanted_known.is_what_a_list_shows(&one, wanted);
    away_known.is_what_a_list_shows(if away_at_two { &two } else { &one }, |_| true);
    assert_eq!(away.awaited().count(), 0);
    drop(wires);
    one_service.stop().await;
    two_service.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_watcher_ends_with_what_a_list_shows(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

#[tokio::test]
async fn a_slow_watcher_is_told_the_last_state_once() {
    let (service, replica) = start();
    let (list, mut changes) = replica.watch_all::<Page>();
    assert!(list.is_empty());
    for n in 0..100 {
        write(&replica, 1, &n.to_string()).await;
        write(&replica, 2, &n.to_string()).await;
    }
    let (Event::Changed(first), Event::Changed(second)) =
        (changes.next().await, changes.next().await)
    else {
        panic!("both live")
    };
    assert_eq!((first.id(), second.id()), (id(1), id(2)));
    assert_eq!((first.text.as_str(), second.text.as_str()), ("99", "99"));
    let more = tokio::time::timeout(Duration::from_millis(50), changes.next()).await;
    assert!(more.is_err(), "{more:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_document_that_no_longer_matches_has_left() {
    let (service, replica) = start();
    write(&replica, 1, "a").await;
    write(&replica, 2, "b").await;
    let (list, mut changes) = replica.watch_query(wanted);
    assert_eq!(list.len(), 1);
    write(&replica, 1, "b").await;
    assert!(matches!(changes.next().await, Event::Left(page) if page.id() == id(1)));
    // What does not match is not told of; what comes to match is.
    replica.delete(id(1), Author::Server(replica.me())).await.unwrap();
    write(&replica, 2, "a").await;
    assert!(matches!(changes.next().await, Event::Changed(page) if page.id() == id(2)));
    service.stop().await;
}

#[tokio::test]
async fn a_watcher_from_elsewhere_is_told_what_differs() {
    let (service, replica) = start();
    for n in 1..=3 {
        write(&replica, n, "a").await;
    }
    let known: Vec<_> =
        replica.list::<Page>().iter().map(|page| (page.id(), page.heads().to_vec())).collect();
    write(&replica, 1, "b").await;
    replica.delete(id(2), Author::Server(replica.me())).await.unwrap();
    write(&replica, 4, "new").await;
    let mut changes = replica.watch_since(known);
    let mut told = BTreeMap::new();
    for _ in 0..3 {
        let event = changes.next().await;
        told.insert(event.id(), matches!(event, Event::Deleted(_)));
    }
    assert_eq!(told, [(id(1), false), (id(2), true), (id(4), false)].into());
    service.stop().await;
}
