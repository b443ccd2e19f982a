//! The page of one space: what it is, forms to change it, what it takes up, and how it was brought up.

use std::collections::BTreeMap;

use askama::Template;

use super::{Chrome, ParameterField, ServerChoice, SpaceRow, VolumeRow, volumes::size};
use crate::api::types::{
    Start, UsageSample,
    ports::{Access, Ports},
};

/// The width of a chart: a point for each minute of a day.
const MINUTES: usize = 24 * 60;
/// The height of a chart.
const HEIGHT: u64 = 100;

/// `/spaces/{id}`.
#[derive(Template)]
#[template(path = "space.html")]
pub struct SpacePage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The space, as its row in the list has it.
    pub space: SpaceRow,
    /// What else there is to say of it.
    pub facts: SpaceFacts,
    /// What may be changed of it; nothing for who may not.
    pub settings: Option<Settings>,
    /// Its template's parameters, and what it has for them; to be changed where there are settings.
    pub parameters: Vec<ParameterField>,
    /// Whom it is shared with; nothing for who may not change that.
    pub sharing: Option<Sharing>,
    /// Where it can go; nothing for who may not move it.
    pub placing: Option<Placing>,
    /// Whether a person starts its agent, and may be told how.
    pub by_hand: bool,
    /// Its volumes.
    pub volumes: Vec<VolumeRow>,
    /// What it took up over a day.
    pub charts: Vec<Chart>,
    /// Why that is not known.
    pub usage_problem: Option<String>,
    /// The start that the log is of.
    pub generation: Option<String>,
    /// The log of that start.
    pub log: String,
    /// Why there is none.
    pub log_problem: Option<String>,
    /// The starts before that one that there are logs of, newest first.
    pub earlier: Vec<Start>,
    /// Its ports, and where they are opened.
    pub ports: Ports,
}

/// What a space's page says in words.
#[derive(Clone, Debug, Default)]
pub struct SpaceFacts {
    /// When it was made, RFC 3339.
    pub created: String,
    /// Which start it is; empty before the first.
    pub generation: String,
    /// The template's revision that runs; empty before the first start.
    pub revision: String,
    /// The driver that runs it; may be empty.
    pub driver: String,
    /// Other names, with the port that each leads to.
    pub alt_names: BTreeMap<String, u64>,
    /// The spaces that have to run before it starts, as id and name.
    pub depends_on: Vec<(String, String)>,
}

/// What may be changed of a space.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Fields in conflict: they are written even where they stay as they are, which settles them.
    pub in_conflict: Vec<String>,
    /// The spaces that it may be made to depend on, and those that it does.
    pub dependencies: Vec<Dependency>,
}

impl Settings {
    /// Whether a field is in conflict.
    fn conflicts(&self, field: &str) -> bool {
        self.in_conflict.iter().any(|one| one == field)
    }
}

/// A space that another may depend on.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// The space's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether the other depends on it.
    pub chosen: bool,
}

/// Whom a space is shared with, and that this may be changed.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// Each user's id and name.
    pub users: Vec<(String, String)>,
}

/// Where a space can go.
#[derive(Clone, Debug, Default)]
pub struct Placing {
    /// The servers that could be its home and are not.
    pub servers: Vec<ServerChoice>,
}

/// A line over a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// The last value.
    pub now: String,
    /// The highest.
    pub most: String,
    /// The points, as SVG has them: a minute to the right, 100 down.
    pub points: String,
}

impl Chart {
    /// The charts of these samples; none of nothing.
    pub fn of(day: &[UsageSample]) -> Vec<Self> {
        if day.is_empty() {
            return Vec::new();
        }
        let percent = |millicpus: u64| format!("{} % of a processor", millicpus / 10);
        let mut charts = vec![
            Self::line("Processor", day.iter().map(|sample| sample.millicpus).collect(), percent),
            Self::line("Memory", day.iter().map(|sample| sample.memory).collect(), size),
        ];
        if day.iter().any(|sample| sample.disk.is_some()) {
            let files = day.iter().map(|sample| sample.disk.unwrap_or_default()).collect();
            charts.push(Self::line("Files", files, size));
        }
        charts
    }

    fn line(title: &'static str, values: Vec<u64>, show: impl Fn(u64) -> String) -> Self {
        let most = values.iter().copied().max().unwrap_or(0);
        let first = MINUTES.saturating_sub(values.len());
        let points = values.iter().enumerate().map(|(at, value)| {
            let height = value.saturating_mul(HEIGHT).checked_div(most).unwrap_or(0);
            format!("{},{}", first + at, HEIGHT.saturating_sub(height))
        });
        let points = points.collect::<Vec<_>>().join(" ");
        let now = show(values.last().copied().unwrap_or(0));
        Self { title, now, most: show(most), points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_minute_is_at_the_right_and_the_most_at_the_top() {
        let sample =
            |millicpus| UsageSample { at: String::new(), millicpus, memory: 5 << 20, disk: None };
        assert!(Chart::of(&[]).is_empty());
        let charts = Chart::of(&[sample(0), sample(500), sample(250)]);
        assert_eq!(charts[0].points, "1437,100 1438,0 1439,50");
        assert_eq!(
            (&*charts[0].now, &*charts[0].most),
            ("25 % of a processor", "50 % of a processor")
        );
        assert_eq!(charts[1].now, "5 MiB");
    }
}
