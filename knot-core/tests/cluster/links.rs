//! Links between servers: made, lost and made again; what was edited meanwhile comes.

use std::time::Instant;

use knot_core::{
    id::Id,
    model::{Server, Template},
};

use crate::world::{
    BOUND, Remains, describe, found, join_through, linked, lost, start, start_to_be_killed,
    template, up,
};

#[tokio::test]
async fn three_servers_join_and_show_each_others_edits() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let three = join_through(&two, "three").await;
    for (node, peer) in [(&one, &two), (&one, &three), (&two, &three)] {
        linked(node, peer).await;
        linked(peer, node).await;
    }
    for (writer, text) in [(&one, "from one"), (&two, "from two"), (&three, "from three")] {
        let token = describe(writer, template(), text).await;
        for reader in [&one, &two, &three] {
            reader.replica.wait_for(&token, BOUND).await.unwrap();
            assert_eq!(reader.replica.get(template()).unwrap().description, text);
        }
    }
}

#[tokio::test]
async fn a_server_that_was_away_catches_up() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let (folder, address) = two.stop().await;
    let mut tokens = Vec::new();
    for n in 0..500 {
        let id = Id::from_uuid(uuid::Uuid::from_u128(n));
        tokens.push(describe(&one, id, "written while two was away").await);
    }
    let two = start(folder, address).await;
    for token in tokens {
        two.replica.wait_for(&token, BOUND).await.unwrap();
    }
    assert_eq!(two.replica.list::<Template>().len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_known_to_be_lost_and_is_up_when_it_returns() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let three = join_through(&one, "three").await;
    let server = two.identity.server;
    let (folder, address) = two.stop().await;
    let (process, two) = start_to_be_killed(folder, address).await;
    for node in [&one, &three] {
        up(node, server).await;
        up(&two, node.identity.server).await;
    }
    let Remains { folder, address } = two.kill(process);
    let killed = Instant::now();
    tokio::join!(lost(&one, server), lost(&three, server));
    let took = killed.elapsed();
    println!("two servers knew after {took:?} that the third was lost");
    // It still belongs, and the others have not lost each other.
    assert!(one.replica.get(Id::<Server>::from_uuid(server.0)).is_some());
    assert!(one.net.reach().is_reachable(three.identity.server));

    let two = start(folder, address).await;
    for node in [&one, &three] {
        up(node, server).await;
        up(&two, node.identity.server).await;
    }
}
