//! Asks a space whether it is well: connects to a port, gets a page, or runs a command.

use std::{io, sync::Arc, time::Duration};

use knot_core::agent::{Probe, words};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::script::Shell;

/// Where a space's own ports are.
const HERE: [&str; 2] = ["127.0.0.1", "::1"];
/// The longest status line that is read, in bytes.
const STATUS_LINE: usize = 1_024;

/// Asks once. The answer is what there is to say: well, or why not.
pub async fn ask(probe: &Probe, limit: Duration, shell: &Shell) -> Result<String, String> {
    let answer = async {
        match probe {
            Probe::Tcp(port) => connect(*port).await.map(|_| format!("port {port} is open")),
            Probe::Http { tls, port, path } => {
                let stream = connect(*port).await?;
                let status = if *tls {
                    status(secure(stream).await?, path).await
                } else {
                    status(stream, path).await
                };
                judge(&status.map_err(|error| format!("{probe} was not answered: {error}"))?)
            }
            Probe::Exec(command) => {
                // It bounds itself, and takes its processes along.
                let unbroken = CancellationToken::new();
                let run = shell.run(command, limit, false, &unbroken).await;
                run.map_err(|error| error.to_string())
            }
        }
    };
    match probe {
        Probe::Exec(_) => answer.await,
        _ => timeout(limit, answer).await.unwrap_or_else(|_| {
            Err(format!("{probe} did not answer within {} s", limit.as_secs()))
        }),
    }
}

async fn connect(port: u16) -> Result<TcpStream, String> {
    let mut refused = None;
    for host in HERE {
        match TcpStream::connect((host, port)).await {
            Ok(stream) => return Ok(stream),
            // What the first address says is what people know.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let why = refused.map(|error| error.to_string()).unwrap_or_default();
    Err(format!("port {port} takes no connection: {why}"))
}

/// Asks for a page and reads the line that has its status.
async fn status(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: knot-agent\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut line = Vec::new();
    let mut head = stream.take(STATUS_LINE as u64);
    while !line.contains(&b'\n') && head.read_buf(&mut line).await? > 0 {}
    Ok(words(line.split(|byte| *byte == b'\n').next().unwrap_or_default()))
}

fn judge(line: &str) -> Result<String, String> {
    let mut parts = line.split_ascii_whitespace();
    let http = parts.next().is_some_and(|version| version.starts_with("HTTP/"));
    match parts.next().and_then(|code| code.parse::<u16>().ok()).filter(|_| http) {
        Some(100..400) => Ok(line.to_owned()),
        Some(_) => Err(format!("it answered {line}")),
        None if line.is_empty() => Err("it closed the connection without an answer".to_owned()),
        None => Err(format!("it does not speak HTTP: it answered {line}")),
    }
}

async fn secure(stream: TcpStream) -> Result<impl AsyncRead + AsyncWrite + Unpin, String> {
    let no_tls = |error: &dyn std::fmt::Display| format!("no TLS could be spoken: {error}");
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| no_tls(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(|error| no_tls(&error))?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| no_tls(&error))
}

/// Takes any certificate: the question is whether the space's own server answers, and it is asked
/// within the space.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_below_400_is_well() {
        for line in ["HTTP/1.1 200 OK", "HTTP/1.0 302 Found", "HTTP/1.1 204"] {
            assert!(judge(line).is_ok(), "{line}");
        }
        for line in ["HTTP/1.1 404 Not Found", "HTTP/1.1 503", "SSH-2.0-x", "200", ""] {
            assert!(judge(line).is_err(), "{line}");
        }
    }
}
