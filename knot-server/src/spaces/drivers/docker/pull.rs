//! How far the fetch of an image is: the engine's many small words, as a few lines for people.

use std::{collections::BTreeMap, time::Duration};

use bollard::models::CreateImageInfo;
use tokio::time::Instant;

use super::flavour::Flavour;

/// The least time between two lines that say the same kind of thing.
const PAUSE: Duration = Duration::from_secs(1);
/// Layers that are counted; an engine that names more is heard no further.
const MAX_LAYERS: usize = 256;
/// The longest word of the engine that is passed on.
const MAX_WORD: usize = 200;

/// What has been heard of one fetch.
pub(super) struct Pull {
    flavour: Flavour,
    layers: BTreeMap<String, Layer>,
    told: Option<Instant>,
    /// The last line about layers.
    said: String,
}

#[derive(Default)]
struct Layer {
    done: bool,
    current: u64,
    total: u64,
}

impl Pull {
    /// Nothing has been heard yet from an engine of this flavour.
    pub(super) fn of(flavour: Flavour) -> Self {
        Self { flavour, layers: BTreeMap::new(), told: None, said: String::new() }
    }

    /// Takes the engine's next word. A line where there is something to tell by now.
    pub(super) fn step(&mut self, step: CreateImageInfo, now: Instant) -> Option<String> {
        let status = step.status?;
        let Some(id) = step.id.filter(|_| is_of_a_layer(&status)) else {
            // Once for each: the digest, what is being tried, and that it is new.
            return Some(status.trim().chars().take(MAX_WORD).collect());
        };
        if !self.layers.contains_key(&id) && self.layers.len() >= MAX_LAYERS {
            return None;
        }
        let layer = self.layers.entry(id).or_default();
        let finished = status == "Already exists" || status == last_word(self.flavour);
        let news = finished && !layer.done;
        layer.done |= finished;
        if matches!(status.as_str(), "Downloading" | "Download complete")
            && let Some(detail) = step.progress_detail
        {
            let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
            layer.current = bytes(detail.current).unwrap_or(layer.current);
            layer.total = bytes(detail.total).unwrap_or(layer.total);
        }
        if status == "Download complete" || finished {
            layer.current = layer.total;
        }
        let all = news && self.layers.values().all(|layer| layer.done);
        if !all && self.told.is_some_and(|told| now < told + PAUSE) {
            return None;
        }
        self.told = Some(now);
        self.said = self.line();
        Some(self.said.clone())
    }

    /// The engine has said its last word, and all is there: a line, where none has told that.
    pub(super) fn end(mut self) -> Option<String> {
        for layer in self.layers.values_mut() {
            layer.done = true;
            layer.current = layer.total;
        }
        let line = self.line();
        (!self.layers.is_empty() && line != self.said).then_some(line)
    }

    fn line(&self) -> String {
        let done = self.layers.values().filter(|layer| layer.done).count();
        let current: u64 = self.layers.values().map(|layer| layer.current).sum();
        let total: u64 = self.layers.values().map(|layer| layer.total).sum();
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let mut line = format!("{done} of {} layers", self.layers.len());
        if total > 0 {
            line.push_str(&format!(", {} of {} MB", megabytes(current), megabytes(total)));
        }
        line
    }
}

/// What an engine says last of a layer. Podman counts the image's settings as one more of them, and
/// names no bytes in 4.3.
fn last_word(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Docker => "Pull complete",
        Flavour::Podman => "Download complete",
    }
}

/// The words that an engine has for the steps of one layer. With others the id is an image's tag.
fn is_of_a_layer(status: &str) -> bool {
    matches!(
        status,
        "Pulling fs layer"
            | "Waiting"
            | "Downloading"
            | "Verifying Checksum"
            | "Download complete"
            | "Extracting"
            | "Pull complete"
            | "Already exists"
    )
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn word(id: &str, status: &str, detail: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: detail.map(|(current, total)| ProgressDetail {
                current: Some(current),
                total: Some(total),
            }),
            ..CreateImageInfo::default()
        }
    }

    #[tokio::test]
    async fn layers_and_bytes_are_told_once_a_second() {
        let (begin, mut pull) = (Instant::now(), Pull::of(Flavour::Docker));
        let mut at = |millis, word| pull.step(word, begin + Duration::from_millis(millis));
        let said = at(0, word("latest", "Pulling from library/debian", None));
        assert_eq!(said.as_deref(), Some("Pulling from library/debian"));
        let said = at(1, word("a", "Pulling fs layer", None));
        assert_eq!(said.as_deref(), Some("0 of 1 layers"));
        assert_eq!(at(2, word("b", "Already exists", None)), None);
        assert_eq!(at(900, word("a", "Downloading", Some((1_000_000, 4_000_000)))), None);
        let said = at(1_100, word("a", "Downloading", Some((2_000_000, 4_000_000))));
        assert_eq!(said.as_deref(), Some("1 of 2 layers, 2 of 4 MB"));
        assert_eq!(at(1_200, word("a", "Extracting", Some((1, 4_000_000)))), None);
        let said = at(1_300, word("a", "Pull complete", None));
        assert_eq!(said.as_deref(), Some("2 of 2 layers, 4 of 4 MB"), "the end is told at once");
        assert_eq!(pull.end(), None, "and once");
    }

    #[tokio::test]
    async fn podman_says_no_more_of_a_layer_than_that_it_is_downloaded() {
        let (begin, mut pull) = (Instant::now(), Pull::of(Flavour::Podman));
        let mut words = |id, status| pull.step(word(id, status, None), begin);
        assert_eq!(words("a", "Pulling fs layer").as_deref(), Some("0 of 1 layers"));
        assert_eq!(words("b", "Pulling fs layer"), None);
        assert_eq!(words("a", "Download complete"), None);
        assert_eq!(words("b", "Download complete").as_deref(), Some("2 of 2 layers"));
    }

    #[tokio::test]
    async fn the_end_is_told_where_the_engine_does_not() {
        let (begin, mut pull) = (Instant::now(), Pull::of(Flavour::Docker));
        assert!(pull.step(word("a", "Pulling fs layer", None), begin).is_some());
        let done = word("a", "Download complete", Some((4_000_000, 4_000_000)));
        assert_eq!(pull.step(done, begin), None);
        assert_eq!(pull.end().as_deref(), Some("1 of 1 layers, 4 of 4 MB"));
        assert_eq!(Pull::of(Flavour::Docker).end(), None);
    }
}
