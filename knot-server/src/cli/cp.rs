//! `knot cp`: files to and from a space, over SFTP.
//!
//! A file is written beside its place, under a name made of what its source is, how long, and when it was last
//! changed; and takes its place when it is whole. So a copy that was broken off goes on where it was, if its source is
//! still the same by these, and begins anew if it is not. A file that is there with that length and time stays.

mod download;
mod place;
mod sftp;
mod upload;

use std::time::Duration;

use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use self::place::Place;
use self::sftp::Files;
use super::context::Context;
use super::failure::Failure;
use super::output::clean;
use super::progress::Progress;
use super::up::opened;

/// How much is copied at a time.
const CHUNK: usize = 256 * 1024;

/// How often progress is shown.
const SHOWN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// A file or folder here, or SPACE:PATH; a path that does not begin with / is below the home folder
    source: String,
    /// Where to: SPACE:PATH, or here
    target: String,
    /// Copy a folder with all that is in it
    #[arg(long, short)]
    recursive: bool,
}

/// What was copied.
#[derive(Debug)]
struct Copied {
    progress: Progress,
    shown: Instant,
    files: u64,
    bytes: u64,
    unchanged: u64,
    resumed: u64,
}

/// A file as both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    size: u64,
    /// In seconds since 1970: SFTP knows no less.
    changed: u32,
}

/// Copies.
pub(crate) async fn run(context: &Context, wanted: Cp) -> Result<(), Failure> {
    let Cp { source, target, recursive } = wanted;
    let mut copied = Copied::new(Progress::new(&source, context.shows_progress()));
    match (Place::read(&source), Place::read(&target)) {
        (Place::Here(from), Place::There { space, path }) => {
            let files = open(context, &space).await?;
            upload::copy(&files, &from, &path, recursive, &mut copied).await?;
        }
        (Place::There { space, path }, Place::Here(to)) => {
            let files = open(context, &space).await?;
            download::copy(&files, &path, &to, recursive, &mut copied).await?;
        }
        (Place::Here(_), Place::Here(_)) => {
            return Err(Failure::usage("neither is in a space: write SPACE:PATH for one of them"));
        }
        (Place::There { .. }, Place::There { .. }) => {
            return Err(Failure::usage("both are in spaces: copy by way of this machine"));
        }
    }
    let Copied { files, bytes, unchanged, resumed, progress, .. } = copied;
    drop(progress);
    let result =
        json!({ "files": files, "bytes": bytes, "unchanged": unchanged, "resumed": resumed });
    context.reader.show(&result, |_| {
        let mut text = format!("{files} copied, {} bytes", bytes);
        if resumed > 0 {
            text.push_str(&format!("; {resumed} gone on with"));
        }
        if unchanged > 0 {
            text.push_str(&format!("; {unchanged} were there already"));
        }
        text + "\n"
    })
}

async fn open(context: &Context, space: &str) -> Result<Files, Failure> {
    let client = context.client()?;
    opened(context, &client, space, async || Files::open(&client, space).await).await
}

impl Copied {
    fn new(progress: Progress) -> Self {
        let shown = Instant::now();
        Self { progress, shown, files: 0, bytes: 0, unchanged: 0, resumed: 0 }
    }

    /// Says how far a file has come, not too often.
    fn say(&mut self, name: &str, done: u64, size: u64) {
        if self.shown.elapsed() >= SHOWN {
            let percent = done.saturating_mul(100).checked_div(size).unwrap_or(100);
            self.progress.say(&format!("{name}: {percent} % of {size} bytes"));
            self.shown = Instant::now();
        }
    }

    /// Says that something is left out.
    fn skip(&self, name: &str) {
        eprintln!("knot: {} is left out: it is no file and no folder", clean(name));
    }
}

impl Known {
    /// The name under which a file is written until it is whole.
    fn part(self, name: &str) -> String {
        let said = format!("{name}\0{}\0{}", self.size, self.changed);
        let hash = Sha256::digest(said);
        let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        // Names have a limit of their own.
        let name: String = name.chars().take(60).collect();
        format!(".{name}.{hash}.knot-part")
    }
}

/// Copies the rest of a file to the end of its source; no more than is known of it.
async fn pour(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (name, at, known): (&str, u64, Known),
    copied: &mut Copied,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::operation(format!("{name} was not copied whole: {error}; copy it again to go on"))
    };
    let (mut buffer, mut done) = (vec![0; CHUNK], at);
    loop {
        let count = from.read(&mut buffer).await.map_err(failed)?;
        let chunk = buffer.get(..count).unwrap_or_default();
        if chunk.is_empty() {
            break;
        }
        to.write_all(chunk).await.map_err(failed)?;
        done += chunk.len() as u64;
        copied.bytes += chunk.len() as u64;
        if done > known.size {
            break;
        }
        copied.say(name, done, known.size);
    }
    to.shutdown().await.map_err(failed)?;
    if done == known.size {
        return Ok(());
    }
    Err(Failure::operation(format!("{name} was changed while it was copied: copy it again")))
}
