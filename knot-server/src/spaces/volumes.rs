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
        Some(space) if volume.is_declared(id) => volume.engine_id_since(id, space.emptied),
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
        let begun = || Volume::engine_id_of(id, space.emptied);
        let spec = VolumeSpec {
            id: known.as_ref().map_or_else(begun, |one| one.engine_id_since(id, space.emptied)),
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
    let (engine, size) = (spec.id.to_string(), spec.size);
    let there = move |status: &mut VolumeStatus| {
        let before = status.engine_id.replace(engine.clone());
        status.aside.extend(before.filter(|before| *before != engine));
        status.aside.remove(&engine);
        status.size = status.size.or(size);
        status.cause = None;
        status.lost = false;
    };
    change(home, id, there).await
}

/// What a space left on this server's engines gets names of its own: it has begun anew with others.
pub(super) async fn set_aside(home: &Home, space: &Doc<Space>) -> Result<(), EditError> {
    for volume in home.replica.list::<Volume>() {
        if volume.space != space.id() || !volume.is_declared(volume.id()) {
            continue;
        }
        let now = engine_id(volume.id(), &volume, Some(space)).to_string();
        let aside = |status: &mut VolumeStatus| {
            if let Some(before) = status.engine_id.take_if(|before| *before != now) {
                tracing::info!(volume = %volume.id(), name = before, "a volume is set aside");
                status.aside.insert(before);
            }
        };
        change(home, volume.id(), aside).await?;
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
            let found = Found::look(&home).await;
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

/// What was found on engines.
struct Found {
    /// What was written down as being there before anything was asked.
    known: BTreeSet<String>,
    /// The volumes on each engine that lists them.
    listed: BTreeMap<Platform, Vec<FoundVolume>>,
}

impl Found {
    async fn look(home: &Home) -> Self {
        let volumes = home.replica.list::<Volume>();
        let known = volumes.iter().filter_map(|volume| status(home, volume.id()).engine_id);
        let known = known.collect();
        let mut listed = BTreeMap::new();
        for (platform, driver) in home.engines.drivers() {
            match driver.list_volumes().await {
                Ok(Some(found)) => drop(listed.insert(*platform, found)),
                Ok(None) => {}
                Err(error) => tracing::debug!(%platform, %error, "volumes cannot be listed"),
            }
        }
        Self { known, listed }
    }

    /// Whether an engine lists it; `None` where it lists none.
    fn lists(&self, on: Platform, volume: Uuid) -> Option<bool> {
        Some(self.listed.get(&on)?.iter().any(|one| one.id == volume))
    }
}

/// Brings the volumes of this server to what their documents want.
async fn want(home: &Home, found: &Found) -> Result<(), EditError> {
    for volume in home.replica.list::<Volume>() {
        let id = volume.id();
        let Ok(platform) = volume.platform.parse::<Platform>() else { continue };
        let Some(driver) = home.engines.driver(platform) else { continue };
        let space = home.replica.get(volume.space).or_else(|| home.replica.remains(volume.space));
        let spec = spec(&volume, engine_id(id, &volume, space.as_deref()));
        discard(home, &volume, spec.id, &**driver).await?;
        if volume.server.uuid() != home.me.0 {
            continue;
        }
        let (known, engine) = (status(home, id), spec.id.to_string());
        let there = known.engine_id.as_ref() == Some(&engine);
        let listed = found.lists(platform, spec.id);
        if there && listed == Some(false) && found.known.contains(&engine) {
            // Of a space it is made again by the next start, which nobody should be surprised by.
            let lose = |status: &mut VolumeStatus| {
                status.cause = Some("it is not on its engine any more".to_owned());
                status.lost = true;
            };
            change(home, id, lose).await?;
        } else if !there && !volume.is_declared(id) {
            match driver.ensure_volume(&spec).await {
                Ok(()) => is_there(home, id, &spec).await?,
                Err(error) => fail(home, id, &error).await?,
            }
        } else if !there && known.aside.contains(&engine) {
            // It was set aside and is its space's again, from its next start on.
            let seen = home.engines.see(volume.space.uuid(), Some(platform));
            if listed != Some(false) && seen.is_some_and(|seen| seen.is_empty()) {
                is_there(home, id, &spec).await?;
            }
        } else if there && spec.size.is_some() && known.size != spec.size {
            let resized = driver.resize_volume(&spec).await;
            if let Err(error) = &resized {
                fail(home, id, error).await?;
            }
            let size = |status: &mut VolumeStatus| {
                status.lost = false;
                if resized.is_ok() {
                    status.size = spec.size;
                    status.cause = None;
                }
            };
            change(home, id, size).await?;
        } else if there && known.lost && listed != Some(false) {
            let find = |status: &mut VolumeStatus| {
                status.cause = None;
                status.lost = false;
            };
            change(home, id, find).await?;
        }
    }
    Ok(())
}

/// Removes what was set aside for a volume and is not wanted any more; never what is the volume now.
async fn discard(
    home: &Home,
    volume: &Doc<Volume>,
    now: Uuid,
    driver: &dyn Driver,
) -> Result<(), EditError> {
    let aside = status(home, volume.id()).aside;
    for name in aside.intersection(&volume.discard) {
        let Some(engine) = Uuid::parse_str(name).ok().filter(|engine| *engine != now) else {
            continue;
        };
        match driver.remove_volume(engine).await {
            Ok(()) => {
                tracing::info!(volume = %volume.id(), name, "what was set aside is removed");
                let removed = |status: &mut VolumeStatus| {
                    status.aside.remove(name);
                    status.cause = None;
                };
                change(home, volume.id(), removed).await?;
            }
            Err(error) => fail(home, volume.id(), &error).await?,
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
                change(home, volume.id(), is_gone).await?;
            }
            Err(error) => fail(home, volume.id(), &error).await?,
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
                change(home, id, is_gone).await?;
                home.replica.delete(id, Author::Server(home.me)).await?;
                tracing::info!(volume = %id, "a dead space's volume was removed");
            }
            Err(error) => fail(home, id, &error).await?,
        }
    }
    Ok(())
}

/// Says which volumes are on this server's engines that no document knows.
fn tell_strays(home: &Home, found: &Found) {
    let servers: BTreeSet<Uuid> =
        home.replica.list::<Server>().iter().map(|server| server.id().uuid()).collect();
    let mut strays = BTreeMap::new();
    for (platform, all) in &found.listed {
        // What another server made is that server's to tell, while it belongs.
        let ours = |one: &&FoundVolume| one.maker == home.me.0 || !servers.contains(&one.maker);
        let ours = all.iter().filter(ours);
        strays.extend(ours.map(|one| (one.id.to_string(), (platform.to_string(), &one.name))));
    }
    let volumes = home.replica.list::<Volume>();
    for volume in &volumes {
        let space = home.replica.get(volume.space).or_else(|| home.replica.remains(volume.space));
        strays.remove(&engine_id(volume.id(), volume, space.as_deref()).to_string());
    }
    // What any server has had for a volume; its own record says that of most.
    let others = servers.iter().copied().filter(|server| *server != home.me.0);
    for server in [home.me.0].into_iter().chain(others) {
        if strays.is_empty() {
            break;
        }
        for volume in &volumes {
            let status = home.replica.observed::<VolumeStatus>(volume.id(), ServerId(server));
            let status = status.unwrap_or_default();
            for name in status.engine_id.iter().chain(&status.aside) {
                strays.remove(name);
            }
        }
    }
    let strays = strays.into_values().map(|(platform, name)| (platform, name.clone()));
    home.engines.note_strays(strays.take(STRAYS).collect());
}

fn status(home: &Home, id: Id<Volume>) -> VolumeStatus {
    home.replica.observed(id, home.me).unwrap_or_default()
}

fn is_gone(status: &mut VolumeStatus) {
    status.engine_id = None;
    status.lost = false;
    status.cause = None;
}

async fn fail(
    home: &Home,
    id: Id<Volume>,
    error: &super::drivers::VolumeError,
) -> Result<(), EditError> {
    let why = with_causes(error);
    let failed = |status: &mut VolumeStatus| {
        if status.cause.as_ref() != Some(&why) {
            tracing::warn!(volume = %id, why, "a volume is not as it should be");
        }
        status.cause = Some(why);
    };
    change(home, id, failed).await
}

/// Changes this server's record of a volume as it is by then: starts of spaces write it too.
async fn change(
    home: &Home,
    id: Id<Volume>,
    how: impl FnOnce(&mut VolumeStatus),
) -> Result<(), EditError> {
    // What is written can be read again once it is committed.
    let _turn = home.volumes.lock().await;
    let before = status(home, id);
    let mut now = before.clone();
    how(&mut now);
    if now == before {
        return Ok(());
    }
    home.replica.observe(id, &now).await
}
