//! Ending instances of a space, and what is left of one that has failed, moved away or died.

use std::time::Duration;

use knot_core::{
    agent::SHUTDOWN_LIMIT,
    clock::Millis,
    model::{Observed, Space, SpaceStatus},
    replica::{Doc, EditError},
};
use tokio::time::timeout;

use super::{Done, Failure, Worker, platform};
use crate::spaces::{
    drivers::{Driver, Instance, Platform},
    logs::Kind,
    plan::{self, Cause},
    restart, volumes,
};

/// How much of a container's output is quoted in a cause, in bytes.
const QUOTED: usize = 600;
/// How much of it is kept when it ends, in bytes.
const KEPT: usize = 256 << 10;
/// How long an engine may take beyond the grace that it was given, and to say what was written.
const ENGINE: Duration = Duration::from_secs(30);

/// An instance was to be ended.
pub(in crate::spaces) struct Ending {
    /// The last line that it has written.
    pub(super) last_words: Option<String>,
    /// Whether it is gone.
    pub(in crate::spaces) outcome: Result<(), Failure>,
}

impl Worker {
    /// Ends and removes an instance; what it has written is kept.
    pub(in crate::spaces) async fn end(
        &self,
        instance: &Instance,
        status: &SpaceStatus,
        found: &[(Platform, Instance)],
    ) -> Ending {
        let on = found.iter().find(|(_, one)| one.id == instance.id).map(|(platform, _)| *platform);
        let Some(driver) = on.and_then(|platform| self.home.engines.driver(platform)) else {
            return Ending { last_words: None, outcome: Ok(()) };
        };
        let last_words = self.keep_output(&**driver, instance).await;
        let outcome = self.bring_down(&**driver, instance, status).await;
        Ending { last_words, outcome }
    }

    async fn bring_down(
        &self,
        driver: &dyn Driver,
        instance: &Instance,
        status: &SpaceStatus,
    ) -> Result<(), Failure> {
        let mut grace = self.home.options.stop_grace;
        if status.has_shutdown {
            grace = grace.saturating_add(SHUTDOWN_LIMIT);
        }
        let limit = grace.saturating_add(ENGINE);
        match timeout(limit, driver.stop(instance, grace)).await {
            Ok(stopped) => stopped.map(drop)?,
            Err(_) => {
                let seconds = limit.as_secs();
                return Err(Failure(format!("its engine had not done so after {seconds} s")));
            }
        }
        self.home.engines.note(driver.platform(), instance, false);
        Ok(())
    }

    /// Keeps what a container has written, and gives its last words.
    async fn keep_output(&self, driver: &dyn Driver, instance: &Instance) -> Option<String> {
        let output = timeout(ENGINE, driver.logs(instance, KEPT)).await.ok()?.ok()?;
        let log =
            self.home.logs.replace(self.space.uuid(), instance.labels.generation, Kind::Container);
        log.write(&output);
        let last = output.get(output.len().saturating_sub(QUOTED)..).unwrap_or_default();
        let last = String::from_utf8_lossy(last);
        let line = last.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    }

    pub(super) async fn fail(
        &self,
        cause: Cause,
        status: SpaceStatus,
        found: &[(Platform, Instance)],
    ) -> Result<(), EditError> {
        let mut why = describe(&cause, &status);
        if cause.ends() {
            for (_, instance) in found {
                let Ending { last_words, outcome } = self.end(instance, &status, found).await;
                if let Some(last) = last_words.filter(|_| cause.is_crash()) {
                    why.push_str(&format!(" (its last words: {last})"));
                }
                if let Err(Failure(error)) = outcome {
                    why.push_str(&format!("; it could not be removed: {error}"));
                }
            }
        }
        let space = self.home.replica.get(self.space);
        let template = space.and_then(|space| self.home.replica.get(space.template));
        let allowed = template.and_then(|template| template.health_restarts).unwrap_or(0);
        let (retry, then) = restart::after(&cause, &status, allowed, Millis::now());
        why.push_str(&then);
        tracing::warn!(space = %self.space, why, "a space failed");
        let generation = match cause {
            Cause::WaitedFor(generation, _) => generation,
            _ => status.generation,
        };
        let status = SpaceStatus { generation, retry, note: None, ..status };
        self.write(SpaceStatus { state: Observed::Failed, cause: Some(why), ..status }).await
    }

    /// Sets aside what the space left here before it began anew elsewhere, or here.
    pub(super) async fn put_aside(
        &mut self,
        space: &Doc<Space>,
        status: &SpaceStatus,
    ) -> Result<Done, EditError> {
        volumes::set_aside(&self.home, space).await?;
        if let Some(driver) = platform(&status.driver).and_then(|on| self.home.engines.driver(on)) {
            let before = status.generation.term;
            if let Err(error) = driver.set_aside(self.space.uuid(), before).await {
                tracing::warn!(space = %self.space, %error, "what a space left here is not set aside");
                return Ok(Done::TryAgain);
            }
        }
        self.set_aside = Some(space.emptied);
        Ok(Done::Done)
    }

    pub(super) async fn forget(&self, status: SpaceStatus) -> Result<(), EditError> {
        if let Ok(driver) = self.driver(&status.driver)
            && let Err(error) = driver.forget(self.space.uuid()).await
        {
            // A folder that stays is named, and costs no more than room.
            tracing::warn!(space = %self.space, %error, "a dead space left something behind");
        }
        self.home.logs.forget(self.space.uuid());
        self.home.usages.forget(self.space.uuid());
        self.write(SpaceStatus { state: Observed::Gone, cause: None, ..status }).await
    }
}

/// Why a space has failed, for people.
fn describe(cause: &Cause, status: &SpaceStatus) -> String {
    match cause {
        Cause::Ended(how) => format!("its container {how}"),
        Cause::Vanished => "its container is gone, and not by this server's doing".to_owned(),
        Cause::NoAgent => format!(
            "its agent did not reach a server within {} s: can the container reach the servers' QUIC \
             addresses?",
            plan::link_deadline(status).as_secs()
        ),
        Cause::Unwell(words) => format!("its health check fails: {words}"),
        Cause::Startup(how) => format!("its startup script failed: {how}"),
        Cause::SlowStartup => "its startup script did not end in time".to_owned(),
        Cause::Blind => format!(
            "the engine for platform `{}` did not answer for {} s",
            status.driver,
            plan::ENGINE_DEADLINE.as_secs()
        ),
        Cause::CannotStop => {
            let last = status.cause.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let minutes = plan::STOP_DEADLINE.as_secs() / 60;
            format!("its container was not gone after {minutes} min{last}")
        }
        Cause::WaitedFor(_, spaces) => format!(
            "it has to wait for {}, and did for {} min: start what it needs first",
            spaces.join(", "),
            plan::DEPENDENCY_DEADLINE.as_secs() / 60
        ),
    }
}
