//! HTTPS with the operator's certificate, which is read again when its files change: whoever renews it need not
//! start the server again.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use crate::config::https::Files;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or is no PEM.
    #[error("{path} cannot be read as PEM: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("there is no certificate in {0}")]
    Empty(PathBuf),
    /// The key is not the certificate's, or of a kind that is not known.
    #[error("the key in {path} does not fit the certificate: {source}")]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate that is in use.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: Files,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads a certificate and its key.
    pub(crate) fn load(files: Files) -> Result<Arc<Self>, Error> {
        let provider = Arc::new(ring::default_provider());
        let current = RwLock::new(Arc::new(read(&files, &provider)?));
        Ok(Arc::new(Self { files, provider, current }))
    }

    /// What takes TLS connections with it, for HTTP/2 and HTTP/1.1.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again whenever they have changed, for as long as it is polled. Where they make no certificate, as
    /// while they are being replaced one after the other, the one that is in use stays.
    pub(crate) async fn keep(&self) {
        let mut seen = self.stamps();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let stamps = self.stamps();
            if stamps == seen {
                continue;
            }
            seen = stamps;
            match read(&self.files, &self.provider) {
                Ok(certificate) => {
                    let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                    *current = Arc::new(certificate);
                    tracing::info!(certificate = %self.files.certificate.display(), "HTTPS certificate read again");
                }
                Err(error) => {
                    tracing::warn!(%error, "the changed HTTPS certificate cannot be used: the one before it stays in use");
                }
            }
        }
    }

    /// What changes when the files do.
    fn stamps(&self) -> [Option<(std::time::SystemTime, u64)>; 2] {
        let stamp = |path: &PathBuf| -> io::Result<_> {
            let data = std::fs::metadata(path)?;
            Ok((data.modified()?, data.len()))
        };
        [&self.files.certificate, &self.files.key].map(|path| stamp(path).ok())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let Files { certificate, key } = files;
    let unreadable = |path: &PathBuf| {
        let path = path.clone();
        |source| Error::Unreadable { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(certificate))?;
    if chain.is_empty() {
        return Err(Error::Empty(certificate.clone()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
    CertifiedKey::from_der(chain, private, provider)
        .map_err(|source| Error::Key { path: key.clone(), source })
}
