//! Keys of servers: renewed, shown, and used twice.

use std::{sync::Arc, time::Duration};

use knot_core::{
    clock::Millis,
    id::ServerId,
    model::Server,
    net::{
        PublicKey, RenewalError, Standing,
        identity::{self, Identity},
        join,
        tls::{self, Accept, Verdict},
    },
    wire,
};
use serde::Serialize;
use uuid::Uuid;

use crate::world::{
    BOUND, Node, cluster, eventually, found, invite, join_with, linked, note, start, try_join,
};

fn accepted(node: &Node, of: &Node) -> Vec<PublicKey> {
    let server = node.replica.get(of.id());
    server.map(|server| server.accepted().into_iter().collect()).unwrap_or_default()
}

/// `key-renewed-in-the-dark`: A adds a key while cut off from all, and restarts.
#[tokio::test]
async fn key_renewed_in_the_dark() {
    let [a, b, c] = cluster().await;
    let (folder, address) = a.stop().await;
    let new = Identity::renew(folder.path()).unwrap();
    let again = Identity::renew(folder.path());
    assert!(matches!(again, Err(identity::Error::Renewing(key)) if key == new), "{again:?}");
    // Nobody but A has heard of the new key: A is let in with the old one.
    let a = start(folder, address).await;
    let old = a.identity.key.public();
    for peer in [&b, &c] {
        linked(&a, peer).await;
        linked(peer, &a).await;
    }
    // Once both know it, the old one can go, and the new one opens the door.
    let folder = a.folder.path().to_owned();
    let finished = eventually("all know the new key", || async {
        match a.net.finish_renewal(&folder, false).await {
            Ok(key) => Some(key),
            Err(RenewalError::NotKnown(_)) => None,
            Err(error) => panic!("{error}"),
        }
    });
    assert_eq!(finished.await, new);
    for node in [&b, &c] {
        eventually("the old key opens no door", || async {
            (accepted(node, &a) == [new]).then_some(())
        })
        .await;
    }
    assert_eq!(Identity::load(&folder).unwrap().key.public(), new);
    let a = a.restart().await;
    let b = b.restart().await;
    for peer in [&b, &c] {
        linked(&a, peer).await;
    }
    note(&a.replica, a.author(), "written with the new key").await;
    b.has_heard_of("written with the new key").await;
    c.has_heard_of("written with the new key").await;
    assert_ne!(old, new);
    assert_eq!(a.standing(), Standing::Belongs);
}

#[tokio::test]
async fn an_old_key_is_not_dropped_while_a_server_does_not_know_the_new_one() {
    let [a, b, c] = cluster().await;
    let folder = a.folder.path().to_owned();
    let none = a.net.finish_renewal(&folder, false).await;
    assert!(matches!(none, Err(RenewalError::NotBegun)), "{none:?}");
    let away = c.cut_off().await;
    let new = Identity::renew(&folder).unwrap();
    a.net.renew(&folder).await.unwrap();
    eventually("b knows the new key", || async { accepted(&b, &a).contains(&new).then_some(()) })
        .await;
    let refused = a.net.finish_renewal(&folder, false).await;
    let named = |names: &[String]| names.iter().any(|name| name == "server 3");
    assert!(matches!(&refused, Err(RenewalError::NotKnown(names)) if named(names)), "{refused:?}");
    // c returns, with the old key in its data: a is let in, and c learns.
    let c = away.heal().await;
    linked(&c, &a).await;
    eventually("c has shown that it knows", || async {
        a.net.finish_renewal(&folder, false).await.ok()
    })
    .await;
    eventually("c accepts the new key alone", || async {
        (accepted(&c, &a) == [new]).then_some(())
    })
    .await;
    note(&a.replica, a.author(), "after the renewal").await;
    c.has_heard_of("after the renewal").await;
}

/// `token-twice`: one join token used in both halves.
#[tokio::test]
async fn token_twice() {
    let [a, b] = cluster().await;
    let token = invite(&a).await;
    a.replica.wait_until_equal(b.identity.server, BOUND).await.unwrap();
    let b = b.cut_off().await;
    let x = join_with(&a, &token, "x").await;
    let (a, x) = (a.cut_off().await, x.cut_off().await);
    let b = b.heal().await;
    let y = join_with(&b, &token, "y").await;
    assert_eq!(x.identity.server, y.identity.server);
    let (a, x) = (a.heal().await, x.heal().await);
    linked(&a, &b).await;
    let key = eventually("both halves agree", || async {
        let keys = [&a, &b].map(|node| node.replica.get(x.id()).and_then(|server| server.key));
        (keys[0] == keys[1]).then_some(keys[0]).flatten()
    })
    .await;
    let (winner, loser) = if key == x.identity.key.public() { (&x, &y) } else { (&y, &x) };
    loser.is_told(Standing::Superseded).await;
    assert!(*loser.net.removed().borrow());
    note(&winner.replica, winner.author(), "from the winner").await;
    a.has_heard_of("from the winner").await;
    b.has_heard_of("from the winner").await;
    note(&loser.replica, loser.author(), "from the loser").await;
    note(&a.replica, a.author(), "a probe").await;
    b.has_heard_of("a probe").await;
    assert_eq!(winner.standing(), Standing::Belongs);
    assert!([&a, &b].iter().all(|node| !node.notes().contains(&"from the loser".to_owned())));
    // It is refused by a server that has restarted since, too.
    let a = a.restart().await;
    let loser_key = loser.identity.key.public();
    assert!(!accepted(&a, winner).contains(&loser_key));
    let third = try_join(&a, &token, "z").await;
    assert!(matches!(third, Err(join::Error::NotAccepted { .. })));
}

/// `join-then-fire`: J joins through A, and A's disk dies at once.
#[tokio::test]
async fn join_then_fire() {
    let [a, b] = cluster().await;
    let token = invite(&a).await;
    let j = join_with(&a, &token, "j").await;
    drop(a.stop().await);
    linked(&j, &b).await;
    linked(&b, &j).await;
    note(&j.replica, j.author(), "from j").await;
    b.has_heard_of("from j").await;
    assert_eq!(b.replica.get(j.id()).unwrap().key, Some(j.identity.key.public()));
}

/// The first frame of a link, as another implementation would write it.
#[derive(Serialize)]
struct Hello {
    server: ServerId,
    run: u64,
    process: Uuid,
    accepts: Vec<PublicKey>,
    now: Millis,
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_reported_and_decides_nothing() {
    let one = found().await;
    let token = invite(&one).await;
    let two = join_with(&one, &token, "two").await;
    let (server, key) = (two.identity.server, Arc::clone(&two.identity.key));
    assert!(one.net.reach().watch().borrow().get(&server).is_none_or(|reach| !reach.is_skewed()));
    let run = two.replica.run() + 1;
    drop(two.stop().await);
    let chain = vec![key.self_signed("two").unwrap()];
    let accept = Accept::Known(Arc::new(|_| Verdict::Known));
    let config = tls::client_config(&key, chain, accept, b"knot-peer/1").unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection =
        endpoint.connect_with(config, one.address, "knot").unwrap().await.expect("not let in");
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let said = Millis::now();
    let now = said.plus(Duration::from_secs(300));
    let hello = Hello { server, run, process: Uuid::new_v4(), accepts: Vec::new(), now };
    wire::write_frame(&mut send, &hello, wire::MAX_STRANGER_FRAME).await.unwrap();
    let mut reach = one.net.reach().watch();
    let seen = reach.wait_for(|reach| reach.get(&server).is_some_and(|one| one.is_skewed()));
    let seen = tokio::time::timeout(BOUND, seen).await.expect("never reported").unwrap();
    let reach = seen[&server];
    // What the first frame took is in it.
    let took = Millis::now().0 - said.0;
    assert!(reach.linked && (300_000 - took..=300_000).contains(&reach.ahead), "{reach:?}");
}

#[tokio::test]
async fn a_server_without_its_sealing_key_in_its_document_announces_it() {
    let one = found().await;
    let joined = one.identity.key.public();
    one.replica
        .edit(one.id(), one.author(), move |server: &mut knot_core::schema::Edit<'_, Server>| {
            server.take(Server::sealing, &joined);
            Ok(())
        })
        .await
        .unwrap();
    let wanted = one.identity.sealing.public();
    eventually("it is announced", || async {
        (one.replica.get(one.id())?.sealing_key() == Some(wanted)).then_some(())
    })
    .await;
}
