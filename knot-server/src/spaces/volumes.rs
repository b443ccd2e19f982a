//! Volumes on this server's engines: made for the spaces that start here and for users, set aside when
//! a space goes on elsewhere without them, and removed when they are no longer wanted.
//!
//! A volume is removed by the server whose engine holds it: that of the last home of a dead space, or
//! the one that a user chose. What was set aside stays until somebody names it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use knot_core::{
    clock::Millis,
    id::{Author, Id, ServerId},
    model::{Observed, Server, Space, SpaceStatus, Template, Volume, VolumeStatus},
    replica::{Doc, EditError},
    schema::Entity as _,
};
use uuid::Uuid;

use super::{
    drivers::{Driver, FoundVolume, Mount, Platform, VolumeSpec},
    engines,
    worker::{Failure, Home},
};
use crate::causes::with_causes;

/// How often engines and documents are compared, beside each time that a volume's document changes.
const SWEEP: Duration = Duration::from_secs(10);
/// Changes of volumes that come closer together than this are looked at together.
const GAP: Duration = Duration::from_millis(200);
/// How many volumes without a document are told of.
const STRAYS: usize = 64;

/// The id that a volume's engine knows it by.
pub(crate) fn engine_id(id: Id<Volume>, volume: &Volume, space: Option<&Space>) -> Uuid {
    volume.engine.unwrap_or_else(|| match space {
        Some(space) if volume.is_declared(id) => Volume::engine_id_of(id, space.emptied),
        _ => id.uuid(),
    })
}

/// The volumes of a space that starts here, made where they are not there yet: those that its template
/// declares, and those that its users have attached.
pub(super) async fn mounts(
    home: &Home,
    space: &Doc<Space>,
    template: &Template,
    driver: &dyn Driver,
) -> Result<Vec<Mount>, Failure> {
    let mut mounts = Vec::new();
    for (name, path) in &template.volumes {
        let id = Volume::id_of(space.id(), name);
        let known = home.replica.get(id);
        let asked = known.as_ref().and_then(|volume| volume.size);
        let spec = VolumeSpec {
            id: Volume::engine_id_of(id, space.emptied),
            name: name.clone(),
            size: asked.or_else(|| template.volume_sizes.get(name).copied()),
            kind: template.volume_kinds.get(name).cloned(),
        };
        driver.ensure_volume(&spec).await?;
        let (volume, owner, of, me) = (name.clone(), space.owner, space.id(), home.me);
        let (on, size) = (template.platform.clone(), spec.size);
        // Later on it is its user's to say.
        let keep = known.is_none() && template.volume_keeps.contains(name);
        let put = home.replica.put(id, Author::Server(me), move |edit| {
            edit.set(Volume::name, volume);
            edit.set(Volume::space, of);
            edit.set(Volume::owner, owner);
            edit.set(Volume::platform, on);
            edit.set(Volume::server, Id::from_uuid(me.0));
            if edit.size != size {
                edit.set(Volume::size, size);
            }
            if keep {
                edit.set(Volume::keep, true);
            }
            Ok(())
        });
        put.await?;
        is_there(home, id, &spec).await?;
        mounts.push(Mount { volume: spec, path: path.clone() });
    }
    for volume in home.replica.list::<Volume>() {
        if volume.space == space.id() && !volume.is_declared(volume.id()) {
            let spec = attached(home, &volume, template)?;
            driver.ensure_volume(&spec).await?;
            is_there(home, volume.id(), &spec).await?;
            mounts.push(Mount { volume: spec, path: volume.path.clone() });
        }
    }
    Ok(mounts)
}

/// A volume that a user has attached, if it can be.
fn attached(home: &Home, volume: &Doc<Volume>, template: &Template) -> Result<VolumeSpec, Failure> {
    let name = &volume.name;
    let server = ServerId(volume.server.uuid());
    if server != home.me && !engines::are_one(&home.replica, &volume.platform, server, home.me) {
        let server = home.replica.get(volume.server);
        let server = server.map_or_else(|| volume.server.to_string(), |one| one.name.clone());
        return Err(Failure(format!(
            "the volume {name} that is attached to it is on server {server}: detach it, or move the \
             space there"
        )));
    }
    if volume.platform != template.platform {
        return Err(Failure(format!(
            "the volume {name} that is attached to it is of platform {}, and its template of {}: \
             detach it",
            volume.platform, template.platform
        )));
    }
    Ok(spec(volume, engine_id(volume.id(), volume, None)))
}

fn spec(volume: &Volume, id: Uuid) -> VolumeSpec {
    let kind = Some(volume.volume_kind.clone()).filter(|kind| !kind.is_empty());
    VolumeSpec { id, name: volume.name.clone(), size: volume.size, kind }
}

/// Writes down that a volume is on the engine. One that was here for it before is set aside.
async fn is_there(home: &Home, id: Id<Volume>, spec: &VolumeSpec) -> Result<(), EditError> {
    let engine = spec.id.to_string();
    let mut status = status(home, id);
    let before = status.engine_id.replace(engine.clone());
    status.aside.extend(before.filter(|before| *before != engine));
    status.aside.remove(&engine);
    status.size = status.size.or(spec.size);
    status.cause = None;
    status.lost = false;
    write(home, id, status).await
}

/// What a space left on this server's engines gets names of its own: it has begun anew with others.
pub(super) async fn set_aside(home: &Home, space: &Doc<Space>) -> Result<(), EditError> {
    for volume in home.replica.list::<Volume>() {
        if volume.space != space.id() || !volume.is_declared(volume.id()) {
            continue;
        }
        let now = engine_id(volume.id(), &volume, Some(space)).to_string();
        let mut status = status(home, volume.id());
        if let Some(before) = status.engine_id.take_if(|before| *before != now) {
            tracing::info!(volume = %volume.id(), name = before, "a volume is set aside");
            status.aside.insert(before);
            write(home, volume.id(), status).await?;
        }
    }
    Ok(())
}

/// Makes, resizes and removes what users ask for, until the server stops.
pub(super) async fn keep(home: Arc<Home>) {
    let mut changes = home.replica.watch(&[Volume::KIND]);
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = home.stop.cancelled() => return,
            _ = ticks.tick() => {}
            _ = changes.next() => {}
        }
        let look = async {
            tokio::time::sleep(GAP).await;
            while changes.try_next().is_some() {}
            if home.trusted.now() == super::trust::Trust::Restored {
                return Ok(());
            }
            let found = found(&home).await;
            want(&home, &found).await?;
            remove_dead(&home).await?;
            sweep(&home).await?;
            tell_strays(&home, &found);
            Ok::<_, EditError>(())
        };
        if let Some(Err(error)) = home.stop.run_until_cancelled(look).await {
            tracing::error!(%error, "what was done to volumes could not be written down");
        }
    }
}

/// The volumes on each engine that lists them.
async fn found(home: &Home) -> BTreeMap<Platform, Vec<FoundVolume>> {
    let mut all = BTreeMap::new();
    for (platform, driver) in home.engines.drivers() {
        match driver.list_volumes().await {
            Ok(Some(found)) => drop(all.insert(*platform, found)),
            Ok(None) => {}
            Err(error) => tracing::debug!(%platform, %error, "volumes cannot be listed"),
        }
    }
    all
}

/// Brings the volumes of this server to what their documents want.
async fn want(home: &Home, found: &BTreeMap<Platform, Vec<FoundVolume>>) -> Result<(), EditError> {
    for volume in home.replica.list::<Volume>() {
        let id = volume.id();
        let Ok(platform) = volume.platform.parse::<Platform>() else { continue };
        let Some(driver) = home.engines.driver(platform) else { continue };
        discard(home, &volume, &**driver).await?;
        if volume.server.uuid() != home.me.0 {
            continue;
        }
        let space = home.replica.get(volume.space).or_else(|| home.replica.remains(volume.space));
        let spec = spec(&volume, engine_id(id, &volume, space.as_deref()));
        let known = status(home, id);
        let there = known.engine_id == Some(spec.id.to_string());
        let lists = found.get(&platform);
        let lost = lists.is_some_and(|all| all.iter().all(|one| one.id != spec.id));
        if there && lost {
            // Of a space it is made again by the next start, which nobody should be surprised by.
            let cause = Some("it is not on its engine any more".to_owned());
            write(home, id, VolumeStatus { cause, lost, ..known }).await?;
        } else if !there && !volume.is_declared(id) {
            match driver.ensure_volume(&spec).await {
                Ok(()) => is_there(home, id, &spec).await?,
                Err(error) => fail(home, id, known, &error).await?,
            }
        } else if there && spec.size.is_some() && known.size != spec.size {
            match driver.resize_volume(&spec).await {
                Ok(()) => {
                    let size = spec.size;
                    let status = VolumeStatus { size, cause: None, lost, ..known };
                    write(home, id, status).await?;
                }
                Err(error) => fail(home, id, VolumeStatus { lost, ..known }, &error).await?,
            }
        } else if there && known.lost {
            write(home, id, VolumeStatus { cause: None, lost, ..known }).await?;
        }
    }
    Ok(())
}

/// Removes what was set aside for a volume and is not wanted any more.
async fn discard(home: &Home, volume: &Doc<Volume>, driver: &dyn Driver) -> Result<(), EditError> {
    let mut known = status(home, volume.id());
    let asked: Vec<_> = known.aside.intersection(&volume.discard).cloned().collect();
    for name in asked {
        let Ok(engine) = Uuid::parse_str(&name) else { continue };
        match driver.remove_volume(engine).await {
            Ok(()) => {
                tracing::info!(volume = %volume.id(), name, "what was set aside is removed");
                known.aside.remove(&name);
                write(home, volume.id(), known.clone()).await?;
            }
            Err(error) => fail(home, volume.id(), known.clone(), &error).await?,
        }
    }
    Ok(())
}

/// Removes the volumes whose documents a user has deleted.
async fn remove_dead(home: &Home) -> Result<(), EditError> {
    for volume in home.replica.all_remains::<Volume>() {
        let known = status(home, volume.id());
        let Some(engine) = known.engine_id.as_ref().and_then(|id| Uuid::parse_str(id).ok()) else {
            continue;
        };
        let driver = volume.platform.parse().ok().and_then(|one| home.engines.driver(one));
        let Some(driver) = driver.filter(|_| volume.server.uuid() == home.me.0) else { continue };
        match driver.remove_volume(engine).await {
            Ok(()) => {
                tracing::info!(volume = %volume.id(), "a deleted volume is removed");
                write(home, volume.id(), VolumeStatus { engine_id: None, lost: false, ..known })
                    .await?;
            }
            Err(error) => fail(home, volume.id(), known, &error).await?,
        }
    }
    Ok(())
}

/// The volumes of spaces that have been gone for the grace: those that are kept, and those that a user
/// made, belong to no space from now on; the others go.
async fn sweep(home: &Home) -> Result<(), EditError> {
    for volume in home.replica.list::<Volume>() {
        let Some(grave) = home.replica.grave(volume.space) else { continue };
        let space = home.replica.remains(volume.space);
        let last = space.as_ref().map(|space| space.placement.server);
        // Of a space of which nothing is left, the server that the volume names.
        if last.unwrap_or(ServerId(volume.server.uuid())) != home.me {
            continue;
        }
        let gone = home.replica.observed::<SpaceStatus>(volume.space, home.me);
        let gone = gone.filter(|status| status.state == Observed::Gone);
        let since = gone.map_or(grave.at, |status| status.since);
        if since.plus(home.options.volume_grace) > Millis::now() {
            continue;
        }
        let (id, engine) = (volume.id(), engine_id(volume.id(), &volume, space.as_deref()));
        let mine = volume.server.uuid() == home.me.0;
        if volume.keep || !volume.is_declared(id) {
            home.replica
                .edit(id, Author::Server(home.me), move |edit| {
                    edit.set(Volume::engine, Some(engine));
                    edit.set(Volume::space, Id::default());
                    Ok(())
                })
                .await?;
            continue;
        }
        let driver = volume.platform.parse().ok().and_then(|one| home.engines.driver(one));
        let Some(driver) = driver.filter(|_| mine || volume.server.uuid().is_nil()) else {
            continue;
        };
        match driver.remove_volume(engine).await {
            Ok(()) => {
                let known = status(home, id);
                write(home, id, VolumeStatus { engine_id: None, lost: false, ..known }).await?;
                home.replica.delete(id, Author::Server(home.me)).await?;
                tracing::info!(volume = %id, "a dead space's volume was removed");
            }
            Err(error) => fail(home, id, status(home, id), &error).await?,
        }
    }
    Ok(())
}

/// Says which volumes are on this server's engines that no document knows.
fn tell_strays(home: &Home, found: &BTreeMap<Platform, Vec<FoundVolume>>) {
    let servers: BTreeSet<Uuid> =
        home.replica.list::<Server>().iter().map(|server| server.id().uuid()).collect();
    let mut known = BTreeSet::new();
    for volume in home.replica.list::<Volume>() {
        let space = home.replica.get(volume.space).or_else(|| home.replica.remains(volume.space));
        known.insert(engine_id(volume.id(), &volume, space.as_deref()).to_string());
        for server in &servers {
            let status: Option<VolumeStatus> =
                home.replica.observed(volume.id(), ServerId(*server));
            let status = status.unwrap_or_default();
            known.extend(status.engine_id.into_iter().chain(status.aside));
        }
    }
    let strays = found.iter().flat_map(|(platform, all)| {
        // What another server made is that server's to tell, while it belongs.
        let ours = |one: &&FoundVolume| one.maker == home.me.0 || !servers.contains(&one.maker);
        let all = all.iter().filter(ours).filter(|one| !known.contains(&one.id.to_string()));
        all.map(|one| (platform.to_string(), one.name.clone()))
    });
    home.engines.note_strays(strays.take(STRAYS).collect());
}

fn status(home: &Home, id: Id<Volume>) -> VolumeStatus {
    home.replica.observed(id, home.me).unwrap_or_default()
}

async fn fail(
    home: &Home,
    id: Id<Volume>,
    known: VolumeStatus,
    error: &super::drivers::VolumeError,
) -> Result<(), EditError> {
    let why = with_causes(error);
    if known.cause.as_ref() != Some(&why) {
        tracing::warn!(volume = %id, why, "a volume is not as it should be");
    }
    write(home, id, VolumeStatus { cause: Some(why), ..known }).await
}

async fn write(home: &Home, id: Id<Volume>, status: VolumeStatus) -> Result<(), EditError> {
    if home.replica.observed(id, home.me) == Some(status.clone()) {
        return Ok(());
    }
    home.replica.observe(id, &status).await
}
