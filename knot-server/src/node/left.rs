//! What a server that was killed has left running on this machine: ended in its place.

use std::time::Duration;

use futures_util::future::join_all;
use knot_core::{
    clock::Millis,
    id::Id,
    model::{Observed, Space, SpaceStatus},
    net::identity::Identity,
    replica::Replica,
};
use tokio::time::timeout;

use super::{open, own_drivers};
use crate::{
    config::Config,
    spaces::drivers::{Driver, Instance, Platform},
};

/// How long an engine may take to say what is on it, and to end an instance beyond its grace.
const ENGINE: Duration = Duration::from_secs(10);

/// Ends what runs for the server of a data folder, and writes down that it has stopped. What is wanted of the spaces
/// stays as it is. Of a folder that a server runs on nothing is touched: its database is in use.
///
/// # Errors
/// The folder's database cannot be opened, or something could not be ended; all else is.
pub(crate) async fn end_what_is_left(config: &Config) -> Result<(), String> {
    let identity = Identity::load(&config.data).map_err(|error| error.to_string())?;
    let (service, replica) = open(config, &identity).map_err(|error| error.to_string())?;
    let drivers = own_drivers(config, &identity, &replica).into_iter();
    // Others see what is on an engine that servers share, and what was started by hand is ended by hand.
    let here = |on: Platform| matches!(on, Platform::Local | Platform::Docker | Platform::Podman);
    let mut failed = Ok(());
    for driver in drivers.filter(|driver| here(driver.platform())) {
        // An engine that does not answer runs nothing that could be reached.
        let Ok(Ok(found)) = timeout(ENGINE, driver.list()).await else { continue };
        let ends = found.iter().map(|instance| end(&*driver, instance, config, &replica));
        failed = join_all(ends).await.into_iter().fold(failed, Result::and);
    }
    service.stop().await;
    failed
}

async fn end(
    driver: &dyn Driver,
    instance: &Instance,
    config: &Config,
    replica: &Replica,
) -> Result<(), String> {
    let grace = config.spaces.stop_grace;
    let stopped = timeout(grace.saturating_add(ENGINE), driver.stop(instance, grace)).await;
    stopped
        .map_err(|_| "its engine took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    let space = Id::<Space>::from_uuid(instance.labels.space);
    let Some(status) = replica.observed::<SpaceStatus>(space, replica.me()) else { return Ok(()) };
    let status = SpaceStatus {
        state: Observed::Stopped,
        cause: None,
        health: None,
        retry: None,
        restarts: 0,
        since: Millis::now(),
        ..status
    };
    replica.observe(space, &status).await.map_err(|error| error.to_string())
}
