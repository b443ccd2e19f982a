//! TLS 1.3 with keys judged by data: a verifier asks a [`Judge`], and nothing else is looked at.
//!
//! Names, dates and chains in certificates decide nothing, except at a first contact, where the
//! other end's certificate must be signed by the authority whose fingerprint the join token holds.
//! Session resumption and early data are off on the accepting side: a resumed session would skip
//! the verifier, and so let a removed key in.

use std::{fmt, sync::Arc, time::Duration};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage, ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest, Sha256};

use super::keys::{KeyPair, PublicKey};

/// A link is given up when nothing has been heard over it for so long, in milliseconds: 1.5 s. QUIC counts from the
/// first packet that is sent after the last that was heard, which is a keep-alive later at most: within 2 s of a
/// server's death all that goes over it has found another way.
const IDLE_TIMEOUT: quinn::VarInt = quinn::VarInt::from_u32(1_500);
/// How often an idle link is kept alive: often enough that two lost packets do not end it.
const KEEP_ALIVE: Duration = Duration::from_millis(400);
/// A moment within the dates of every certificate that knot makes (2033-05-18).
const WITHIN_ALL_DATES: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000));

/// What is known of the other end's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is accepted.
    Known,
    /// It is not, and nothing is known of it.
    Unknown,
    /// It was that of a server which has been removed from the cluster.
    Removed,
    /// It is that of a server which joined with a token that another used too: the other belongs.
    Superseded,
}

/// Judges the other end's key.
pub type Judge = Arc<dyn Fn(&PublicKey) -> Verdict + Send + Sync>;

/// The QUIC close code of a connection whose key the other end knows to be a removed server's: TLS
/// alert `certificate_revoked` (RFC 9001, section 4.8).
const REVOKED: u64 = 0x100 + 44;
/// The same of a server whose token another used: TLS alert `access_denied`.
const DENIED: u64 = 0x100 + 49;

/// What the other end said of our key when it ended a connection: removed or superseded, or nothing.
pub fn says(error: &quinn::ConnectionError) -> Option<Verdict> {
    let quinn::ConnectionError::ConnectionClosed(close) = error else { return None };
    match u64::from(close.error_code) {
        REVOKED => Some(Verdict::Removed),
        DENIED => Some(Verdict::Superseded),
        _ => None,
    }
}

/// Whom a dialling end accepts.
#[derive(Clone)]
pub enum Accept {
    /// A key that the judge knows.
    Known(Judge),
    /// At a first contact: a certificate signed by the authority with this SHA-256.
    SignedBy([u8; 32]),
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Known(_) => "Known",
            Self::SignedBy(_) => "SignedBy",
        })
    }
}

/// TLS could not be set up from these keys and certificates. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("TLS could not be set up: {0}")]
pub struct Error(#[from] TlsError);

/// The SHA-256 of an authority's certificate, as a join token holds it.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The accepting side: every client must present a key that `judge` knows.
pub fn server_config(
    key: &KeyPair,
    chain: Vec<CertificateDer<'static>>,
    judge: Judge,
    protocols: &[&[u8]],
) -> Result<quinn::ServerConfig, Error> {
    let provider = provider();
    let verifier = Verifier { accept: Accept::Known(judge), algorithms: algorithms(&provider) };
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key.to_rustls())?;
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    let quic = QuicServerConfig::try_from(tls)
        .map_err(|_| TlsError::General("no QUIC cipher suite".to_owned()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(quic));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// The dialling side: it presents `chain` and speaks the one `protocol`.
pub fn client_config(
    key: &KeyPair,
    chain: Vec<CertificateDer<'static>>,
    accept: Accept,
    protocol: &[u8],
) -> Result<quinn::ClientConfig, Error> {
    let provider = provider();
    let verifier = Verifier { accept, algorithms: algorithms(&provider) };
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key.to_rustls())?;
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let quic = QuicClientConfig::try_from(tls)
        .map_err(|_| TlsError::General("no QUIC cipher suite".to_owned()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// The most bytes of datagrams that wait each way: the oldest are dropped.
const DATAGRAMS: usize = 64 << 10;

/// The longest packet that is tried, in bytes of UDP; it fits into a jumbo frame. How much of it a path takes is found out
/// ([RFC 8899](https://www.rfc-editor.org/rfc/rfc8899)); most of what a byte costs goes with packets. Of ten, which quinn hands
/// over at a time, the system takes 65,487 bytes at most: longer ones are dropped in silence, and look like a narrow path.
const MAX_PACKET: u16 = 6_500;

/// How many bytes may be on their way before the first of them is acknowledged: some of the longest packets. quinn sends no
/// close while as much as that is on its way, and the packets that try how long one may be are as long as several.
const WINDOW: u64 = 64 << 10;

/// What an endpoint of a server, or of an agent, is set to.
pub fn endpoint() -> quinn::EndpointConfig {
    let mut endpoint = quinn::EndpointConfig::default();
    // Lengths from 1,200 to 65,527 are taken: this is one.
    endpoint.max_udp_payload_size(MAX_PACKET).ok();
    endpoint
}

fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    let mut lengths = quinn::MtuDiscoveryConfig::default();
    lengths.upper_bound(MAX_PACKET);
    let mut congestion = quinn::congestion::CubicConfig::default();
    congestion.initial_window(WINDOW);
    transport
        .congestion_controller_factory(Arc::new(congestion))
        .mtu_discovery_config(Some(lengths))
        .max_idle_timeout(Some(IDLE_TIMEOUT.into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS)
        .max_concurrent_uni_streams(quinn::VarInt::from_u32(0))
        .max_concurrent_bidi_streams(quinn::VarInt::from_u32(1_024));
    transport
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

#[derive(Debug)]
struct Verifier {
    accept: Accept,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), TlsError> {
        match &self.accept {
            Accept::Known(judge) => {
                let key = PublicKey::of_certificate(certificate)
                    .map_err(|_| CertificateError::BadEncoding)?;
                match judge(&key) {
                    Verdict::Known => Ok(()),
                    Verdict::Unknown => Err(CertificateError::UnknownIssuer.into()),
                    Verdict::Removed => Err(CertificateError::Revoked.into()),
                    Verdict::Superseded => {
                        Err(CertificateError::ApplicationVerificationFailure.into())
                    }
                }
            }
            Accept::SignedBy(wanted) => {
                let authority = intermediates
                    .iter()
                    .find(|authority| fingerprint(authority) == *wanted)
                    .ok_or(CertificateError::UnknownIssuer)?;
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone().into_owned())?;
                verify_server_cert_signed_by_trust_anchor(
                    &ParsedCertificate::try_from(certificate)?,
                    &roots,
                    &[],
                    WITHIN_ALL_DATES,
                    self.algorithms.all,
                )
            }
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.judge(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.judge(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
