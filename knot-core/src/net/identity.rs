//! What a server keeps beside its database: who it is, its keys, and the cluster's authority.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys::{self, Authority, KeyPair, PublicKey};
use crate::{
    id::ServerId,
    secrets::{SealingKeyPair, WrapError},
    wire,
};

/// The name of the file in the data folder.
const FILE: &str = "identity";

/// The identity could not be read or written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no identity.
    #[error("{0} holds no server: make one with `knot-server init` or `knot-server join`")]
    Missing(PathBuf),
    /// There is an identity already.
    #[error("{0} already holds a server: use another folder")]
    Exists(PathBuf),
    /// The file is damaged.
    #[error("{0} is damaged: restore it from a backup")]
    Damaged(PathBuf),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// The sealing key cannot be read.
    #[error(transparent)]
    Sealing(#[from] WrapError),
    /// A renewal was begun and is not over.
    #[error(
        "this server's new key {0} is not in use everywhere yet: finish with \
         `knot-server renew-key --drop-old` before the next"
    )]
    Renewing(PublicKey),
}

/// Who a server is. Holds secrets: its `Debug` form shows none.
#[derive(Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: Uuid,
    /// The server.
    pub server: ServerId,
    /// The server's key.
    pub key: Arc<KeyPair>,
    /// The key that is to follow it, once every peer has shown that it knows it.
    pub next: Option<Arc<KeyPair>>,
    /// What data keys are sealed for this server with.
    pub sealing: Arc<SealingKeyPair>,
    /// The cluster's certificate authority.
    pub authority: Authority,
}

/// 32 secret bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The identity as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    cluster: Uuid,
    server: ServerId,
    key: String,
    next: Option<String>,
    sealing: String,
    authority_key: String,
    authority_certificate: Vec<u8>,
}

impl Identity {
    /// The first server of a new cluster.
    ///
    /// # Errors
    /// A key could not be made.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self {
            cluster: Uuid::now_v7(),
            server: ServerId(Uuid::now_v7()),
            key: Arc::new(KeyPair::generate()?),
            next: None,
            sealing: Arc::new(SealingKeyPair::generate()),
            authority: Authority::generate()?,
        })
    }

    /// The certificates that this server presents one of its keys with: its own, and the authority
    /// that signed it.
    ///
    /// # Errors
    /// The certificate could not be made.
    pub fn chain(&self, key: &KeyPair) -> Result<Vec<CertificateDer<'static>>, Error> {
        let own = self.authority.sign(&self.server.to_string(), key)?;
        Ok(vec![own, self.authority.certificate().clone()])
    }

    /// Whether a data folder holds an identity.
    pub fn exists(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Reads the identity in a data folder.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing(folder.to_owned()));
            }
            Err(source) => return Err(Error::File { path, source }),
        };
        let stored: Stored = wire::decode(&bytes).map_err(|_| Error::Damaged(path))?;
        let certificate = CertificateDer::from(stored.authority_certificate);
        let authority_key = KeyPair::from_base64(&stored.authority_key)?;
        Ok(Self {
            cluster: stored.cluster,
            server: stored.server,
            key: Arc::new(KeyPair::from_base64(&stored.key)?),
            next: stored.next.as_deref().map(KeyPair::from_base64).transpose()?.map(Arc::new),
            sealing: Arc::new(SealingKeyPair::from_base64(&stored.sealing)?),
            authority: Authority::from_parts(authority_key, certificate),
        })
    }

    /// Writes the identity into a data folder that has none, for the owner's eyes only.
    ///
    /// # Errors
    /// There is one already, or it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        if Self::exists(folder) {
            return Err(Error::Exists(folder.to_owned()));
        }
        self.write(folder)
    }

    /// Gives the server of a data folder a new key, and writes both into the folder: the old one is
    /// presented until each peer has shown that it knows the new. Neither a database nor another
    /// server is needed; a running server is told with [`Net::renew`](super::Net::renew).
    ///
    /// # Errors
    /// An earlier renewal is not over, or the identity cannot be read or written.
    pub fn renew(folder: &Path) -> Result<PublicKey, Error> {
        let mut identity = Self::load(folder)?;
        if let Some(next) = &identity.next {
            return Err(Error::Renewing(next.public()));
        }
        let next = KeyPair::generate()?;
        let public = next.public();
        identity.next = Some(Arc::new(next));
        identity.write(folder)?;
        Ok(public)
    }

    /// Ends a renewal in a data folder: the new key is the key, and the old one is forgotten.
    ///
    /// # Errors
    /// The identity cannot be read or written.
    pub fn drop_old(folder: &Path) -> Result<(), Error> {
        let mut identity = Self::load(folder)?;
        let Some(next) = identity.next.take() else { return Ok(()) };
        identity.key = next;
        identity.write(folder)
    }

    /// Writes another identity over that of a data folder: a server that goes on alone.
    ///
    /// # Errors
    /// There is none, or it cannot be written.
    pub fn replace(&self, folder: &Path) -> Result<(), Error> {
        Self::load(folder)?;
        self.write(folder)
    }

    fn write(&self, folder: &Path) -> Result<(), Error> {
        let stored = Stored {
            cluster: self.cluster,
            server: self.server,
            key: self.key.to_base64(),
            next: self.next.as_ref().map(|key| key.to_base64()),
            sealing: self.sealing.to_base64().to_string(),
            authority_key: self.authority.key().to_base64(),
            authority_certificate: self.authority.certificate().to_vec(),
        };
        let path = folder.join(FILE);
        let bytes = wire::encode(&stored).map_err(|_| Error::Damaged(path.clone()))?;
        write_private(&path, &bytes).map_err(|source| Error::File { path, source })
    }
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let draft = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_identity_survives_being_written_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Identity::load(folder.path()), Err(Error::Missing(_))));
        let identity = Identity::generate().unwrap();
        identity.save(folder.path()).unwrap();
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let back = Identity::load(folder.path()).unwrap();
        assert_eq!((back.cluster, back.server), (identity.cluster, identity.server));
        assert_eq!(back.key.public(), identity.key.public());
        assert_eq!(back.sealing.public(), identity.sealing.public());
        assert!(matches!(identity.save(folder.path()), Err(Error::Exists(_))));
    }

    #[test]
    fn both_keys_are_kept_until_the_old_one_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        identity.save(folder.path()).unwrap();
        let next = Identity::renew(folder.path()).unwrap();
        let back = Identity::load(folder.path()).unwrap();
        assert_eq!(back.key.public(), identity.key.public());
        assert_eq!(back.next.unwrap().public(), next);
        assert!(matches!(Identity::renew(folder.path()), Err(Error::Renewing(key)) if key == next));
        Identity::drop_old(folder.path()).unwrap();
        let back = Identity::load(folder.path()).unwrap();
        assert_eq!(back.key.public(), next);
        assert!(back.next.is_none());
    }
}
