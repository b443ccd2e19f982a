//! What this user has seen of a cluster, so that each command sees what the one before it wrote, through any server.
//!
//! A server's answer carries a causality token; the newest is kept and sent with the next request. It is kept by a
//! hash of the API token, not by URL: an API token belongs to one cluster, and one cluster has many URLs. All of it
//! is best effort: without it an answer may be older, never wrong.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config::Folder;

/// The file's name in the config folder.
const FILE: &str = "seen.json";

/// How many clusters are remembered.
const ENTRIES: usize = 16;

/// The longest causality token that is kept: servers refuse longer headers.
const TOKEN_LIMIT: usize = 8 * 1024;

/// The newest causality token of one cluster.
#[derive(Debug)]
pub(crate) struct Seen {
    folder: Option<Folder>,
    key: String,
    token: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Entries {
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    token: String,
}

impl Seen {
    /// What was kept for the cluster of this API token.
    pub(crate) fn load(folder: Option<Folder>, api_token: &str) -> Self {
        let key = key(api_token);
        let entries = read(folder.as_ref());
        let token =
            entries.entries.into_iter().find(|entry| entry.key == key).map(|entry| entry.token);
        Self { folder, key, token }
    }

    /// The token to send.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Keeps a newer token.
    pub(crate) fn keep(&mut self, token: &str) {
        if token.is_empty() || token.len() > TOKEN_LIMIT || self.token.as_deref() == Some(token) {
            return;
        }
        self.token = Some(token.to_owned());
        self.save();
    }

    /// Forgets the token: a server that cannot catch up with it, such as one restored from a backup, would refuse
    /// every command from now on.
    pub(crate) fn forget(&mut self) {
        if self.token.take().is_some() {
            self.save();
        }
    }

    fn save(&self) {
        let Some(folder) = &self.folder else { return };
        let mut entries = read(Some(folder)).entries;
        entries.retain(|entry| entry.key != self.key);
        if let Some(token) = &self.token {
            entries.push(Entry { key: self.key.clone(), token: token.clone() });
        }
        let excess = entries.len().saturating_sub(ENTRIES);
        entries.drain(..excess);
        if let Ok(text) = serde_json::to_string(&Entries { entries }) {
            let _ = folder.write(FILE, &text);
        }
    }
}

/// What a cluster goes by in files that this program keeps: a hash of the API token.
pub(crate) fn key(api_token: &str) -> String {
    let digest = Sha256::digest(api_token.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn read(folder: Option<&Folder>) -> Entries {
    let text = folder.and_then(|folder| folder.read(FILE).ok().flatten());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}
