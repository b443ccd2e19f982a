//! One server with its spaces, and what can be asked of it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use knot_core::{
    id::{Author, Id},
    model::{
        self, Desired, Observed, Placement, Server, ServerStatus, Space, SpaceStatus, Template,
    },
    net::{self, identity::Identity},
    replica::{self, Replica},
    schema::Edit,
    store::sqlite::SqliteStore,
    wire::{self, MAX_PEER_FRAME},
};
use knot_server::{
    agent_binary,
    spaces::{
        Engines, Options, Service,
        answers::{Answer, Question},
        drivers::{Driver, Local, Owner},
        trust::Trusted,
    },
};
use tokio::{io::AsyncReadExt as _, time::timeout};

use crate::left::{Left, all_below};

/// No test waits longer than this for anything.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) replica: Replica,
    pub(crate) author: Author,
    pub(crate) data: PathBuf,
    pub(crate) template: Id<Template>,
    pub(crate) engine: Arc<dyn Driver>,
    pub(crate) owner: Owner,
    pub(crate) trusted: Trusted,
    spaces: Service,
    _net: net::Service,
    _replica_service: replica::Service,
    _left: Left,
    _folder: tempfile::TempDir,
}

/// A home, and a template for the local platform.
pub(crate) async fn world(
    template: impl FnOnce(&mut Edit<'_, Template>) + Send + 'static,
) -> World {
    world_in(tempfile::tempdir().unwrap(), template).await
}

/// The same, of a folder with something in it.
pub(crate) async fn world_in(
    folder: tempfile::TempDir,
    template: impl FnOnce(&mut Edit<'_, Template>) + Send + 'static,
) -> World {
    let data = folder.path().to_owned();
    let identity = Arc::new(Identity::generate().unwrap());
    let (me, author) = (identity.server, Author::Server(identity.server));
    let store = SqliteStore::open(&data.join("knot.db")).unwrap();
    let (replica_service, replica) =
        replica::Service::start(me, model::schema(), Box::new(store)).unwrap();
    let socket = net::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (address, key) = (socket.local_addr().unwrap().to_string(), identity.key.public());
    let own = replica.put(Id::<Server>::from_uuid(me.0), author, move |server| {
        server.set(Server::name, "home".to_owned());
        server.set(Server::key, Some(key));
        server.set(Server::quic, address);
        Ok(())
    });
    own.await.unwrap();
    let template = make_template(&replica, template).await;
    let owner = Owner { cluster: identity.cluster, home: me.0 };
    let net = net::Service::start(Arc::clone(&identity), replica.clone(), socket).unwrap();
    let local: Arc<dyn Driver> = Arc::new(Local::new(owner, data.clone(), agent_binary::bytes()));
    let options = Options { stop_on_exit: true, ..Options::default() };
    let engines = Engines::new([Arc::clone(&local)]);
    let trusted = Trusted::new(&data);
    let spaces =
        Service::start(options, &data, trusted.clone(), replica.clone(), net.net(), engines);
    World {
        replica,
        author,
        data,
        template,
        engine: local,
        owner,
        trusted,
        spaces,
        _net: net,
        _replica_service: replica_service,
        _left: Left::below(folder.path()),
        _folder: folder,
    }
}

/// A template for the local platform.
pub(crate) async fn make_template(
    replica: &Replica,
    how: impl FnOnce(&mut Edit<'_, Template>) + Send + 'static,
) -> Id<Template> {
    let created = replica.create::<Template, _>(Author::Server(replica.me()), move |edit| {
        edit.set(Template::name, "t".to_owned());
        edit.set(Template::platform, "local".to_owned());
        how(edit);
        Ok(())
    });
    created.await.unwrap().id
}

impl World {
    /// What this server says of itself.
    pub(crate) fn server(&self) -> ServerStatus {
        let me = self.replica.me();
        self.replica.observed(Id::<Server>::from_uuid(me.0), me).unwrap_or_default()
    }

    /// Waits until something that is known here is so.
    pub(crate) async fn when<T>(&self, what: &str, wanted: impl Fn() -> Option<T>) -> T {
        let mut changes = self.replica.watch(&[]);
        let waited = async {
            loop {
                if let Some(found) = wanted() {
                    return found;
                }
                changes.next().await;
            }
        };
        timeout(BOUND, waited).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    /// A new space that is wanted to run, after those that it depends on.
    pub(crate) async fn space(
        &self,
        name: &str,
        desired: Desired,
        after: &[Id<Space>],
    ) -> Id<Space> {
        let (server, template) = (self.replica.me(), self.template);
        let (name, after) = (name.to_owned(), after.to_vec());
        let created = self.replica.create::<Space, _>(self.author, move |edit| {
            edit.set(Space::name, name);
            edit.set(Space::template, template);
            edit.set(Space::placement, Placement { term: 1, server });
            edit.set(Space::desired, desired);
            for other in &after {
                edit.insert(Space::depends_on, other);
            }
            Ok(())
        });
        created.await.unwrap().id
    }

    pub(crate) async fn want(&self, space: Id<Space>, desired: Desired) {
        let edit = self.replica.edit(space, self.author, move |edit| {
            edit.set(Space::desired, desired);
            Ok(())
        });
        edit.await.unwrap();
    }

    pub(crate) fn status(&self, space: Id<Space>) -> SpaceStatus {
        self.replica.observed(space, self.replica.me()).unwrap_or_default()
    }

    /// Waits until the space is so.
    pub(crate) async fn until(
        &self,
        space: Id<Space>,
        what: &str,
        wanted: impl Fn(&SpaceStatus) -> bool,
    ) -> SpaceStatus {
        let mut changes = self.replica.watch(&[]);
        let waited = timeout(BOUND, async {
            while !wanted(&self.status(space)) {
                changes.next().await;
            }
        });
        let waited = waited.await;
        let status = self.status(space);
        assert!(waited.is_ok(), "never: {what}; it is {status:?}");
        status
    }

    pub(crate) async fn becomes(&self, space: Id<Space>, state: Observed) -> SpaceStatus {
        self.until(space, &state.to_string(), |status| status.state == state).await
    }

    /// The home's answer, and the text behind it.
    pub(crate) async fn ask(&self, question: Question) -> (Answer, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 10);
        let answers = self.spaces.answers();
        let asked = tokio::spawn(async move { answers.answer(&question, &mut theirs).await });
        let read = async {
            let answer = wire::read_frame(&mut ours, MAX_PEER_FRAME).await.unwrap().unwrap();
            let mut text = String::new();
            ours.read_to_string(&mut text).await.unwrap();
            (answer, text)
        };
        let answer = timeout(BOUND, read).await.unwrap();
        asked.await.unwrap().unwrap();
        answer
    }

    /// Stops the home, and its spaces with it.
    pub(crate) async fn stop(self) {
        self.spaces.stop().await;
        assert_eq!(all_below(&self.data), [], "what it started runs on");
    }
}
