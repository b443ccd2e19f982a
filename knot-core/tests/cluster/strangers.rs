//! Who has no key, or one that says nothing for what it sends.

use std::{collections::BTreeSet, sync::Arc};

use knot_core::{
    agent,
    clock::Millis,
    id::{Id, ServerId},
    membership,
    net::{
        KeyPair, PublicKey,
        identity::Identity,
        join,
        tls::{self, Accept, Verdict},
    },
    sync::Message,
    wire,
};
use uuid::Uuid;

use crate::world::{
    BOUND, Node, any_port, describe, eventually, found, join_through, lost, template, up,
};

#[tokio::test]
async fn a_stranger_gets_no_byte() {
    let one = found().await;
    let key = KeyPair::generate().unwrap();
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    for protocol in [&b"knot-peer/1"[..], agent::ALPN, join::ALPN] {
        let chain = vec![key.self_signed("stranger").unwrap()];
        let accept = Accept::Known(Arc::new(|_| Verdict::Known));
        let config = tls::client_config(&key, chain, accept, protocol).unwrap();
        let connecting = endpoint.connect_with(config, one.address, "knot").unwrap();
        // In TLS 1.3 the dialling end is done before the other has judged it.
        let Ok(connection) = connecting.await else { continue };
        let heard = async {
            let (mut send, mut receive) = connection.open_bi().await.ok()?;
            send.write_all(&[0; 64]).await.ok()?;
            receive.read_chunk(1, true).await.ok()?
        };
        assert!(heard.await.is_none(), "a stranger was answered");
        let reason = connection.closed().await;
        assert!(matches!(reason, quinn::ConnectionError::ConnectionClosed(_)), "{reason}");
    }
}

/// The first frame of a peer, as docs/src/protocol.md has it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Hello {
    server: ServerId,
    run: u64,
    process: Uuid,
    accepts: Vec<PublicKey>,
    now: Millis,
}

/// A link to a node by one who has a server's key, and is no server: it answers nothing.
pub(crate) struct Impersonator {
    connection: quinn::Connection,
    _send: quinn::SendStream,
    receive: quinn::RecvStream,
}

pub(crate) async fn impersonate(identity: &Identity, node: &Node) -> Impersonator {
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    let accept = Accept::Known(Arc::new(|_| Verdict::Known));
    let chain = identity.chain(&identity.key).unwrap();
    let config = tls::client_config(&identity.key, chain, accept, b"knot-peer/1").unwrap();
    let connection = endpoint.connect_with(config, node.address, "knot").unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let hello = Hello {
        server: identity.server,
        run: u64::MAX,
        process: Uuid::new_v4(),
        accepts: Vec::new(),
        now: Millis::now(),
    };
    wire::write_frame(&mut send, &hello, wire::MAX_STRANGER_FRAME).await.unwrap();
    let _: Option<Hello> = wire::read_frame(&mut receive, wire::MAX_STRANGER_FRAME).await.unwrap();
    eventually("the link is there", || async {
        node.net.reach().is_linked(identity.server).then_some(())
    })
    .await;
    Impersonator { connection, _send: send, receive }
}

#[tokio::test]
async fn a_peer_that_missed_news_is_told_of_it_at_once() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let identity = Arc::clone(&two.identity);
    two.stop().await;
    lost(&one, identity.server).await;
    let mut peer = impersonate(&identity, &one).await;
    // It reads nothing: what it has not got room for waits, and after 16 MiB is left out. Each edit makes
    // a document, so that the count in a root says which edits it tells of.
    let (edits, before) = (90, one.replica.root().count);
    for n in 0..edits {
        let id = Id::from_uuid(Uuid::from_u128(n.into()));
        describe(&one, id, &"x".repeat(200 << 10)).await;
    }
    let (mut news, mut told) = (BTreeSet::new(), 0);
    let all = async {
        while (told..edits).any(|n| !news.contains(&Uuid::from_u128(n.into()))) {
            match wire::read_frame(&mut peer.receive, wire::MAX_PEER_FRAME).await.unwrap().unwrap()
            {
                Message::News(answer) => news.extend(answer.changes.iter().map(|one| one.doc.uuid)),
                Message::Root { count, .. } => told = told.max(count.saturating_sub(before)),
                _ => {}
            }
        }
    };
    tokio::time::timeout(BOUND, all).await.expect("never told");
    assert!((0..edits).any(|n| !news.contains(&Uuid::from_u128(n.into()))), "nothing was left out");
}

#[tokio::test]
async fn datagrams_that_nobody_meant_change_nothing() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    up(&one, two.identity.server).await;
    let identity = Arc::clone(&two.identity);
    two.stop().await;
    lost(&one, identity.server).await;

    let peer = impersonate(&identity, &one).await;
    let connection = &peer.connection;
    let announced = connection.read_datagram().await.unwrap();
    assert!(membership::decode(announced.clone()).is_ok());
    for n in 0..2_000_u32 {
        let mut junk = match n % 3 {
            0 => vec![n as u8; n as usize % 1_100],
            1 => [&announced[..41], &vec![n as u8; n as usize % 1_000]].concat(),
            _ => announced.to_vec(),
        };
        let at = n as usize % junk.len().max(1);
        if let Some(byte) = junk.get_mut(at) {
            *byte ^= 1 << (n % 8);
        }
        connection.send_datagram_wait(junk.into()).await.unwrap();
    }
    // What was asked after all of it is answered, the link is there, and nobody is up.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    wire::write_frame(&mut send, &"Echo", wire::MAX_STRANGER_FRAME).await.unwrap();
    let answer: Option<bool> =
        wire::read_frame(&mut receive, wire::MAX_STRANGER_FRAME).await.unwrap();
    assert_eq!(answer, Some(true));
    let reach = *one.net.reach().watch().borrow().get(&identity.server).unwrap();
    assert!(reach.linked && !reach.up, "{reach:?}");
    describe(&one, template(), "and it goes on").await;
}
