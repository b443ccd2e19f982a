//! What a home does to a space of its own accord: follows its schedule, stops it when nobody has used
//! it for long enough, and when it has run for as long as it may. A pure function.
//!
//! A schedule acts at its edges, once each. How far it was followed stands in the space's record, so a
//! home that was away acts on the last edge that fell in its absence, and on none that it had acted on
//! before. A stop is for generations that were begun before it: a space that somebody starts out of
//! hours runs until the next edge. Another schedule, or time zone, is followed from when the home
//! first sees it.

use std::time::Duration;

use knot_core::{
    agent::Report,
    clock::Millis,
    model::{Desired, Observed, ScheduleMark, Space, SpaceStatus, Template},
};

use super::schedule::{Edge, Schedule};

/// Everything that it depends on.
#[derive(Clone, Debug)]
pub struct World<'a> {
    /// The space.
    pub space: &'a Space,
    /// The home's record of it.
    pub status: &'a SpaceStatus,
    /// Its template, where it lives.
    pub template: Option<&'a Template>,
    /// The time zone of its owner.
    pub zone: &'a str,
    /// What the agent of the running generation last reported.
    pub report: Option<&'a Report>,
    /// The time on the home's clock.
    pub now: Millis,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing, until this time.
    Wait(Option<Millis>),
    /// Write down how far the schedule was followed.
    Mark(Option<ScheduleMark>),
    /// Want the space not to run, say why, and write down how far the schedule was followed.
    Stop(String, Option<ScheduleMark>),
    /// Want it to run, likewise.
    Start(String, Option<ScheduleMark>),
}

/// Says what to do.
pub fn decide(world: &World<'_>) -> Act {
    let World { space, status, template, now, .. } = *world;
    let Some(template) = template else { return Act::Wait(None) };
    let schedule = Schedule::new(&template.schedule, world.zone);
    let (last, next) = schedule.as_ref().map(|one| one.around(now)).unwrap_or_default();
    if let Some(act) = follow(world, template, schedule.as_ref(), last) {
        return act;
    }
    let mark = status.schedule.clone();
    let mut next = next.map(|edge| edge.at);
    if space.desired == Desired::Running && is_up(status) {
        if let Some(most) = template.max_uptime.filter(|most| *most > 0) {
            let until = status.started.plus(Duration::from_secs(most));
            if until <= now {
                let why =
                    format!("stopped after it had run for {}, the most that it may", span(most));
                return Act::Stop(why, mark);
            }
            next = Some(next.map_or(until, |next| next.min(until)));
        }
        if let (Some(limit), Some(report)) =
            (template.idle_stop.filter(|most| *most > 0), world.report)
            && status.state == Observed::Running
            && report.idle >= limit
        {
            return Act::Stop(format!("stopped after {} without use", span(limit)), mark);
        }
    }
    Act::Wait(next)
}

/// What the schedule, whose last edge this is, wants done now, if anything.
fn follow(
    world: &World<'_>,
    template: &Template,
    schedule: Option<&Schedule>,
    last: Option<Edge>,
) -> Option<Act> {
    let World { space, status, now, .. } = *world;
    let Some(schedule) = schedule else {
        return status.schedule.as_ref().map(|_| Act::Mark(None));
    };
    let rule = schedule.text().to_owned();
    let seen = match &status.schedule {
        Some(mark) if mark.rule == rule => mark.seen,
        _ => return Some(Act::Mark(Some(ScheduleMark { rule, seen: now }))),
    };
    let edge = last.filter(|edge| edge.at > seen)?;
    let mark = Some(ScheduleMark { rule, seen: edge.at });
    let runs = space.desired == Desired::Running
        && (is_up(status) || status.retry.is_some())
        && status.started <= edge.at;
    let starts = space.desired == Desired::Stopped && template.schedule_starts;
    Some(match edge.begins {
        true if starts => Act::Start("started by its schedule".to_owned(), mark),
        false if runs => Act::Stop("stopped by its schedule".to_owned(), mark),
        _ => Act::Mark(mark),
    })
}

fn is_up(status: &SpaceStatus) -> bool {
    matches!(status.state, Observed::Provisioning | Observed::Starting | Observed::Running)
}

/// A count of seconds for people.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests;
