//! Servers that are removed: told so, cut off, and what they wrote before.

use std::{sync::Arc, time::Duration};

use knot_core::{
    id::Id,
    model::{self, Server, Template},
    net::{Standing, alone, identity::Identity, join::Newcomer, probe},
    replica,
    secrets::remove_server,
    store::sqlite::SqliteStore,
};
use uuid::Uuid;

use crate::world::{
    BOUND, Vault, cluster, describe, eventually, found, invite, join_through, join_with, linked,
    note, start, template, try_join,
};

/// `removed-but-heard`: R is removed at A; B, cut off with R, takes R's edits; then they are healed.
#[tokio::test]
async fn removed_but_heard() {
    let [a, b, r] = cluster().await;
    let a = a.cut_off().await;
    a.replica.delete(r.id(), a.author()).await.unwrap();
    note(&r.replica, r.author(), "taken by b").await;
    b.has_heard_of("taken by b").await;
    let a = a.heal().await;
    a.has_heard_of("taken by b").await;
    a.replica.wait_until_equal(b.identity.server, BOUND).await.unwrap();
    r.is_told(Standing::Removed).await;
    assert!(b.replica.grave(r.id()).is_some());
    assert!(a.notes().contains(&"taken by b".to_owned()));
}

/// `removed-works-on`, but for `import`: R is cut off and removed, and goes on; then it is healed.
#[tokio::test]
async fn removed_works_on() {
    let [a, b, r] = cluster().await;
    let (b, r) = (b.cut_off().await, r.cut_off().await);
    remove_server(&a.sessions(), r.id(), false, a.author()).await.unwrap();
    note(&r.replica, r.author(), "of nobody's concern").await;
    // B has restarted, and never ran together with the removed server's link.
    let b = b.heal().await.restart().await;
    b.replica.wait_until_equal(a.identity.server, BOUND).await.unwrap();
    drop(a.stop().await);
    // And once more, now that it has heard of it: what it tells R, it tells from its database.
    let b = b.restart().await;
    assert!(b.replica.grave(r.id()).is_some());
    let r = r.heal().await;
    r.is_told(Standing::Removed).await;
    assert!(*r.net.removed().borrow());
    assert!(r.notes().contains(&"of nobody's concern".to_owned()), "its database is kept");
    note(&b.replica, b.author(), "after the removal").await;
    assert!(!b.notes().contains(&"of nobody's concern".to_owned()));
    assert!(!b.net.reach().is_linked(r.identity.server));
    // What is sealed from now on is not for it, whatever it may still get hold of.
    let newest = b.keyring().newest_key().unwrap();
    let key = b.replica.get(newest).unwrap();
    assert!(!key.wrapped.contains_key(&r.identity.sealing.public()));
    assert!(key.wrapped.contains_key(&b.identity.sealing.public()));
}

#[tokio::test]
async fn a_removed_server_is_cut_off_and_refused() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    linked(&one, &two).await;
    linked(&two, &one).await;
    one.replica.delete(two.id(), one.author()).await.unwrap();
    let mut removed = two.net.removed();
    tokio::time::timeout(BOUND, removed.wait_for(|removed| *removed)).await.unwrap().unwrap();
    let server = two.identity.server;
    eventually("one has no link to two", || async {
        (!one.net.reach().is_linked(server)).then_some(())
    })
    .await;
    // What two goes on writing reaches nobody, and two goes on hearing nothing.
    let lost = Id::from_uuid(Uuid::from_u128(8));
    describe(&two, lost, "after the removal").await;
    let token = describe(&one, template(), "after the removal").await;
    let two = two.restart().await;
    assert!(two.replica.wait_for(&token, Duration::from_secs(2)).await.is_err());
    assert!(one.replica.get::<Template>(lost).is_none());
    assert!(!one.net.reach().is_linked(server));
}

#[tokio::test]
async fn an_invitation_that_is_taken_back_costs_no_key() {
    let [a] = cluster().await;
    let token = invite(&a).await;
    let invited = a.replica.list::<Server>().into_iter().find(|server| server.key.is_none());
    let keys = a.keyring().newest_key();
    remove_server(&a.sessions(), invited.unwrap().id(), false, a.author()).await.unwrap();
    assert_eq!(a.keyring().newest_key(), keys);
    assert!(try_join(&a, &token, "nobody").await.is_err());
}

/// `mutual-removal`: A removes B while B removes A. What C has heard holds; of two removals it may
/// hear one only, since a server whose removal came first is not listened to any more.
#[tokio::test]
async fn mutual_removal() {
    let [a, b, c] = cluster().await;
    let (a, b, c) = (a.cut_off().await, b.cut_off().await, c.cut_off().await);
    a.replica.delete(b.id(), a.author()).await.unwrap();
    b.replica.delete(a.id(), b.author()).await.unwrap();
    let c = c.heal().await;
    let (a, b) = (a.heal().await, b.heal().await);
    eventually("each is in or out, and knows it", || async {
        let settled = [&a, &b].map(|node| {
            let linked = c.net.reach().is_linked(node.identity.server);
            let (dead, told) = (c.replica.grave(node.id()).is_some(), node.standing());
            let out = dead && !linked && told == Standing::Removed;
            (out, out || (!dead && linked && told == Standing::Belongs))
        });
        (settled.iter().any(|(out, _)| *out) && settled.iter().all(|(_, known)| *known))
            .then_some(())
    })
    .await;
    assert_eq!(c.standing(), Standing::Belongs);
    let token = invite(&c).await;
    let d = join_with(&c, &token, "four").await;
    note(&c.replica, c.author(), "c goes on").await;
    d.has_heard_of("c goes on").await;
}

/// The rest of `mutual-removal`: none is left, and the operator picks A.
#[tokio::test]
async fn mutual_removal_with_none_left() {
    let [a, b] = cluster().await;
    let secret = "known to both";
    note(&a.replica, a.author(), secret).await;
    b.has_heard_of(secret).await;
    let (a, b) = (a.cut_off().await, b.cut_off().await);
    a.replica.delete(b.id(), a.author()).await.unwrap();
    b.replica.delete(a.id(), b.author()).await.unwrap();
    let (a, b) = (a.heal().await, b.heal().await);
    a.is_told(Standing::Removed).await;
    b.is_told(Standing::Removed).await;

    let before = a.identity.server;
    let keys = a.replica.list::<model::DataKey>().len();
    let (folder, address) = a.stop().await;
    let old = Identity::load(folder.path()).unwrap();
    let store = SqliteStore::open(&folder.path().join("knot.db")).unwrap();
    let new = alone::successor(old).unwrap();
    let schema = model::schema().with::<Vault>();
    let (service, replica) = replica::Service::start(new.server, schema, Box::new(store)).unwrap();
    let introduction = Newcomer {
        name: "one".to_owned(),
        zone: String::new(),
        quic: address.to_string(),
        http: String::new(),
    };
    alone::take_over(&replica, &new, before, introduction).await.unwrap();
    service.stop().await;
    new.replace(folder.path()).unwrap();

    let a = start(folder, address).await;
    assert_ne!(a.identity.server, before);
    assert_eq!(a.identity.cluster, b.identity.cluster);
    assert_eq!(a.replica.list::<Server>().len(), 1);
    assert!(a.notes().contains(&secret.to_owned()));
    assert_eq!(a.replica.list::<model::DataKey>().len(), keys + 1);
    assert!(a.sessions().newest().is_some(), "its secrets stay open to it");
    let token = invite(&a).await;
    let c = join_with(&a, &token, "three").await;
    linked(&c, &a).await;
    assert_eq!(a.standing(), Standing::Belongs);
    assert_eq!(b.standing(), Standing::Removed);
}

#[tokio::test]
async fn a_server_that_is_alone_can_tell_who_still_answers() {
    let [a, b, c] = cluster().await;
    let servers: Vec<Server> =
        [&b, &c].map(|node| (*a.replica.get(node.id()).unwrap()).clone()).into();
    drop(c.stop().await);
    // B has removed A, and answers all the same.
    b.replica.delete(a.id(), b.author()).await.unwrap();
    let (folder, _) = a.stop().await;
    let identity = Arc::new(Identity::load(folder.path()).unwrap());
    assert_eq!(probe::who_answers(&identity, &servers).await.unwrap(), ["server 2"]);
}
