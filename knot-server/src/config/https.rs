//! Which certificate HTTP is served with.

use std::path::PathBuf;

use super::{Error, Flags, absolute};

/// Where a certificate and its key are, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, and behind it those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Both, or neither.
pub(super) fn load(
    flags: &Flags,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<Files>, Error> {
    let certificate = flags.http_certificate.clone().or(certificate);
    let key = flags.http_key.clone().or(key);
    let missing = |key, why: &str| Err(Error::Value { key, why: why.to_owned() });
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(Files { certificate: absolute(&certificate), key: absolute(&key) }))
        }
        (Some(_), None) => missing("http.key", "http.certificate is given, and its key is not"),
        (None, Some(_)) => {
            missing("http.certificate", "http.key is given, and its certificate is not")
        }
    }
}
