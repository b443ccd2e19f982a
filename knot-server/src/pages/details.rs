//! The page of one space: what it takes up, and how it was brought up.

use askama::Template;

use super::Chrome;
use crate::api::types::UsageSample;

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
    /// The space's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub state: String,
    /// Whether it is well, where it is looked at.
    pub health: Option<String>,
    /// Why it is as it is.
    pub cause: Option<String>,
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
        let memory = |bytes: u64| format!("{} MiB", bytes >> 20);
        vec![
            Self::line("Processor", day.iter().map(|sample| sample.millicpus).collect(), percent),
            Self::line("Memory", day.iter().map(|sample| sample.memory).collect(), memory),
        ]
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
