//! A stand-in for a security key: an SSH agent on a Unix socket whose keys are made in software, and sign the way a
//! FIDO token does. No hardware is here; what a client and the gateway see of one is the same.
//!
//! The protocol is that of draft-miller-ssh-agent, the signatures those of OpenSSH's PROTOCOL.u2f.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use russh::keys::{
    EcdsaCurve,
    signature::Signer as _,
    ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData},
};
use sha2::{Digest as _, Sha256};

/// A user touched the token.
pub(crate) const PRESENT: u8 = 1;

/// How the token signs, and what it says of it.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// What is signed: the application, the flags and the counter.
    pub(crate) signed: (&'static str, u8, u32),
    /// What is said to have been signed.
    pub(crate) said: (u8, u32),
}

impl Manner {
    /// As a token whose user has touched it.
    pub(crate) fn touched(application: &'static str) -> Self {
        Self { signed: (application, PRESENT, 7), said: (PRESENT, 7) }
    }
}

/// A token with one key, and the agent in front of it.
pub(crate) struct Token {
    pub(crate) socket: PathBuf,
    manner: Arc<Mutex<Manner>>,
}

struct Held {
    key: KeypairData,
    /// Its public half, as it goes over the wire.
    public: Vec<u8>,
    algorithm: &'static str,
    manner: Arc<Mutex<Manner>>,
}

impl Token {
    /// A token with an Ed25519 key, or else one of NIST's P-256. Its public half is written to `NAME.pub` in the
    /// folder.
    pub(crate) fn insert(folder: &Path, name: &str, ed25519: bool) -> Self {
        let application = "ssh:";
        let (key, algorithm, point) = if ed25519 {
            let pair = Ed25519Keypair::from_seed(&rand::random());
            let point = string(&pair.public.0);
            (KeypairData::Ed25519(pair), "sk-ssh-ed25519@openssh.com", point)
        } else {
            let pair = EcdsaKeypair::random(&mut rand::rng(), EcdsaCurve::NistP256).unwrap();
            let EcdsaKeypair::NistP256 { public, .. } = &pair else { panic!("another curve") };
            let point = [string(b"nistp256"), string(public.as_bytes())].concat();
            (KeypairData::Ecdsa(pair), "sk-ecdsa-sha2-nistp256@openssh.com", point)
        };
        let public = [string(algorithm.as_bytes()), point, string(application.as_bytes())].concat();
        let line = format!("{algorithm} {} {name}\n", BASE64_STANDARD.encode(&public));
        std::fs::write(folder.join(format!("{name}.pub")), line).unwrap();
        let socket = folder.join(format!("{name}.agent"));
        let listener = UnixListener::bind(&socket).unwrap();
        let manner = Arc::new(Mutex::new(Manner::touched(application)));
        let held = Held { key, public, algorithm, manner: Arc::clone(&manner) };
        // Until the tests end.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                held.serve(client.unwrap());
            }
        });
        Self { socket, manner }
    }

    /// From now on it signs like this.
    pub(crate) fn signs(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

impl Held {
    fn serve(&self, mut client: UnixStream) {
        let mut length = [0; 4];
        while client.read_exact(&mut length).is_ok() {
            let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
            client.read_exact(&mut request).unwrap();
            let answer = match request[0] {
                // SSH_AGENTC_REQUEST_IDENTITIES
                11 => [&[12][..], &[0, 0, 0, 1], &string(&self.public), &string(b"token")].concat(),
                // SSH_AGENTC_SIGN_REQUEST
                13 => {
                    let (key, rest) = split(&request[1..]);
                    let (data, _) = split(rest);
                    assert_eq!(key, self.public);
                    [&[14][..], &string(&self.sign(data))].concat()
                }
                // SSH_AGENT_FAILURE, for extensions
                _ => vec![5],
            };
            client.write_all(&string(&answer)).unwrap();
        }
    }

    fn sign(&self, data: &[u8]) -> Vec<u8> {
        let Manner { signed: (application, flags, counter), said } =
            self.manner.lock().unwrap().clone();
        let whole = [
            &Sha256::digest(application)[..],
            &[flags],
            &counter.to_be_bytes(),
            &Sha256::digest(data)[..],
        ]
        .concat();
        let signature = self.key.try_sign(&whole).unwrap();
        let (flags, counter) = said;
        let parts = [string(self.algorithm.as_bytes()), string(signature.as_bytes())].concat();
        [&parts[..], &[flags], &counter.to_be_bytes()].concat()
    }
}

/// Bytes with their length before them.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_at(4);
    let length = u32::from_be_bytes(length.try_into().unwrap());
    rest.split_at(usize::try_from(length).unwrap())
}
