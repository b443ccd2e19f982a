//! Secrets: who can open them, and what follows when a server is lost.

use knot_core::{
    id::Id,
    model::SessionKey,
    net::Standing,
    replica::Replica,
    schema::Edit,
    secrets::{Keyring, Place, Sealed, remove_server},
};

use crate::world::{BOUND, Node, Vault, cluster, eventually, invite, join_with, note};

fn place(id: Id<Vault>) -> Place<'static> {
    Place { doc: id.into(), field: "secret" }
}

async fn put(keyring: &Keyring, replica: &Replica, id: Id<Vault>, secret: &str) -> Sealed {
    let sealed = keyring.seal(place(id), secret.as_bytes()).unwrap();
    let (author, value) = (knot_core::id::Author::Server(replica.me()), sealed.clone());
    let edit = replica.edit(id, author, move |vault: &mut Edit<'_, Vault>| {
        vault.set(Vault::secret, value);
        Ok(())
    });
    edit.await.unwrap();
    sealed
}

fn read(node: &Node, id: Id<Vault>) -> Option<String> {
    let sealed = node.replica.get(id)?.secret.clone();
    let plain = node.keyring().open(place(id), &sealed).ok()?;
    plain.expose_text().map(str::to_owned)
}

async fn reads(node: &Node, id: Id<Vault>, secret: &str) {
    let what = format!("{} reads `{secret}`", node.address);
    eventually(&what, || async { (read(node, id).as_deref() == Some(secret)).then_some(()) }).await;
}

/// `rekey-against-edit`: A re-keys while B, cut off, sets a sealed variable.
#[tokio::test]
async fn rekey_against_edit() {
    let [a, b] = cluster().await;
    let id = note(&a.replica, a.author(), "a vault").await;
    b.has_heard_of("a vault").await;
    let old = b.keyring().newest_key().unwrap();
    let b = b.cut_off().await;
    let new = a.keyring().add_key(a.author()).await.unwrap().id;
    let keyring = Keyring::new(b.replica.clone(), b.identity.sealing.clone());
    assert_eq!(put(&keyring, &b.replica, id, "set in the dark").await.key(), old);
    let b = b.heal().await;
    reads(&a, id, "set in the dark").await;
    reads(&b, id, "set in the dark").await;
    // The next edit takes the new key, wherever it is made; until then the value is under the old.
    assert_eq!(a.keyring().sealed_with(&[old].into()), [(id.into(), "secret".to_owned())]);
    a.replica.wait_until_equal(b.identity.server, BOUND).await.unwrap();
    assert_eq!(put(b.keyring(), &b.replica, id, "set again").await.key(), new);
    reads(&a, id, "set again").await;
    assert_eq!(a.keyring().sealed_with(&[old].into()), []);
}

#[tokio::test]
async fn two_rekeys_at_once_leave_both_keys_and_one_newest() {
    let [a, b] = cluster().await;
    let b = b.cut_off().await;
    let keyring = Keyring::new(b.replica.clone(), b.identity.sealing.clone());
    let first = a.keyring().add_key(a.author()).await.unwrap().id;
    let second = keyring.add_key(b.author()).await.unwrap().id;
    let b = b.heal().await;
    a.replica.wait_until_equal(b.identity.server, BOUND).await.unwrap();
    // Both have the same number: the id decides.
    assert_eq!(a.keyring().newest_key(), Some(first.max(second)));
    assert_eq!(b.keyring().newest_key(), Some(first.max(second)));
}

#[tokio::test]
async fn a_newcomer_opens_what_was_sealed_before_it_came_and_a_key_made_without_it() {
    let [a, b] = cluster().await;
    let id = note(&a.replica, a.author(), "a vault").await;
    put(a.keyring(), &a.replica, id, "from before").await;
    // A re-keys without having heard of the newcomer: whoever meets both shares the key.
    a.replica.wait_until_equal(b.identity.server, BOUND).await.unwrap();
    let a = a.cut_off().await;
    let token = invite(&b).await;
    let c = join_with(&b, &token, "three").await;
    reads(&c, id, "from before").await;
    let keyring = Keyring::new(a.replica.clone(), a.identity.sealing.clone());
    let new = keyring.add_key(a.author()).await.unwrap().id;
    let unheard = a.replica.get(new).unwrap();
    assert!(!unheard.wrapped.contains_key(&c.identity.sealing.public()));
    put(&keyring, &a.replica, id, "under the new key").await;
    let a = a.heal().await;
    reads(&c, id, "under the new key").await;
    reads(&a, id, "under the new key").await;
}

/// `stolen-session`: the removed server R signs itself a session.
#[tokio::test]
async fn stolen_session() {
    let [a, b, r] = cluster().await;
    let id = note(&r.replica, r.author(), "a vault").await;
    a.has_heard_of("a vault").await;
    put(a.keyring(), &a.replica, id, "r could read this").await;
    a.replica.wait_until_equal(b.identity.server, BOUND).await.unwrap();
    // R has what it needs to sign, and A and B would take it.
    let signed_with = r.sessions().newest().unwrap();
    for node in [&a, &b] {
        let known = node.sessions().living(signed_with.id).unwrap();
        assert_eq!(known.secret, signed_with.secret);
    }
    let r = r.cut_off().await;
    let removal = remove_server(&a.sessions(), r.id(), true, a.author()).await.unwrap();
    assert_eq!(removal.sessions_retired, 1);
    assert_eq!(removal.exposed, [(id.into(), "secret".to_owned())]);
    for node in [&a, &b] {
        eventually("the session key is retired", || async {
            node.sessions().living(signed_with.id).is_none().then_some(())
        })
        .await;
        let fresh = eventually("there is a new one", || async { node.sessions().newest() }).await;
        assert_ne!(fresh.id, signed_with.id);
        // And R could not open it if it had it.
        let document = node.replica.get::<SessionKey>(fresh.id).unwrap();
        let key = node.replica.get(document.key.key()).unwrap();
        assert!(!key.wrapped.contains_key(&r.identity.sealing.public()));
    }
    let r = r.heal().await;
    r.is_told(Standing::Removed).await;
    // What is changed now is out of its reach.
    put(b.keyring(), &b.replica, id, "changed since").await;
    reads(&a, id, "changed since").await;
    assert_eq!(a.keyring().sealed_with(&a.keyring().openable_by(r.id())), []);
}
