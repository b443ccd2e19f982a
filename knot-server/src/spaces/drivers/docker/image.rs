//! Images: found on the engine, or fetched.

use std::time::Duration;

use bollard::{auth::DockerCredentials, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::{
    ANSWER,
    failure::{ask, is_status, said},
    flavour::Client,
    pull::Pull,
};
use crate::spaces::drivers::{Error, Progress, Run, StartError};

/// How long a fetch may go without a word from the engine.
const STALL: Duration = Duration::from_secs(120);

/// Sees that the image of a run is on the engine, fetching it if need be.
pub(super) async fn ensure(
    client: &Client,
    run: &Run,
    progress: &Progress,
) -> Result<(), StartError> {
    let name = full_name(&run.image);
    match ask(ANSWER, client.api.inspect_image(&name)).await {
        Ok(_) => Ok(()),
        Err(failure) if is_status(&failure, 404) => fetch(client, run, name, progress).await,
        Err(failure) if is_status(&failure, 400) => {
            Err(StartError::Image { image: name, cause: said(&failure) })
        }
        Err(failure) => Err(client.flavour.engine("look for the image", failure).into()),
    }
}

/// An image's name with its tag: an engine takes a name without one for all tags when it fetches,
/// and for `latest` when it creates.
pub(super) fn full_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

async fn fetch(
    client: &Client,
    run: &Run,
    image: String,
    progress: &Progress,
) -> Result<(), StartError> {
    progress.line(format!("fetching the image {image}"));
    let options = CreateImageOptionsBuilder::new().from_image(&image).build();
    let credentials = run.registry.as_ref().map(|registry| DockerCredentials {
        username: Some(registry.user.clone()),
        password: Some(registry.password.clone()),
        ..DockerCredentials::default()
    });
    let mut steps = Box::pin(client.api.create_image(Some(options), None, credentials));
    let mut pull = Pull::of(client.flavour);
    loop {
        match ask(STALL, async { steps.next().await.transpose() }).await {
            Ok(Some(step)) => {
                if let Some(line) = pull.step(step, Instant::now()) {
                    progress.line(line);
                }
            }
            Ok(None) => break,
            Err(failure) => {
                return Err(match client.flavour.engine("fetch the image", failure) {
                    Error::Unknown { cause, .. } => StartError::Image { image, cause },
                    other => other.into(),
                });
            }
        }
    }
    if let Some(line) = pull.end() {
        progress.line(line);
    }
    progress.line(format!("fetched the image {image}"));
    Ok(())
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
