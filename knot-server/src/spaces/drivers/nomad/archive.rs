//! The agent as Nomad's nodes fetch it: an archive, since a file fetched by itself cannot be run.

use std::{io, sync::OnceLock};

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

/// The agent, packed.
#[derive(Clone)]
pub struct Archive {
    bytes: Bytes,
    hash: String,
}

impl Archive {
    /// Packs an agent: the same bytes for the same agent, always.
    ///
    /// # Errors
    /// None but what memory can fail with.
    pub fn pack(agent: &[u8]) -> io::Result<Self> {
        let packed = GzBuilder::new().write(Vec::new(), Compression::fast());
        let mut tar = tar::Builder::new(packed);
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(u64::try_from(agent.len()).unwrap_or(u64::MAX));
        tar.append_data(&mut header, "agent", agent)?;
        let bytes = Bytes::from(tar.into_inner()?.finish()?);
        let hash = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { bytes, hash })
    }

    /// This server's agent, packed once; none where that failed.
    pub fn own() -> Option<&'static Self> {
        static OWN: OnceLock<Option<Archive>> = OnceLock::new();
        OWN.get_or_init(|| Self::pack(crate::agent_binary::bytes()).ok()).as_ref()
    }

    /// The path that a server serves it at: another one for another agent.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/agent/{}.tar.gz", self.hash)
    }

    /// The archive itself.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Where a server of this URL serves it.
    #[must_use]
    pub fn url(&self, server: &str) -> String {
        format!("{}{}", server.trim_end_matches('/'), self.path())
    }

    pub(super) fn checksum(&self) -> String {
        format!("sha256:{}", self.hash)
    }
}
