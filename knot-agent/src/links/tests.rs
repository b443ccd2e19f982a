//! What the agent does about its links, told as events.

use knot_core::net::KeyPair;

use super::*;

struct World {
    links: Links,
    now: Instant,
}

fn server(n: u8, zone: &str) -> ServerAddress {
    ServerAddress {
        id: Uuid::from_u128(u128::from(n)),
        zone: zone.to_owned(),
        address: ([10, 0, 0, n], 4242).into(),
        keys: vec![key(n)],
    }
}

fn key(n: u8) -> PublicKey {
    KeyPair::from_seed(&[n; 32]).unwrap().public()
}

fn id(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n))
}

impl World {
    fn new(seed: u64, servers: &[ServerAddress]) -> (Self, Vec<Action>) {
        let mut world = Self { links: Links::new(seed), now: Instant::now() };
        let actions = world.tell(Input::Listed(None, servers.to_vec()));
        (world, actions)
    }

    fn tell(&mut self, input: Input) -> Vec<Action> {
        self.links.handle(input, self.now)
    }

    /// Lets time pass up to the next deadline and returns how long that took.
    fn wait(&mut self) -> (Duration, Vec<Action>) {
        let deadline = self.links.deadline().unwrap();
        let waited = deadline.saturating_duration_since(self.now);
        self.now = self.now.max(deadline);
        (waited, self.tell(Input::Tick))
    }
}

fn dialled(actions: &[Action]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = actions
        .iter()
        .map(|action| match action {
            Action::Dial(server) => server.id,
            Action::Close(id) => panic!("{id} is closed"),
        })
        .collect();
    ids.sort();
    ids
}

#[test]
fn two_servers_of_different_zones_are_dialled() {
    for seed in 0..50 {
        let servers = [server(1, "a"), server(2, "a"), server(3, "b")];
        let (mut world, actions) = World::new(seed, &servers);
        let ids = dialled(&actions);
        assert_eq!(ids.len(), DEFAULT_LINKS);
        assert!(ids.contains(&id(3)), "{ids:?}");
        assert_eq!(world.tell(Input::Tick), []);
        assert_eq!(world.links.deadline(), None);
    }
}

#[test]
fn agents_do_not_all_choose_the_same_servers() {
    let servers: Vec<_> = (1..=6).map(|n| server(n, "a")).collect();
    let mut chosen: Vec<_> =
        (0..60).flat_map(|seed| dialled(&World::new(seed, &servers).1)).collect();
    chosen.sort();
    chosen.dedup();
    assert_eq!(chosen.len(), 6);
}

#[test]
fn a_lost_link_is_replaced_at_once_by_another_server() {
    let (mut world, actions) = World::new(7, &[server(1, "a"), server(2, "b"), server(3, "c")]);
    let [first, second] = dialled(&actions).try_into().unwrap();
    let spare = (1..=3).map(id).find(|id| *id != first && *id != second).unwrap();
    for n in 1..=3 {
        if id(n) != spare {
            world.tell(Input::Linked(id(n), key(n)));
        }
    }
    assert_eq!(world.links.linked_count(), 2);
    world.now += Duration::from_secs(60);
    let actions = world.tell(Input::Lost(first));
    assert_eq!(dialled(&actions), [spare]);
}

#[test]
fn waits_double_up_to_a_bound_and_never_vanish() {
    let (mut world, _) = World::new(1, &[server(1, "a")]);
    let mut most = FIRST_BACKOFF;
    for _ in 0..12 {
        assert_eq!(world.tell(Input::Lost(id(1))), []);
        let (waited, actions) = world.wait();
        assert!(waited <= most && waited >= most / 2, "{waited:?} of {most:?}");
        assert_eq!(dialled(&actions), [id(1)]);
        most = (most * 2).min(MAX_BACKOFF);
    }
}

#[test]
fn only_a_link_that_lasted_resets_the_wait() {
    let (mut world, _) = World::new(1, &[server(1, "a")]);
    for _ in 0..8 {
        world.tell(Input::Linked(id(1), key(1)));
        world.now += STEADY / 2;
        world.tell(Input::Lost(id(1)));
        world.wait();
    }
    world.tell(Input::Lost(id(1)));
    let (waited, _) = world.wait();
    assert!(waited >= MAX_BACKOFF / 2, "{waited:?}: welcomes that do not last are failures");
    world.tell(Input::Linked(id(1), key(1)));
    world.now += STEADY;
    world.tell(Input::Lost(id(1)));
    let (waited, _) = world.wait();
    assert!(waited <= FIRST_BACKOFF, "{waited:?}");
}

#[test]
fn a_server_that_is_no_longer_listed_loses_its_link() {
    let (mut world, _) = World::new(1, &[server(1, "a"), server(2, "b")]);
    world.tell(Input::Linked(id(1), key(1)));
    world.tell(Input::Linked(id(2), key(2)));
    let actions = world.tell(Input::Listed(None, vec![server(2, "b"), server(3, "a")]));
    assert_eq!(actions, [Action::Close(id(1)), Action::Dial(server(3, "a"))]);
    assert_eq!(world.tell(Input::Lost(id(1))), []);
    world.tell(Input::Lost(id(2)));
    world.tell(Input::Lost(id(3)));
    let (_, actions) = world.wait();
    assert!(!dialled(&actions).contains(&id(1)));
}

#[test]
fn a_server_whose_key_is_no_longer_listed_loses_its_link() {
    let (mut world, _) = World::new(1, &[server(1, "a")]);
    world.tell(Input::Linked(id(1), key(1)));
    let renewed = ServerAddress { keys: vec![key(9)], ..server(1, "a") };
    assert_eq!(world.tell(Input::Listed(None, vec![renewed.clone()])), [Action::Close(id(1))]);
    world.tell(Input::Lost(id(1)));
    assert_eq!(world.wait().1, [Action::Dial(renewed)]);
    assert_eq!(world.tell(Input::Linked(id(1), key(1))), [Action::Close(id(1))]);
}

#[test]
fn a_new_address_is_dialled_without_waiting() {
    let (mut world, _) = World::new(1, &[server(1, "a")]);
    for _ in 0..6 {
        world.tell(Input::Lost(id(1)));
        world.wait();
    }
    world.tell(Input::Lost(id(1)));
    let moved = ServerAddress { address: ([10, 0, 0, 99], 1).into(), ..server(1, "a") };
    assert_eq!(world.tell(Input::Listed(None, vec![moved.clone()])), [Action::Dial(moved)]);
}

#[test]
fn an_empty_list_strands_nobody() {
    let (mut world, _) = World::new(1, &[server(1, "a")]);
    world.tell(Input::Linked(id(1), key(1)));
    assert_eq!(world.tell(Input::Listed(None, Vec::new())), []);
    world.tell(Input::Lost(id(1)));
    assert_eq!(dialled(&world.wait().1), [id(1)]);
}

#[test]
fn a_server_that_was_taken_off_the_list_cannot_put_itself_back() {
    let (mut world, _) = World::new(1, &[server(1, "a"), server(2, "b")]);
    world.tell(Input::Linked(id(1), key(1)));
    world.tell(Input::Linked(id(2), key(2)));
    let both = vec![server(1, "a"), server(2, "b")];
    let actions = world.tell(Input::Listed(Some(id(2)), vec![server(2, "b")]));
    assert_eq!(actions, [Action::Close(id(1))]);
    assert_eq!(world.tell(Input::Listed(Some(id(1)), both)), []);
    assert_eq!(world.tell(Input::Lost(id(1))), []);
    assert_eq!(world.links.deadline(), None);
}

#[test]
fn a_server_that_leaves_is_replaced_before_it_is_gone() {
    let servers = [server(1, "a"), server(2, "b"), server(3, "c")];
    let (mut world, actions) = World::new(7, &servers);
    let linked = dialled(&actions);
    for one in &linked {
        let n = u8::try_from(one.as_u128()).unwrap();
        assert_eq!(world.tell(Input::Linked(*one, key(n))), []);
    }
    let third: Vec<_> = (1..=3).map(id).filter(|one| !linked.contains(one)).collect();
    assert_eq!(dialled(&world.tell(Input::Leaving(linked[0]))), third);
    let n = u8::try_from(third[0].as_u128()).unwrap();
    assert_eq!(world.tell(Input::Linked(third[0], key(n))), [], "the old link is kept");
    assert_eq!(world.tell(Input::Lost(linked[0])), [], "and nothing is missing when it goes");
    assert_eq!(world.links.linked_count(), DEFAULT_LINKS);
}

#[test]
fn the_only_server_that_leaves_is_kept_and_dialled_again() {
    let (mut world, _) = World::new(7, &[server(1, "a")]);
    assert_eq!(world.tell(Input::Linked(id(1), key(1))), []);
    assert_eq!(world.tell(Input::Leaving(id(1))), []);
    assert_eq!(world.links.deadline(), None);
    assert_eq!(world.tell(Input::Lost(id(1))), []);
    assert_eq!(dialled(&world.wait().1), [id(1)]);
}

#[test]
fn a_template_may_ask_for_more_links() {
    let servers: Vec<_> = (1..=4).map(|n| server(n, "a")).collect();
    let (mut world, actions) = World::new(3, &servers);
    let first = dialled(&actions);
    let more = dialled(&world.tell(Input::Wanted(4)));
    assert_eq!((first.len(), more.len()), (2, 2));
    for one in first.iter().chain(&more) {
        let n = u8::try_from(one.as_u128()).unwrap();
        assert_eq!(world.tell(Input::Linked(*one, key(n))), []);
    }
    assert_eq!(world.tell(Input::Wanted(1)), [], "a link that works is kept");
    assert_eq!(world.links.linked_count(), 4);
}
