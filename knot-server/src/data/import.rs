//! Bringing in what another data folder of the cluster holds.

use std::{collections::BTreeMap, path::Path};

use knot_core::{
    id::Id,
    model::Server,
    net::identity::{self, Identity},
    replica::Replica,
    store::sqlite::SqliteStore,
};

use super::Import;
use crate::{causes::with_causes, node::DATABASE};

/// Brings in, by union, what `folder` holds, which is another data folder of the cluster.
///
/// # Errors
/// It is no such folder, or cannot be read. What had been brought in before a failure stays.
pub(super) async fn import(
    identity: &Identity,
    replica: &Replica,
    data: &Path,
    folder: &Path,
) -> Result<Import, String> {
    check(identity, data, folder)?;
    let database = folder.join(DATABASE);
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&database)).await;
    let opened = opened.map_err(|error| error.to_string())?;
    let other = opened.map_err(|error| with_causes(&error))?;
    let before = servers(replica);
    let done = replica.import(Box::new(other)).await.map_err(|error| with_causes(&error))?;
    let after = servers(replica);
    let removed = before.into_iter().filter(|(id, _)| !after.contains_key(id));
    let removed: Vec<_> = removed.map(|(_, name)| name).collect();
    tracing::info!(
        folder = %folder.display(),
        documents = done.documents,
        changed = done.changed,
        deleted = done.deleted,
        damaged = done.damaged,
        ?removed,
        "another data folder was brought in"
    );
    let (documents, changed) = (done.documents, done.changed);
    Ok(Import { documents, changed, deleted: done.deleted, damaged: done.damaged, removed })
}

fn servers(replica: &Replica) -> BTreeMap<Id<Server>, String> {
    let servers = replica.list::<Server>();
    servers.iter().map(|server| (server.id(), server.name.clone())).collect()
}

fn check(identity: &Identity, data: &Path, folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let real = |path: &Path| {
        let failed = |error| format!("{} cannot be read: {error}", path.display());
        path.canonicalize().map_err(failed)
    };
    if real(folder)? == real(data)? {
        return Err(format!("{shown} is this server's own data folder: it holds that already"));
    }
    let other = Identity::load(folder).map_err(|error| match error {
        identity::Error::Missing(_) => format!(
            "{shown} holds no `identity`, which says of which cluster a database is: put the one \
             that the database was used with beside it"
        ),
        error => with_causes(&error),
    })?;
    if other.cluster != identity.cluster {
        return Err(format!(
            "{shown} is of another cluster: only what belongs to this one can be brought in"
        ));
    }
    // Opening one that is not there would make it.
    if !folder.join(DATABASE).exists() {
        return Err(format!("{shown} holds no database ({DATABASE})"));
    }
    Ok(())
}
