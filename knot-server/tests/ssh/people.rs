//! Other people: users of the cluster who are no admins. Nothing but a server makes these, so they are written into
//! another data folder of the cluster, and brought in from there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use knot_core::{
    id::{Author, Id, ServerId},
    model::{self, User},
    net::{KeyPair, identity::Identity},
    replica::{Replica, Service},
    store::sqlite::SqliteStore,
};
use uuid::Uuid;

use crate::{
    client::Client,
    world::{describe, knot_server, path},
};

/// Another folder of the cluster, and who was made there.
pub(crate) struct People {
    aside: PathBuf,
    made: BTreeMap<&'static str, Id<User>>,
}

impl People {
    pub(crate) fn of(client: &Client) -> Self {
        let aside = client.folder.join("aside");
        std::fs::create_dir(&aside).unwrap();
        let server = ServerId(Uuid::now_v7());
        let key = Arc::new(KeyPair::generate().unwrap());
        let first = Identity::load(&client.world.data(1)).unwrap();
        Identity { server, key, ..first }.save(&aside).unwrap();
        Self { aside, made: BTreeMap::new() }
    }

    /// Makes a user who has the key `NAME.pub` of the client's folder.
    pub(crate) fn make(&mut self, client: &Client, name: &'static str) {
        let (fingerprint, line) = key(&client.folder.join(format!("{name}.pub")));
        let made = self.change(client, async move |replica, author| {
            let made = replica.create::<User, _>(author, move |user| {
                user.set(User::name, name.to_owned());
                user.put(User::keys, &fingerprint, line);
                Ok(())
            });
            made.await.unwrap().id
        });
        self.made.insert(name, made);
    }

    /// Takes the user's key away.
    pub(crate) fn take_key(&self, client: &Client, name: &str) {
        let (fingerprint, _) = key(&client.folder.join(format!("{name}.pub")));
        let id = self.made[name];
        self.change(client, async move |replica, author| {
            let taken = replica.edit(id, author, move |user| {
                user.take(User::keys, &fingerprint);
                Ok(())
            });
            taken.await.unwrap();
        });
    }

    pub(crate) fn remove(&self, client: &Client, name: &str) {
        let id = self.made[name];
        self.change(client, async move |replica, author| {
            replica.delete(id, author).await.unwrap();
        });
    }

    fn change<T>(&self, client: &Client, change: impl AsyncFnOnce(&Replica, Author) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let done = runtime.block_on(async {
            let me = Identity::load(&self.aside).unwrap().server;
            let store = SqliteStore::open(&self.aside.join("knot.db")).unwrap();
            let (service, replica) = Service::start(me, model::schema(), Box::new(store)).unwrap();
            let done = change(&replica, Author::Server(me)).await;
            service.stop().await;
            done
        });
        let data = client.world.data(1);
        let brought = knot_server(&["import", path(&self.aside), "--data", path(&data)]);
        assert!(brought.status.success(), "{}", describe(&brought));
        done
    }
}

/// The fingerprint of a public key and its line.
fn key(file: &Path) -> (String, String) {
    let shown = Command::new("ssh-keygen").args(["-l", "-f"]).arg(file).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let fingerprint = shown.split(' ').nth(1).unwrap().to_owned();
    (fingerprint, std::fs::read_to_string(file).unwrap().trim().to_owned())
}
