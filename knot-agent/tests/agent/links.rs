//! Which servers an agent is linked to.

use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, atomic::Ordering},
};

use knot_core::{
    agent::{Enrolled, Exit, Launch, ServerAddress},
    generation::Generation,
    net::KeyPair,
};
use quinn::VarInt;
use tokio::{net::UdpSocket, sync::Notify};
use uuid::Uuid;

use crate::world::{Agent, Server, Session, run, shell, until, within};

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

#[tokio::test]
async fn a_server_that_leaves_is_replaced_while_its_sessions_go_on() {
    let (mut a, mut b) = (Server::start(1, "a"), Server::start(2, "b"));
    a.list(&[&a.address]);
    b.list(&[&a.address, &b.address]);
    let _agent = Agent::start(&[&a]);
    let first = a.link().await;
    let mut session = Session::open(&first.connection, &shell("cat")).await;
    a.list(&[&a.address, &b.address]);
    b.link().await;
    let mut c = Server::start(3, "c");
    // All of them, as in a cluster: what only one lists is gone with what another says after it.
    for server in [&c, &b, &a] {
        server.list(&[&a.address, &b.address, &c.address]);
    }
    a.leave();
    c.link().await;
    session.input("still here\n").await;
    assert_eq!(session.output_up_to("\n").await, "still here\n");
}

#[tokio::test]
async fn a_secret_that_another_has_used_ends_the_agent_with_its_reason() {
    let server = Server::start(1, "a");
    *server.enrolled.lock().unwrap() = Enrolled::Spent;
    let launch = Launch { servers: vec![server.address.clone()], ..Launch::default() };
    let agent = Agent::logging(launch, &[], Stdio::piped());
    let ended = within("its end", agent.0.wait_with_output()).await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("has been used before"), "{said}");
}

#[tokio::test]
async fn a_key_is_named_again_until_the_home_can_be_asked() {
    let mut server = Server::start(1, "a");
    *server.enrolled.lock().unwrap() = Enrolled::NoHome;
    let _agent = Agent::start(&[&server]);
    let asked = server.asked.clone();
    until("two attempts", || asked.load(Ordering::SeqCst) >= 2).await;
    *server.enrolled.lock().unwrap() = Enrolled::Yes;
    server.link().await;
}

#[tokio::test]
async fn sessions_go_on_where_the_agents_address_changes() {
    let mut server = Server::start(1, "a");
    let (path, moved) = Path::start(server.address.address).await;
    let there = ServerAddress { address: path, ..server.address.clone() };
    server.list(&[&there]);
    let _agent = Agent::with(vec![there], &[]);
    let link = server.link().await;
    let before = link.connection.remote_address();
    let mut session = Session::open(&link.connection, &shell("cat")).await;
    for n in 0..3 {
        moved.notify_one();
        session.input(format!("{n}\n")).await;
        assert_eq!(session.output_up_to("\n").await, format!("{n}\n"));
    }
    until("the server to see it", || link.connection.remote_address() != before).await;
}

#[tokio::test]
async fn an_agent_that_has_slept_comes_back_and_its_command_runs_on() {
    let mut server = Server::start(1, "a");
    let agent = Agent::start(&[&server]);
    let link = server.link().await;
    // As long as a laptop sleeps: for the link it is all the same, once it has idled out.
    agent.signal(rustix::process::Signal::STOP);
    within("the link to end", link.connection.closed()).await;
    agent.signal(rustix::process::Signal::CONT);
    let link = server.link().await;
    assert_eq!(run(&link, &shell("exit 9")).await.exit, Some(Exit::Code(9)));
}

/// A network path to a server, as a router with address translation is one.
struct Path;

impl Path {
    /// Its address; and what gives it another address towards the server.
    async fn start(server: SocketAddr) -> (SocketAddr, Arc<Notify>) {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = near.local_addr().unwrap();
        let moved = Arc::new(Notify::new());
        let told = Arc::clone(&moved);
        tokio::spawn(async move {
            let mut agent = None;
            let mut far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let (mut forth, mut back) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            loop {
                tokio::select! {
                    Ok((n, from)) = near.recv_from(&mut forth) => {
                        agent = Some(from);
                        far.send_to(&forth[..n], server).await.unwrap();
                    }
                    Ok((n, _)) = far.recv_from(&mut back) => {
                        let Some(agent) = agent else { continue };
                        near.send_to(&back[..n], agent).await.unwrap();
                    }
                    () = told.notified() => far = UdpSocket::bind("127.0.0.1:0").await.unwrap(),
                }
            }
        });
        (address, moved)
    }
}
