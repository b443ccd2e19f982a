//! What a server keeps beside its database: who it is, and the cluster's authority and secret.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys::{self, Authority, KeyPair};
use crate::{id::ServerId, wire};

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
}

/// Who a server is. Holds secrets: its `Debug` form shows none.
#[derive(Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: Uuid,
    /// The server.
    pub server: ServerId,
    /// The server's key.
    pub key: KeyPair,
    /// The cluster's certificate authority.
    pub authority: Authority,
    /// What the cluster signs sessions and tokens with.
    pub secret: Secret,
}

/// 32 secret bytes that all servers of a cluster share.
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
    authority_key: String,
    authority_certificate: Vec<u8>,
    secret: Secret,
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
            key: KeyPair::generate()?,
            authority: Authority::generate()?,
            secret: Secret(rand::random()),
        })
    }

    /// The certificates that this server presents: its own, and the authority that signed it.
    ///
    /// # Errors
    /// The certificate could not be made.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let own = self.authority.sign(&self.server.to_string(), &self.key)?;
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
            key: KeyPair::from_base64(&stored.key)?,
            authority: Authority::from_parts(authority_key, certificate),
            secret: stored.secret,
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
        let stored = Stored {
            cluster: self.cluster,
            server: self.server,
            key: self.key.to_base64(),
            authority_key: self.authority.key().to_base64(),
            authority_certificate: self.authority.certificate().to_vec(),
            secret: self.secret,
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
        assert!(matches!(identity.save(folder.path()), Err(Error::Exists(_))));
    }
}
