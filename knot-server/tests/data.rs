//! `knot-server import`, `changes` and `revert`, on folders and on a running server.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use knot_core::{
    id::{Author, Id, ServerId},
    model::{self, Server, Template},
    net::{KeyPair, identity::Identity},
    replica::{Replica, Service},
    store::sqlite::SqliteStore,
};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_knot-server");
const ANNA: Author = Author::User(Uuid::from_u128(7));
/// How long a server may take to come up.
const BOUND: Duration = Duration::from_secs(60);

fn run(arguments: &[&str], data: &Path) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--data").arg(data).stdin(Stdio::null()).output().unwrap()
}

fn succeed(arguments: &[&str], data: &Path) -> String {
    let output = run(arguments, data);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(arguments: &[&str], data: &Path) -> String {
    let output = run(arguments, data);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The first server of a new cluster.
fn found(data: &Path) {
    let (any, nobody) = ("127.0.0.1:0", "127.0.0.1:9");
    let flags = ["init", "--http", any, "--quic", any, "--quic-advertise", nobody];
    succeed(&flags, data);
}

/// Another server of the cluster of `one`, with all that this one has.
async fn clone(one: &Path, two: &Path) {
    std::fs::create_dir(two).unwrap();
    let key = Arc::new(KeyPair::generate().unwrap());
    let server = ServerId(Uuid::now_v7());
    Identity { server, key, ..Identity::load(one).unwrap() }.save(two).unwrap();
    let (service, replica) = open(two);
    let first = SqliteStore::open(&one.join("knot.db")).unwrap();
    replica.import(Box::new(first)).await.unwrap();
    service.stop().await;
}

fn open(data: &Path) -> (Service, Replica) {
    let store = SqliteStore::open(&data.join("knot.db")).unwrap();
    let server = Identity::load(data).unwrap().server;
    Service::start(server, model::schema(), Box::new(store)).unwrap()
}

async fn create(replica: &Replica, name: &'static str) -> Id<Template> {
    let create = replica.create::<Template, _>(ANNA, move |template| {
        template.set(Template::name, name.to_owned());
        Ok(())
    });
    create.await.unwrap().id
}

async fn describe(replica: &Replica, id: Id<Template>, author: Author, text: &'static str) {
    let edit =
        replica.edit(id, author, move |template: &mut knot_core::schema::Edit<'_, Template>| {
            template.set(Template::description, text.to_owned());
            Ok(())
        });
    edit.await.unwrap();
}

/// A server that runs; stopped when dropped.
struct Running(Child);

impl Running {
    fn start(data: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg("--data").arg(data).stdin(Stdio::null()).stderr(Stdio::null());
        let running = Self(command.spawn().unwrap());
        let since = Instant::now();
        while !run(&["token"], data).status.success() {
            assert!(since.elapsed() < BOUND, "the server never answered");
        }
        running
    }

    fn stop(mut self) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn a_folder_of_the_cluster_is_brought_in_and_what_was_deleted_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, other] = ["one", "two", "other"].map(|name| folder.path().join(name));
    found(&one);
    let (service, replica) = open(&one);
    let [kept, doomed] = [create(&replica, "kept").await, create(&replica, "doomed").await];
    service.stop().await;
    clone(&one, &two).await;
    let (service, replica) = open(&one);
    replica.delete(doomed, ANNA).await.unwrap();
    service.stop().await;
    let (service, replica) = open(&two);
    describe(&replica, kept, ANNA, "only two has it").await;
    describe(&replica, doomed, ANNA, "in vain").await;
    let new = create(&replica, "new").await;
    service.stop().await;

    // Without a server.
    let from = two.to_str().unwrap();
    let said = succeed(&["import", from], &one);
    assert!(said.contains("2 of them had changes that were not here"), "{said}");
    let (service, replica) = open(&one);
    assert_eq!(replica.get(kept).unwrap().description, "only two has it");
    assert_eq!(replica.get(new).unwrap().name, "new");
    assert!(replica.get(doomed).is_none() && replica.grave(doomed).is_some());
    service.stop().await;

    // Through one that runs.
    let (service, replica) = open(&two);
    describe(&replica, new, ANNA, "said later").await;
    let running = Running::start(&one);
    let why = refused(&["import", from], &one);
    assert!(why.contains("in use by another process"), "{why}");
    service.stop().await;
    let said = succeed(&["import", from], &one);
    assert!(said.contains("1 of them had changes that were not here"), "{said}");
    assert!(said.contains("0 deletion(s)"), "{said}");
    running.stop();
    let (service, replica) = open(&one);
    assert_eq!(replica.get(new).unwrap().description, "said later");
    service.stop().await;

    // What does not belong here.
    found(&other);
    let why = refused(&["import", other.to_str().unwrap()], &one);
    assert!(why.contains("of another cluster"), "{why}");
    let own = one.join("..").join("one");
    let why = refused(&["import", own.to_str().unwrap()], &one);
    assert!(why.contains("own data folder"), "{why}");
    let why = refused(&["import", folder.path().to_str().unwrap()], &one);
    assert!(why.contains("holds no `identity`"), "{why}");
    assert!(!folder.path().join("knot.db").exists());
    // A server that belongs no more takes no writes.
    std::fs::write(one.join("expelled.json"), "\"removed\"").unwrap();
    let why = refused(&["import", from], &one);
    assert!(why.contains("was removed from its cluster"), "{why}");
}

#[tokio::test]
async fn what_a_stolen_server_changed_is_listed_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one");
    found(&one);
    let stolen = ServerId(Uuid::now_v7());
    let by = Author::Server(stolen);
    let key = KeyPair::generate().unwrap().public();
    let (service, replica) = open(&one);
    let put = replica.put(Id::<Server>::from_uuid(stolen.0), ANNA, move |server| {
        server.set(Server::name, "lost".to_owned());
        server.set(Server::key, Some(key));
        Ok(())
    });
    put.await.unwrap();
    let [id, dead] = [create(&replica, "target").await, create(&replica, "dead").await];
    describe(&replica, id, ANNA, "as it should be").await;
    describe(&replica, id, by, "as it should not be").await;
    describe(&replica, id, ANNA, "on top of it").await;
    replica.delete(dead, by).await.unwrap();
    service.stop().await;

    let running = Running::start(&one);
    let said = succeed(&["remove", "lost", "--stolen"], &one);
    let listed: Vec<_> = said.lines().filter(|line| line.contains(" template/")).collect();
    assert_eq!(listed.len(), 2, "{said}");
    assert!(listed[0].contains(&format!("template/{dead} `dead`  deleted")), "{said}");
    assert!(listed[1].contains(&format!("template/{id} `target`")), "{said}");
    assert!(listed[1].ends_with("  description"), "{said}");
    let hash = listed[1].split_whitespace().nth(3).unwrap();
    assert_eq!(hash.len(), 16, "{said}");
    // By its name still, though it is removed.
    let again = succeed(&["changes", "lost"], &one);
    assert!(listed.iter().all(|line| again.contains(line)), "{again}");

    let doc = format!("template/{id}");
    let why = refused(&["revert", &doc, "--before", "0123456789"], &one);
    assert!(why.contains("holds no change 0123456789"), "{why}");
    let why = refused(&["revert", &doc, "--before", &hash[..7]], &one);
    assert!(why.contains("8 or more hex digits"), "{why}");
    let why = refused(&["revert", "template", "--before", hash], &one);
    assert!(why.contains("KIND/ID is wanted"), "{why}");
    let said = succeed(&["revert", &doc, "--before", &hash[..8]], &one);
    assert!(said.contains("Put back: description."), "{said}");
    assert!(said.contains("1 other change(s)"), "{said}");
    running.stop();

    let (service, replica) = open(&one);
    assert_eq!(replica.get(id).unwrap().description, "as it should be");
    service.stop().await;
    let said = succeed(&["revert", &doc, "--before", hash], &one);
    assert!(said.contains("already"), "{said}");
    let why = refused(&["changes", "nobody"], &one);
    assert!(why.contains("no server is or was called `nobody`"), "{why}");
}
