//! When spaces run: the hours of a template in their owner's time zone, as moments.
//!
//! A start takes the earlier reading of a local time that a clock change makes ambiguous or leaves out,
//! and a stop the later: hours are never shorter than they are written, and none is empty. Hours that
//! touch or overlap are one.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, Weekday},
    tz::TimeZone,
};
use knot_core::{clock::Millis, model::Hours};

/// How many days around now are looked at: hours come back every week.
const DAYS: i64 = 9;
/// Edges farther away than this, in milliseconds, may be those of what is looked at.
const NEAR: i64 = (DAYS - 1) * 86_400_000;

/// Hours in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    hours: Vec<(Weekday, Hours)>,
    zone: TimeZone,
    text: String,
}

/// A moment at which hours begin or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// When.
    pub at: Millis,
    /// Whether hours begin.
    pub begins: bool,
}

impl Schedule {
    /// The hours of a template, by the words for its days, in a zone of this name. Without hours there
    /// is no schedule. A zone that is not known, or none, is UTC.
    pub fn new(hours: &BTreeMap<String, Hours>, zone: &str) -> Option<Self> {
        let mut text = zone.to_owned();
        let mut known = Vec::new();
        for (word, hours) in hours {
            if let Some(day) = weekday(word) {
                // Writing to a string does not fail.
                let _ = write!(text, " {word}={hours}");
                known.push((day, *hours));
            }
        }
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        (!known.is_empty()).then_some(Self { hours: known, zone, text })
    }

    /// The whole rule as one text, to tell it from another.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The last edge that is not after this moment, and the first after it.
    pub fn around(&self, now: Millis) -> (Option<Edge>, Option<Edge>) {
        let edges = self.edges(now);
        let next = edges.partition_point(|edge| edge.at <= now);
        let last = next.checked_sub(1).and_then(|last| edges.get(last));
        (last.copied(), edges.get(next).copied())
    }

    /// The edges around a moment, in order.
    fn edges(&self, now: Millis) -> Vec<Edge> {
        let Ok(moment) = Timestamp::from_millisecond(now.0) else { return Vec::new() };
        let today = moment.to_zoned(self.zone.clone()).date();
        let mut periods: Vec<(i64, i64)> = (-DAYS..=DAYS)
            .filter_map(|days| today.checked_add(days.days()).ok())
            .flat_map(|date| self.periods(date))
            .collect();
        periods.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        for (from, to) in periods {
            match merged.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => merged.push((from, to)),
            }
        }
        merged
            .into_iter()
            .flat_map(|(from, to)| [(from, true), (to, false)])
            .filter(|(at, _)| (at - now.0).abs() < NEAR)
            .map(|(at, begins)| Edge { at: Millis(at), begins })
            .collect()
    }

    /// The hours that begin on a day, in milliseconds since 1970.
    fn periods(&self, date: Date) -> impl Iterator<Item = (i64, i64)> + '_ {
        let of_day = self.hours.iter().filter(move |(day, _)| *day == date.weekday());
        of_day.filter_map(move |(_, hours)| {
            let end = if hours.to > hours.from { date } else { date.tomorrow().ok()? };
            let from =
                self.zone.to_ambiguous_timestamp(minute(date, hours.from)?).earlier().ok()?;
            let to = self.zone.to_ambiguous_timestamp(minute(end, hours.to)?).later().ok()?;
            Some((from.as_millisecond(), to.as_millisecond()))
        })
    }
}

fn minute(date: Date, minute: u16) -> Option<jiff::civil::DateTime> {
    let midnight = date.at(0, 0, 0, 0);
    midnight.checked_add(i64::from(minute).minutes()).ok()
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
