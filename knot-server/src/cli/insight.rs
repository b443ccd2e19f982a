//! `knot space logs` and `knot space usage`: what a space's home knows of it.

use std::io::{self, Write as _};

use serde_json::json;

use super::client::Answer;
use super::context::Context;
use super::failure::Failure;
use super::output::{Reader, bytes, details, print, table};
use crate::api::types::{SpaceUsage, Starts, UsageSample};

/// How many columns a day is drawn in.
const COLUMNS: usize = 48;
/// What a column is drawn with, from nothing to the most.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Shows the line that starts an agent by hand.
pub(crate) async fn launch(context: &Context, name: &str) -> Result<(), Failure> {
    let line = context.client()?.text(&["spaces", name, "launch"]).await?;
    context.reader.show(&json!({ "line": line }), |_| format!("{line}\n"))
}

/// Writes a log as it comes. For a program it is one JSON text, unless it is followed.
pub(crate) async fn logs(
    context: &Context,
    name: &str,
    query: &[(&str, &str)],
) -> Result<(), Failure> {
    let client = context.client()?;
    let mut stream = client.stream(&["spaces", name, "logs"], query).await?;
    let generation = stream.headers().get("knot-generation");
    let generation =
        generation.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let follows = query.contains(&("follow", "true"));
    let whole = context.reader == Reader::Program && !follows;
    let mut log = Vec::new();
    while let Some(chunk) = stream.chunk().await.map_err(|error| client.no_answer(&error))? {
        if whole {
            log.extend_from_slice(&chunk);
            continue;
        }
        // As the container wrote it: people know these lines from its engine.
        let mut out = io::stdout().lock();
        out.write_all(&chunk)
            .and_then(|()| out.flush())
            .map_err(|error| Failure::output(&error))?;
    }
    if whole {
        let log = String::from_utf8_lossy(&log);
        print(&format!("{:#}\n", json!({ "generation": generation, "log": log })))?;
    }
    Ok(())
}

/// Lists the starts that there are logs of.
pub(crate) async fn starts(context: &Context, name: &str) -> Result<(), Failure> {
    let answer: Answer<Starts> = context.client()?.get(&["spaces", name, "starts"]).await?;
    context.reader.show(&answer.raw, |colour| {
        if answer.value.starts.is_empty() {
            return "It was never started: there are no logs\n".to_owned();
        }
        let rows = answer.value.starts.into_iter().map(|start| {
            let kept = |kept: bool| if kept { "kept" } else { "" };
            [start.generation.into(), kept(start.provision).into(), kept(start.container).into()]
        });
        table(["START", "PROVISION", "CONTAINER"], rows.collect(), colour)
    })
}

/// The last start before the newest that there is a log of.
pub(crate) async fn previous(
    context: &Context,
    name: &str,
    provision: bool,
) -> Result<String, Failure> {
    let answer: Answer<Starts> = context.client()?.get(&["spaces", name, "starts"]).await?;
    let mut earlier = answer.value.starts.into_iter().skip(1);
    let found = earlier.find(|start| if provision { start.provision } else { start.container });
    found.map(|start| start.generation).ok_or_else(|| {
        Failure::operation(format!(
            "there is no such log of an earlier start of {name}; `knot space starts {name}` lists those there are"
        ))
    })
}

/// Shows what a space takes up.
pub(crate) async fn usage(context: &Context, name: &str) -> Result<(), Failure> {
    let answer: Answer<SpaceUsage> = context.client()?.get(&["spaces", name, "usage"]).await?;
    context.reader.show(&answer.raw, |colour| {
        let SpaceUsage { now, day } = answer.value;
        let shown = |value: Option<String>| value.unwrap_or_default().into();
        let mut pairs = vec![
            (
                "Processor",
                shown(now.as_ref().map(|now| format!("{} % of one", now.millicpus / 10))),
            ),
            ("Memory", shown(now.as_ref().map(|now| bytes(now.memory)))),
            ("Files", shown(now.as_ref().and_then(|now| now.disk).map(bytes))),
        ];
        if now.is_none() {
            pairs.push(("Now", "it does not run, or has not reported yet".into()));
        }
        if !day.is_empty() {
            pairs.push(("Minutes", day.len().to_string().into()));
            pairs.push(("Processor, a day", chart(&day, |sample| sample.millicpus).into()));
            pairs.push(("Memory, a day", chart(&day, |sample| sample.memory).into()));
        }
        details(pairs, colour)
    })
}

/// The highest value of each part of a day, as a row of bars.
fn chart(day: &[UsageSample], value: impl Fn(&UsageSample) -> u64) -> String {
    let most = day.iter().map(&value).max().unwrap_or(0).max(1);
    let part = day.len().div_ceil(COLUMNS).max(1);
    let parts = day.chunks(part).map(|part| part.iter().map(&value).max().unwrap_or(0));
    let bar = |value: u64| {
        let steps = u64::try_from(BARS.len() - 1).unwrap_or(u64::MAX);
        let step = value.saturating_mul(steps).div_ceil(most);
        usize::try_from(step).ok().and_then(|step| BARS.get(step)).copied().unwrap_or(' ')
    };
    parts.map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_fits_on_a_line() {
        let sample =
            |millicpus| UsageSample { at: String::new(), millicpus, memory: 0, disk: None };
        let day: Vec<_> = (0..1_440).map(sample).collect();
        let drawn = chart(&day, |sample| sample.millicpus);
        assert_eq!(drawn.chars().count(), COLUMNS);
        assert!(drawn.starts_with('▁') && drawn.ends_with('█'), "{drawn}");
        assert_eq!(chart(&day, |sample| sample.memory).trim(), "");
    }
}
