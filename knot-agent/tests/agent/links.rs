//! Which servers an agent is linked to.

use std::sync::atomic::Ordering;

use knot_core::{
    agent::{Exit, ServerAddress},
    generation::Generation,
    net::KeyPair,
};
use quinn::VarInt;
use uuid::Uuid;

use crate::world::{Agent, Server, run, shell, until, within};

#[tokio::test]
async fn an_agent_says_who_it_is() {
    let mut server = Server::start(1, "a");
    let _agent = Agent::start(&[&server]);
    let hello = server.link().await.hello;
    assert_eq!(hello.space, Uuid::from_u128(99));
    assert_eq!(hello.generation, Generation { term: 3, n: 8 });
    assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn two_links_are_kept_and_a_lost_one_is_replaced() {
    let (mut a, mut b, mut c) =
        (Server::start(1, "a"), Server::start(2, "b"), Server::start(3, "c"));
    // The launch names one server; the others come from its welcome.
    for server in [&a, &b] {
        server.list(&[&a.address, &b.address]);
    }
    c.list(&[&a.address, &b.address, &c.address]);
    let _agent = Agent::start(&[&a]);
    let (first, second) = (a.link().await, b.link().await);
    for link in [&first, &second] {
        assert_eq!(run(link, &shell("exit 9")).await.exit, Some(Exit::Code(9)));
    }
    b.list(&[&a.address, &b.address, &c.address]);
    a.close();
    let third = c.link().await;
    for link in [&second, &third] {
        assert_eq!(run(link, &shell("exit 9")).await.exit, Some(Exit::Code(9)));
    }
}

#[tokio::test]
async fn a_link_that_was_closed_comes_back() {
    let mut server = Server::start(1, "a");
    let _agent = Agent::start(&[&server]);
    for _ in 0..3 {
        let link = server.link().await;
        link.connection.close(VarInt::from_u32(1), b"");
    }
}

#[tokio::test]
async fn a_server_that_is_taken_off_the_list_loses_its_link() {
    let (mut a, mut b) = (Server::start(1, "a"), Server::start(2, "b"));
    for server in [&a, &b] {
        server.list(&[&a.address, &b.address]);
    }
    let _agent = Agent::start(&[&a, &b]);
    let (first, second) = (a.link().await, b.link().await);
    b.list(&[&b.address]);
    within("the link to end", first.connection.closed()).await;
    assert_eq!(run(&second, &shell("exit 9")).await.exit, Some(Exit::Code(9)));
}

#[tokio::test]
async fn a_server_with_another_key_is_never_spoken_to() {
    let (impostor, mut honest) = (Server::start(1, "a"), Server::start(2, "b"));
    let expected = KeyPair::from_seed(&[77; 32]).unwrap().public();
    let named = ServerAddress { keys: vec![expected], ..impostor.address.clone() };
    honest.list(&[&named, &honest.address]);
    // The honest server's key does not vouch for the other's address either.
    let crossed = ServerAddress { keys: honest.address.keys.clone(), ..named.clone() };
    for wrong in [named, crossed] {
        let before = impostor.tried.load(Ordering::SeqCst);
        let _agent = Agent::with(vec![wrong, honest.address.clone()], &[]);
        honest.link().await;
        until("several attempts", || impostor.tried.load(Ordering::SeqCst) >= before + 3).await;
        assert_eq!(impostor.streams.load(Ordering::SeqCst), 0);
    }
}
