//! Three replicas on one machine, linked as servers are: how long an edit takes to be seen at the two others.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use knot_core::{
    id::{Author, Id},
    model::{self, Server, Template},
    net::{
        self, Net,
        identity::Identity,
        join::{self, Newcomer},
    },
    replica::{self, Changed, Replica, Watch},
    schema::{Edit, Entity as _},
    store::sqlite::SqliteStore,
};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    Outcome,
    etcd::Etcd,
    figures::{Times, print_ratio},
    usage,
};

const EDITS: usize = 1_000;
const DOCUMENTS: usize = 64;
const WRITERS: usize = 64;
const BURST: usize = 20_000;
/// How long nothing is done.
const IDLE: Duration = Duration::from_secs(10);
/// Longer than anything that is still worth measuring.
const BOUND: Duration = Duration::from_secs(20);

struct Node {
    _folder: TempDir,
    identity: Arc<Identity>,
    replica: Replica,
    net: Net,
    address: SocketAddr,
    services: (net::Service, replica::Service),
}

pub(crate) async fn measure() -> Outcome<()> {
    let one = found().await?;
    let two = join(&one, "two").await?;
    let three = join(&one, "three").await?;
    linked(&[&one, &two, &three]).await?;
    let mut etcd = Etcd::start().await?;

    println!("Three replicas over QUIC on loopback, each with a database on the same disk");
    let mut watches =
        [two.replica.watch(&[Template::KIND]), three.replica.watch(&[Template::KIND])];
    let (mut acknowledged, mut seen, mut put) =
        (Times::default(), Times::default(), Times::default());
    let before = one.net.reach().traffic();
    for n in 0..EDITS {
        let id = Id::from_uuid(Uuid::from_u128(u128::try_from(n % DOCUMENTS)?));
        let text = format!("edit {n}");
        let began = Instant::now();
        describe(&one, id, text.clone()).await?;
        acknowledged.add(began);
        let [at_two, at_three] = &mut watches;
        timeout(BOUND, async {
            tokio::join!(
                shows(&two.replica, at_two, id, &text),
                shows(&three.replica, at_three, id, &text)
            )
        })
        .await?;
        seen.add(began);
        if let Some(etcd) = &mut etcd {
            let began = Instant::now();
            etcd.put(n % DOCUMENTS, &text).await?;
            put.add(began);
        }
    }
    let sent = one.net.reach().traffic().sent - before.sent;
    acknowledged.print("  edit, until it is durable where it was made");
    seen.print("  edit, until watchers at both others read it");
    print_ratio(
        "    seen everywhere / durable at home, medians",
        seen.median(),
        acknowledged.median(),
    );
    let each = sent / u64::try_from(2 * EDITS)?;
    println!("{:58} {each} bytes", "    sent by its server, for each edit and receiver");
    if etcd.is_some() {
        put.print("  put into a cluster of three etcd servers, in turns with them");
        print_ratio("    edit seen everywhere / etcd's put, medians", seen.median(), put.median());
    }
    drop(etcd);
    burst(&[&one, &two, &three]).await?;
    idle(&[&one, &two, &three]).await?;
    for node in [one, two, three] {
        node.services.0.stop().await;
        node.services.1.stop().await;
    }
    Ok(())
}

/// Many writers at one server, until all three have everything.
async fn burst(nodes: &[&Node; 3]) -> Outcome<()> {
    let began = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let replica = nodes[0].replica.clone();
        let author = Author::Server(nodes[0].identity.server);
        writers.spawn(async move {
            let id = Id::<Template>::from_uuid(Uuid::from_u128(u128::try_from(writer)?));
            for n in 0..BURST / WRITERS {
                let edit = move |template: &mut Edit<'_, Template>| {
                    template.set(Template::description, format!("burst {n}"));
                    Ok(())
                };
                replica.put(id, author, edit).await?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    let acknowledged = began.elapsed();
    let root = nodes[0].replica.root();
    timeout(BOUND, async {
        while nodes.iter().any(|node| node.replica.root() != root) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await?;
    let rate =
        |time: Duration| f64::from(u32::try_from(BURST).unwrap_or(u32::MAX)) / time.as_secs_f64();
    println!(
        "{:58} {:.0} a second acknowledged, {:.0} until all three have them",
        format!("  {BURST} edits, {WRITERS} writers at one of three servers"),
        rate(acknowledged),
        rate(began.elapsed())
    );
    Ok(())
}

/// What three servers do that have nothing to do.
async fn idle(nodes: &[&Node; 3]) -> Outcome<()> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let traffic = || nodes.iter().map(|node| node.net.reach().traffic().sent).sum::<u64>();
    let (used, sent, began) = (usage::processor()?, traffic(), Instant::now());
    tokio::time::sleep(IDLE).await;
    let seconds = began.elapsed().as_secs_f64();
    let used = (usage::processor()? - used).as_secs_f64() / seconds / 3.0;
    let sent = (traffic() - sent) as f64 / seconds / 3.0;
    println!(
        "{:58} {:.2} % of a core, {sent:.0} bytes a second sent, {} resident for all three",
        "  idle, each server",
        used * 100.0,
        usage::megabytes(usage::resident()?)
    );
    Ok(())
}

async fn describe(node: &Node, id: Id<Template>, text: String) -> Outcome<()> {
    let author = Author::Server(node.identity.server);
    let edit = node.replica.put(id, author, move |template: &mut Edit<'_, Template>| {
        template.set(Template::description, text);
        Ok(())
    });
    edit.await?;
    Ok(())
}

async fn shows(replica: &Replica, watch: &mut Watch, id: Id<Template>, text: &str) {
    while replica.get(id).is_none_or(|template| template.description != text) {
        let Changed::Document(_) = watch.next().await else { continue };
    }
}

async fn start(folder: TempDir, identity: Arc<Identity>, address: SocketAddr) -> Outcome<Node> {
    let store = SqliteStore::open(&folder.path().join("knot.db"))?;
    let (service, replica) =
        replica::Service::start(identity.server, model::schema(), Box::new(store))?;
    let socket = net::bind(address)?;
    let address = socket.local_addr()?;
    let net_service = net::Service::start(Arc::clone(&identity), replica.clone(), socket)?;
    let net = net_service.net();
    Ok(Node { _folder: folder, identity, replica, net, address, services: (net_service, service) })
}

async fn found() -> Outcome<Node> {
    let identity = Arc::new(Identity::generate()?);
    let node = start(tempfile::tempdir()?, identity, any_port()).await?;
    let (key, quic) = (node.identity.key.public(), node.address.to_string());
    let own = Id::from_uuid(node.identity.server.0);
    let author = Author::Server(node.identity.server);
    let put = node.replica.put(own, author, move |server: &mut Edit<'_, Server>| {
        server.set(Server::name, "one".to_owned());
        server.set(Server::key, Some(key));
        server.set(Server::quic, quic);
        Ok(())
    });
    put.await?;
    Ok(node)
}

/// The host accepts an invitation once its network has heard of it.
async fn join(host: &Node, name: &str) -> Outcome<Node> {
    let author = Author::Server(host.identity.server);
    let token = join::invite(&host.replica, &host.identity, name.to_owned(), author).await?;
    // Bound to learn a free port: the address has to be in the request.
    let address = net::bind(any_port())?.local_addr()?;
    let newcomer = Newcomer {
        name: name.to_owned(),
        zone: String::new(),
        quic: address.to_string(),
        http: String::new(),
    };
    let joined = timeout(BOUND, async {
        loop {
            match join::join(host.address, &token, newcomer.clone()).await {
                Err(join::Error::NotAccepted { .. }) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => break other,
            }
        }
    })
    .await??;
    let node = start(tempfile::tempdir()?, Arc::new(joined.identity), address).await?;
    node.net.introduce(&joined.host);
    node.replica.wait_for(&joined.token, BOUND).await?;
    Ok(node)
}

async fn linked(nodes: &[&Node]) -> Outcome<()> {
    for node in nodes {
        let mut reach = node.net.reach().watch();
        let all = reach
            .wait_for(|reach| reach.values().filter(|peer| peer.linked).count() + 1 == nodes.len());
        drop(timeout(BOUND, all).await??);
    }
    Ok(())
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
