#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use uuid::Uuid;

use super::*;

const ROUND_TRIP: Duration = Duration::from_millis(4);
const LATER: Duration = Duration::from_secs(1);

fn server(n: u128) -> ServerId {
    ServerId(Uuid::from_u128(n))
}

fn news(n: u64) -> NewsId {
    (ItemKey::from_bytes(Uuid::from_u128(n.into()).into_bytes()), n)
}

/// Forty near peers and a hundred and sixty far ones, chosen from.
fn tree() -> Plumtree {
    let mut tree = Plumtree::new([1; 32]);
    for n in 0..200 {
        tree.peer_up(Duration::ZERO, server(n));
        let far = if n < 40 { 0 } else { n as u32 / 40 * 40 };
        tree.round_trip(Duration::ZERO, server(n), ROUND_TRIP + far * Duration::from_millis(1));
    }
    tree.tick(LATER);
    tree
}

fn is_near(id: &ServerId) -> bool {
    id.0.as_u128() < 40
}

#[test]
fn news_that_begins_here_goes_to_few_near_peers_and_to_seeds_of_each_zone() {
    let mut tree = tree();
    let targets = tree.began(LATER, &[news(1)]);
    let (near, far): (Vec<ServerId>, Vec<ServerId>) = targets.into_iter().partition(is_near);
    assert_eq!((near.len(), far.len()), (view::NEAR, 16));
    for zone in 1..5 {
        let seeds = far.iter().filter(|id| id.0.as_u128() / 40 == zone).count();
        assert_eq!(seeds, 4, "zone {zone}");
    }
}

#[test]
fn news_is_passed_on_to_near_peers_but_not_back() {
    let mut tree = tree();
    let eager = tree.came(LATER, server(199), &[news(1)]);
    assert!(eager.len() == view::NEAR && eager.iter().all(is_near), "{eager:?}");
    assert!(!tree.came(LATER, eager[0], &[news(2)]).contains(&eager[0]));
    assert!(tree.knows(&news(1)) && !tree.knows(&news(3)));
}

#[test]
fn a_name_whose_news_does_not_come_is_asked_for_and_its_link_becomes_eager() {
    let mut tree = tree();
    tree.i_have(LATER, server(5), &Items::new(&[news(1), news(2)]));
    tree.i_have(LATER, server(6), &Items::new(&[news(1)]));
    tree.came(LATER, server(7), &[news(2)]);
    assert!(!tree.tick(LATER).iter().any(|output| matches!(output, Output::Graft(..))));
    let due = tree.wake().unwrap().max(LATER + Duration::from_millis(50));
    let asked = |outputs: Vec<Output>| -> Vec<_> {
        outputs.into_iter().filter(|output| !matches!(output, Output::Send(..))).collect()
    };
    assert_eq!(asked(tree.tick(due)), [Output::Graft(server(5), vec![news(1).0])]);
    assert!(tree.began(due, &[news(9)]).contains(&server(5)));
    // In vain: the other is asked, and when that was in vain too, it is told the root.
    assert_eq!(asked(tree.tick(due + LATER)), [Output::Graft(server(6), vec![news(1).0])]);
    assert_eq!(asked(tree.tick(due + 2 * LATER)), [Output::Probe(server(6))]);
    assert_eq!(asked(tree.tick(due + 3 * LATER)), []);
}

#[test]
fn a_link_that_brings_duplicates_only_is_pruned_but_not_the_last_two() {
    let mut tree = tree();
    (0..4).for_each(|n| tree.graft(server(n)));
    let mut pruned = 0;
    for n in 0..200 {
        tree.came(LATER, server(0), &[news(n)]);
        for from in 1..4 {
            pruned += tree.came_again(LATER, server(from), 1).len();
        }
    }
    let eager = tree.began(LATER, &[news(1_000)]).iter().filter(|id| is_near(id)).count();
    assert!(
        pruned > 0 && (view::KEPT..4 + view::NEAR).contains(&eager),
        "{pruned} pruned, {eager} left"
    );
    assert!(tree.began(LATER, &[news(1_001)]).contains(&server(0)), "who brings news is kept");
}

#[test]
fn where_all_prune_new_eager_peers_are_drawn() {
    let mut tree = tree();
    let eager = tree.came(LATER, server(199), &[news(1)]);
    eager.iter().for_each(|id| tree.prune(LATER, *id));
    let outputs = tree.tick(2 * LATER);
    let grafts = outputs
        .iter()
        .filter(|output| matches!(output, Output::Send(id, Message::Graft(_)) if is_near(id)));
    assert_eq!(grafts.count(), view::NEAR);
}

#[test]
fn what_waits_is_bounded() {
    let mut tree = tree();
    for n in 0..20 {
        let names: Vec<_> = (n * 10_000..n * 10_000 + 10_000).map(news).collect();
        tree.i_have(LATER, server(n.into()), &Items::new(&names));
        tree.began(LATER, &names);
    }
    let named: usize = tree
        .tick(2 * LATER)
        .iter()
        .map(|output| match output {
            Output::Send(_, Message::IHave(names)) => names.read(usize::MAX).count(),
            _ => 0,
        })
        .sum();
    assert!(named <= GATHERED * 6, "{named} names told");
    assert!(tree.recent.len() <= 2 * 32_768);
}

#[test]
fn few_links_need_no_tree() {
    let mut tree = Plumtree::new([1; 32]);
    (0..30).for_each(|n| tree.peer_up(Duration::ZERO, server(n)));
    assert!(tree.is_direct() && tree.tick(LATER).is_empty() && tree.wake().is_none());
    tree.peer_up(LATER, server(31));
    assert!(!tree.is_direct() && tree.wake().is_some());
}
