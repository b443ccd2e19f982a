//! Two runs of one server: a copy of its folder, and a restart that nobody was told of.

use std::sync::Arc;

use crate::{
    strangers::impersonate,
    world::{
        BOUND, Remains, any_port, cluster, describe, eventually, join_through, linked, lost, note,
        start, start_to_be_killed, template, up,
    },
};

/// `disk-clone`: a server's folder is copied and started elsewhere, while the first lives.
#[tokio::test]
async fn disk_clone() {
    let [a, b, c] = cluster().await;
    let copied = b.identity.server;
    let copy = start(b.copy_of_folder(), any_port()).await;
    assert!(copy.replica.run() > b.replica.run());
    // Its operator sees who refuses it.
    let mut refused = copy.net.refused_by();
    let by_both =
        refused.wait_for(|by| [&a, &c].iter().all(|node| by.contains(&node.identity.server)));
    tokio::time::timeout(BOUND, by_both).await.expect("was never refused").unwrap();
    note(&copy.replica, copy.author(), "written at the copy").await;
    // The first has kept its links, and all it writes arrives; so does what is written to it.
    for node in [&a, &c] {
        assert!(node.net.reach().is_linked(copied));
        assert!(b.net.reach().is_linked(node.identity.server));
        assert!(!copy.net.reach().is_linked(node.identity.server));
    }
    assert!(b.net.refused_by().borrow().is_empty());
    let from_b = describe(&b, template(), "from the first").await;
    let from_a = note(&a.replica, a.author(), "to the first").await;
    a.replica.wait_for(&from_b, BOUND).await.unwrap();
    c.replica.wait_for(&from_b, BOUND).await.unwrap();
    b.has_heard_of("to the first").await;
    assert!(copy.replica.get(from_a).is_none(), "the copy hears nothing");
    assert!(!a.notes().contains(&"written at the copy".to_owned()));
    // The operator gives the first up: the copy takes its place, with what was written there.
    drop(b.stop().await);
    a.has_heard_of("written at the copy").await;
    c.has_heard_of("written at the copy").await;
    copy.has_heard_of("to the first").await;
    eventually("nobody refuses it", || async {
        copy.net.refused_by().borrow().is_empty().then_some(())
    })
    .await;
}

/// A server that belongs no more refuses nothing that is of concern.
#[tokio::test]
async fn who_is_removed_is_no_more_among_those_that_refuse() {
    let [a, b, c] = cluster().await;
    let copy = start(b.copy_of_folder(), any_port()).await;
    let (a, c_id) = (a.identity.server, c.identity.server);
    let mut refused = copy.net.refused_by();
    let by_both = refused.wait_for(|by| by.contains(&a) && by.contains(&c_id));
    tokio::time::timeout(BOUND, by_both).await.expect("was never refused").unwrap();
    copy.replica.delete(c.id(), copy.author()).await.unwrap();
    let by_one = refused.wait_for(|by| by.contains(&a) && !by.contains(&c_id));
    tokio::time::timeout(BOUND, by_one).await.expect("it is still named").unwrap();
}

/// A restart while the link of the run before has not timed out, and here never does: that run does not
/// answer any more.
#[tokio::test]
async fn a_killed_server_that_starts_again_is_let_in_at_once() {
    let [a, b] = cluster().await;
    let identity = Arc::clone(&b.identity);
    let (folder, _) = b.stop().await;
    lost(&a, identity.server).await;
    let _before = impersonate(&identity, &a).await;
    let b = start(folder, any_port()).await;
    let token = describe(&b, template(), "after the restart").await;
    a.replica.wait_for(&token, BOUND).await.unwrap();
    assert!(b.net.refused_by().borrow().is_empty());
}

/// A restart that nobody was told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_that_starts_again_elsewhere_is_let_in_and_heard() {
    let [a] = cluster().await;
    let b = join_through(&a, "two").await;
    let (folder, address) = b.stop().await;
    let (process, b) = start_to_be_killed(folder, address).await;
    let server = b.identity.server;
    up(&a, server).await;
    linked(&b, &a).await;
    let before = b.replica.run();
    let Remains { folder, .. } = b.kill(process);
    // The disk lives elsewhere now: what is left of the killed one's socket is of no concern.
    let b = start(folder, any_port()).await;
    assert!(b.replica.run() > before);
    let token = describe(&b, template(), "after the restart").await;
    a.replica.wait_for(&token, BOUND).await.unwrap();
    assert!(b.net.refused_by().borrow().is_empty());
}
