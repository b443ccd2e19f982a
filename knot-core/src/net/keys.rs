//! Ed25519 keys, the certificates that carry them through TLS, and the name a key is known by.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, PKCS_ED25519};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};

pub use super::public_key::PublicKey;

/// PKCS#8 version 1 of an Ed25519 key (RFC 8410, section 7) up to the 32 bytes of its seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A key or certificate could not be made or read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The private key is not an Ed25519 key in PKCS#8 form.
    #[error("this is no Ed25519 private key in PKCS#8 form")]
    PrivateKey(#[source] rcgen::Error),
    /// A certificate could not be signed.
    #[error("the certificate could not be made")]
    Certificate(#[source] rcgen::Error),
    /// The bytes are no X.509 certificate.
    #[error("this is no X.509 certificate")]
    NotACertificate(#[source] rustls::Error),
}

impl PublicKey {
    /// The key that a certificate carries. The certificate's other content is not looked at.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = ParsedCertificate::try_from(certificate).map_err(Error::NotACertificate)?;
        Ok(Self::of_hash(Sha256::digest(parsed.subject_public_key_info()).into()))
    }
}

/// An Ed25519 key pair. Its `Debug` form shows the public half only.
pub struct KeyPair(rcgen::KeyPair);

impl KeyPair {
    /// A new random key.
    pub fn generate() -> Result<Self, Error> {
        rcgen::KeyPair::generate_for(&PKCS_ED25519).map(Self).map_err(Error::PrivateKey)
    }

    /// The key of a 32-byte secret: the same secret gives the same key.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, Error> {
        let mut der = PKCS8_PREFIX.to_vec();
        der.extend_from_slice(seed);
        Self::from_der(der)
    }

    /// Reads a key that [`KeyPair::to_base64`] wrote.
    pub fn from_base64(text: &str) -> Result<Self, Error> {
        let der = BASE64_STANDARD
            .decode(text)
            .map_err(|_| Error::PrivateKey(rcgen::Error::CouldNotParseKeyPair))?;
        Self::from_der(der)
    }

    fn from_der(der: Vec<u8>) -> Result<Self, Error> {
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519)
            .map(Self)
            .map_err(Error::PrivateKey)
    }

    /// The private key, PKCS#8 DER in base64. A secret.
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(self.0.serialized_der())
    }

    /// The private key as rustls takes it. A secret.
    pub(super) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }

    /// What the public half is known by.
    pub fn public(&self) -> PublicKey {
        use rcgen::PublicKeyData as _;
        PublicKey::of_hash(Sha256::digest(self.0.subject_public_key_info()).into())
    }

    /// A certificate for this key that this key has signed: an envelope for TLS, proof of nothing.
    pub fn self_signed(&self, name: &str) -> Result<CertificateDer<'static>, Error> {
        let certificate = parameters(name).self_signed(&self.0).map_err(Error::Certificate)?;
        Ok(certificate.der().clone())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public())
    }
}

/// The certificate authority of a cluster. It makes first contact possible and opens no door later.
#[derive(Debug)]
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// The authority of a new cluster.
    pub fn generate() -> Result<Self, Error> {
        Self::of_key(KeyPair::generate()?)
    }

    /// The authority of a cluster whose private key is this one.
    pub fn of_key(key: KeyPair) -> Result<Self, Error> {
        let signed = authority_parameters().self_signed(&key.0).map_err(Error::Certificate)?;
        let certificate = signed.der().clone();
        Ok(Self { key, certificate })
    }

    /// An authority from its parts.
    pub fn from_parts(key: KeyPair, certificate: CertificateDer<'static>) -> Self {
        Self { key, certificate }
    }

    /// Its private key. A secret.
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs a certificate for `key`.
    pub fn sign(&self, name: &str, key: &KeyPair) -> Result<CertificateDer<'static>, Error> {
        let issuer = Issuer::new(authority_parameters(), &self.key.0);
        let signed = parameters(name).signed_by(&key.0, &issuer).map_err(Error::Certificate)?;
        Ok(signed.der().clone())
    }
}

/// The same for each authority: what differs between two clusters' is the key.
fn authority_parameters() -> CertificateParams {
    let mut parameters = parameters("knot cluster");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters
}

/// The dates stay at rcgen's defaults (1975 to 4096): no clock decides who is let in.
fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_key() {
        let first = KeyPair::from_seed(&[7; 32]).unwrap();
        let second = KeyPair::from_seed(&[7; 32]).unwrap();
        assert_eq!(first.public(), second.public());
        assert_ne!(first.public(), KeyPair::from_seed(&[8; 32]).unwrap().public());
    }

    #[test]
    fn a_key_survives_being_written_and_read() {
        let key = KeyPair::generate().unwrap();
        let back = KeyPair::from_base64(&key.to_base64()).unwrap();
        assert_eq!(key.public(), back.public());
        assert_eq!(key.public(), key.public().to_string().parse().unwrap());
    }

    #[test]
    fn a_certificate_carries_the_key_it_was_made_for() {
        let authority = Authority::generate().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = authority.sign("a", &key).unwrap();
        assert_eq!(PublicKey::of_certificate(&certificate).unwrap(), key.public());
        let own = key.self_signed("a").unwrap();
        assert_eq!(PublicKey::of_certificate(&own).unwrap(), key.public());
    }

    #[test]
    fn texts_that_are_no_key_are_refused() {
        for text in ["", "12", &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }
}
