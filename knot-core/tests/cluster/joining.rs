//! Joining: what a token is good for, and when a joiner holds all.

use knot_core::{
    id::{Id, ServerId},
    model::Template,
    net::join::{self, Newcomer},
};
use uuid::Uuid;

use crate::world::{BOUND, describe, found, invite, join_through, join_with, linked};

#[tokio::test]
async fn a_token_is_good_for_one_server() {
    let one = found().await;
    let token = invite(&one).await;
    let first = join_with(&one, &token, "two").await;
    let newcomer = Newcomer {
        name: "three".to_owned(),
        zone: String::new(),
        quic: "127.0.0.1:9".to_owned(),
        http: String::new(),
    };
    linked(&one, &first).await;
    let second = join::join(one.address, &token, newcomer).await;
    assert!(matches!(second, Err(join::Error::NotAccepted { .. })), "{second:?}");
}

#[tokio::test]
async fn a_token_of_another_cluster_is_refused_by_both_sides() {
    let (one, other) = (found().await, found().await);
    let token = invite(&other).await;
    let newcomer = Newcomer {
        name: "two".to_owned(),
        zone: String::new(),
        quic: "127.0.0.1:9".to_owned(),
        http: String::new(),
    };
    let refused = join::join(one.address, &token, newcomer).await;
    assert!(matches!(refused, Err(join::Error::NotAccepted { .. })), "{refused:?}");
    assert_eq!(ServerId(one.id().uuid()), one.identity.server);
}

#[tokio::test]
async fn a_joiner_can_wait_until_it_holds_all() {
    let one = found().await;
    for n in 0..300 {
        describe(&one, Id::from_uuid(Uuid::from_u128(n)), "before the join").await;
    }
    let two = join_through(&one, "two").await;
    two.replica.wait_until_equal(one.identity.server, BOUND).await.unwrap();
    assert_eq!(two.replica.list::<Template>().len(), 300);
}
