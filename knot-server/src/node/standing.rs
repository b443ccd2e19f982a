//! That this server belongs to its cluster no more, noted in its data folder: a removed server takes
//! no writes after a restart either, though nobody is there to tell it again.

use std::{fs, io, path::Path};

use knot_core::net::{Net, Standing};
use tokio::task::JoinHandle;

/// The note's name in the data folder.
const FILE: &str = "expelled.json";

/// Tells the network what an earlier run was told, and notes what it is told from now on. The task
/// ends with the network.
pub(super) fn keep(folder: &Path, net: &Net) -> JoinHandle<()> {
    let path = folder.join(FILE);
    if let Ok(text) = fs::read(&path) {
        // A note that cannot be read still says that there is one.
        net.remember(serde_json::from_slice(&text).unwrap_or(Standing::Removed));
    }
    let mut standing = net.standing();
    tokio::spawn(async move {
        let Ok(now) = standing.wait_for(|now| *now != Standing::Belongs).await.map(|now| *now)
        else {
            return;
        };
        let written = serde_json::to_vec(&now).map_err(io::Error::from);
        if let Err(error) = written.and_then(|text| fs::write(&path, text)) {
            tracing::warn!(path = %path.display(), %error, "it could not be noted that this server \
                belongs no more: it will have to be told again after a restart");
        }
    })
}

/// Whether the server of a data folder was told that it belongs no more.
pub(crate) fn is_noted(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Forgets the note: the server belongs again.
///
/// # Errors
/// It cannot be removed.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
