//! Images: found on the engine, or fetched.

use std::{collections::HashMap, time::Duration};

use bollard::{models::CreateImageInfo, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;

use super::{
    ANSWER,
    failure::{ask, engine, is_status, said},
};
use crate::spaces::drivers::{Error, Progress, StartError};

/// How long a fetch may go without a word from the engine.
const STALL: Duration = Duration::from_secs(120);
/// Layers whose last step is remembered, so that each step is told once.
const MAX_LAYERS: usize = 256;

/// Sees that an image is on the engine, fetching it if need be.
pub(super) async fn ensure(
    client: &bollard::Docker,
    image: &str,
    progress: &Progress,
) -> Result<(), StartError> {
    let name = full_name(image);
    match ask(ANSWER, client.inspect_image(&name)).await {
        Ok(_) => Ok(()),
        Err(failure) if is_status(&failure, 404) => fetch(client, name, progress).await,
        Err(failure) if is_status(&failure, 400) => {
            Err(StartError::Image { image: name, cause: said(&failure) })
        }
        Err(failure) => Err(engine("look for the image", failure).into()),
    }
}

/// An image's name with its tag: an engine takes a name without one for all tags when it fetches,
/// and for `latest` when it creates.
pub(super) fn full_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

async fn fetch(
    client: &bollard::Docker,
    image: String,
    progress: &Progress,
) -> Result<(), StartError> {
    progress.line(format!("fetching the image {image}"));
    let options = CreateImageOptionsBuilder::new().from_image(&image).build();
    let mut steps = Box::pin(client.create_image(Some(options), None, None));
    let mut told = HashMap::new();
    loop {
        match ask(STALL, async { steps.next().await.transpose() }).await {
            Ok(Some(step)) => tell(&mut told, step, progress),
            Ok(None) => break,
            Err(failure) => {
                return Err(match engine("fetch the image", failure) {
                    Error::Unknown { cause, .. } => StartError::Image { image, cause },
                    other => other.into(),
                });
            }
        }
    }
    progress.line(format!("fetched the image {image}"));
    Ok(())
}

/// One line for each step of each layer, not one for each percent.
fn tell(told: &mut HashMap<String, String>, step: CreateImageInfo, progress: &Progress) {
    let Some(status) = step.status else { return };
    let layer = step.id.unwrap_or_default();
    if told.get(&layer) == Some(&status) {
        return;
    }
    progress.line(format!("{layer} {status}").trim());
    if told.len() >= MAX_LAYERS {
        told.clear();
    }
    told.insert(layer, status);
}

#[cfg(test)]
mod tests {
    use super::full_name;

    #[test]
    fn a_name_without_a_tag_means_latest() {
        for (image, full) in [
            ("debian", "debian:latest"),
            ("debian:13", "debian:13"),
            ("host:5000/team/dev", "host:5000/team/dev:latest"),
            ("host:5000/team/dev:1", "host:5000/team/dev:1"),
            ("dev@sha256:0123", "dev@sha256:0123"),
        ] {
            assert_eq!(full_name(image), full);
        }
    }
}
