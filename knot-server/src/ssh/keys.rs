//! The keys that users sign in with: what of a line of `authorized_keys` is taken, and what a certificate
//! says.

use std::{net::IpAddr, time::Duration};

use knot_core::clock::Millis;
use russh::keys::{
    Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, ssh_key::public::KeyData,
};

/// The signatures that are taken: RSA with SHA-2 only.
pub(super) const ALGORITHMS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::SkEd25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];
/// The shortest RSA key, in bits.
const SHORTEST: u32 = 2_048;
/// The longest line that is looked at, in bytes.
const LONGEST: usize = 16 << 10;
/// The longest label, in characters.
const LABEL: usize = 200;
/// By how much clocks may differ.
const LEEWAY: Duration = Duration::from_secs(5 * 60);

/// A line that is no key to sign in with. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKey {
    /// It is the half that nobody may see.
    #[error(
        "this is a private key, which belongs on your own machine only: give the file beside it that ends in \
         .pub. Whoever may have seen this one should not trust it any more"
    )]
    Private,
    /// It is no single line.
    #[error("give one key, as one line: this has {0}")]
    Lines(usize),
    /// It cannot be read.
    #[error(
        "this is no public key as OpenSSH writes it (`ssh-ed25519 AAAA… label`): give the content of a file \
         such as ~/.ssh/id_ed25519.pub"
    )]
    Unreadable,
    /// It is a certificate.
    #[error(
        "this is a certificate: add the public key of the authority that signed it, with `cert-authority ` in \
         front"
    )]
    Certificate,
    /// Its kind is not taken.
    #[error("a {0} key is not taken: make one with `ssh-keygen -t ed25519`")]
    Kind(String),
    /// It is too short.
    #[error(
        "this RSA key has {0} bits, and {SHORTEST} are the least: make one with `ssh-keygen -t ed25519`"
    )]
    Short(u32),
    /// It has an option that means nothing here.
    #[error("the option `{0}` is not known here: `cert-authority` and `principals=\"…\"` are")]
    Option(String),
    /// Principals are those of an authority.
    #[error("`principals` goes with `cert-authority`")]
    Principals,
}

/// A key of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    key: PublicKey,
    /// Whether it signs certificates, and is itself no key to sign in with.
    pub(crate) authority: bool,
    /// Whose certificates of an authority are taken; none for those with the user's name.
    pub(crate) principals: Vec<String>,
}

impl Key {
    /// Reads a line as `authorized_keys` has it.
    ///
    /// # Errors
    /// It is none, or no key that is taken.
    pub(crate) fn parse(text: &str) -> Result<Self, BadKey> {
        if text.contains("PRIVATE KEY") || text.starts_with("PuTTY-User-Key-File") {
            return Err(BadKey::Private);
        }
        let mut lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = match (lines.next(), lines.count()) {
            (None, _) => return Err(BadKey::Unreadable),
            (Some(line), 0) if line.len() <= LONGEST => line,
            (Some(_), 0) => return Err(BadKey::Unreadable),
            (Some(_), more) => return Err(BadKey::Lines(more + 1)),
        };
        if line.split_ascii_whitespace().any(|word| word.contains("-cert-v0")) {
            return Err(BadKey::Certificate);
        }
        for kind in ["ssh-dss", "ssh-dsa"] {
            if line.split_ascii_whitespace().any(|word| word == kind) {
                return Err(BadKey::Kind(kind.to_owned()));
            }
        }
        let (options, key) = options(line);
        let (mut authority, mut principals) = (false, Vec::new());
        for option in options {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "cert-authority" if value.is_empty() => authority = true,
                "principals" => {
                    let names = value.trim_matches('"').split(',').map(str::trim);
                    principals = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
                }
                name => return Err(BadKey::Option(name.to_owned())),
            }
        }
        if !principals.is_empty() && !authority {
            return Err(BadKey::Principals);
        }
        let mut key: PublicKey = key.parse().map_err(|_| BadKey::Unreadable)?;
        check(&key)?;
        let label: String =
            key.comment().as_str_lossy().chars().filter(|c| !c.is_control()).take(LABEL).collect();
        key.set_comment(label);
        Ok(Self { key, authority, principals })
    }

    /// By which it is known: `SHA256:` and base64, as `ssh-keygen -l` has it.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(self.key.key_data())
    }

    /// Its kind, as its line begins.
    pub(crate) fn kind(&self) -> String {
        self.key.algorithm().as_str().to_owned()
    }

    /// What its user calls it.
    pub(crate) fn label(&self) -> String {
        self.key.comment().as_str_lossy().to_owned()
    }

    /// The line that [`Key::parse`] reads.
    pub(crate) fn line(&self) -> String {
        let key = self.key.to_openssh().unwrap_or_default();
        match (self.authority, self.principals.as_slice()) {
            (false, _) => key,
            (true, []) => format!("cert-authority {key}"),
            (true, names) => format!("cert-authority,principals=\"{}\" {key}", names.join(",")),
        }
    }
}

/// The options in front of a key, which commas part, and the key.
fn options(line: &str) -> (Vec<&str>, &str) {
    if ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| line.starts_with(kind)) {
        return (Vec::new(), line);
    }
    let mut quoted = false;
    let mut next = |c: char, ends: char| {
        quoted ^= c == '"';
        !quoted && c == ends
    };
    let Some((options, key)) = line.find(|c| next(c, ' ')).map(|at| line.split_at(at)) else {
        return (Vec::new(), line);
    };
    quoted = false;
    let mut next = |c: char| {
        quoted ^= c == '"';
        !quoted && c == ','
    };
    let options = options.split(&mut next).collect();
    // Words that are no options are no key either: what is said is of the whole.
    if key.split_ascii_whitespace().count() < 2 {
        (Vec::new(), line)
    } else {
        (options, key.trim())
    }
}

fn check(key: &PublicKey) -> Result<(), BadKey> {
    match key.key_data() {
        KeyData::Rsa(rsa) if rsa.key_size() < SHORTEST => Err(BadKey::Short(rsa.key_size())),
        KeyData::Ed25519(_)
        | KeyData::SkEd25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEcdsaSha2NistP256(_)
        | KeyData::Rsa(_) => Ok(()),
        _ => Err(BadKey::Kind(key.algorithm().as_str().to_owned())),
    }
}

/// By which a key is known.
pub(super) fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// What somebody who has signed in with a certificate may do; with a key, all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) terminal: bool,
    pub(super) ports: bool,
    pub(super) agent: bool,
}

impl Rights {
    pub(super) const ALL: Self = Self { terminal: true, ports: true, agent: true };
}

/// Judges a certificate of the authority `of`, whose signature has been checked; `user` is the name of
/// the user whose key the authority is. The error is for the log.
pub(super) fn judge(
    certificate: &Certificate,
    of: &Key,
    user: &str,
    from: IpAddr,
    now: Millis,
) -> Result<Rights, String> {
    if !certificate.cert_type().is_user() {
        return Err("it is a host's".to_owned());
    }
    let allowed = |name: &String| match of.principals.as_slice() {
        [] => name == user,
        names => names.contains(name),
    };
    if !certificate.valid_principals().iter().any(allowed) {
        return Err(format!("it is for {:?}", certificate.valid_principals()));
    }
    let now = u64::try_from(now.0 / 1_000).unwrap_or_default();
    if now.saturating_add(LEEWAY.as_secs()) < certificate.valid_after() {
        return Err("it is not valid yet".to_owned());
    }
    if now > certificate.valid_before().saturating_add(LEEWAY.as_secs()) {
        return Err("it is not valid any more".to_owned());
    }
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "source-address" if value.split(',').any(|net| covers(net.trim(), from)) => {}
            "source-address" => return Err(format!("it is not for {from}")),
            name => return Err(format!("its critical option {name} is not known here")),
        }
    }
    let has = |name: &str| certificate.extensions().contains_key(name);
    Ok(Rights {
        terminal: has("permit-pty"),
        ports: has("permit-port-forwarding"),
        agent: has("permit-agent-forwarding"),
    })
}

/// Whether an address, or a net as `address/bits`, covers an address.
fn covers(net: &str, address: IpAddr) -> bool {
    let (first, bits) =
        net.split_once('/').map_or((net, None), |(first, bits)| (first, Some(bits)));
    let (Ok(first), bits) = (first.parse::<IpAddr>(), bits.map(str::parse::<u32>)) else {
        return false;
    };
    let (first, address, length) = match (first.to_canonical(), address.to_canonical()) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            (u128::from(first.to_bits()) << 96, u128::from(address.to_bits()) << 96, 32)
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => (first.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    match bits {
        None => first == address,
        Some(Ok(0)) => true,
        Some(Ok(bits)) if bits <= length => (first ^ address) >> (128 - bits) == 0,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFG9GJA5ZIS1UXnJFjlmaDKRrRvJEEKjlpXYVSOeVw2x me@laptop";

    #[test]
    fn a_line_is_read_and_written() {
        let key = Key::parse(&format!("# mine\n{ED25519}\n\n")).unwrap();
        assert_eq!((key.kind().as_str(), key.label().as_str()), ("ssh-ed25519", "me@laptop"));
        assert_eq!(key.line(), ED25519);
        assert!(key.fingerprint().starts_with("SHA256:") && key.fingerprint().len() == 50);
        let authority = format!("cert-authority,principals=\"a,b\" {ED25519}");
        let read = Key::parse(&authority).unwrap();
        assert!(read.authority && read.principals == ["a", "b"]);
        assert_eq!(read.line(), authority);
        assert_eq!(read.fingerprint(), key.fingerprint());
    }

    #[test]
    fn what_is_no_key_is_refused_by_what_it_is() {
        let private =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n";
        assert_eq!(Key::parse(private), Err(BadKey::Private));
        assert_eq!(Key::parse(""), Err(BadKey::Unreadable));
        assert_eq!(Key::parse("hello"), Err(BadKey::Unreadable));
        assert_eq!(Key::parse("ssh-ed25519 AAAA x"), Err(BadKey::Unreadable));
        assert_eq!(Key::parse(&format!("{ED25519}\n{ED25519}")), Err(BadKey::Lines(2)));
        assert_eq!(Key::parse("ssh-dss AAAA x"), Err(BadKey::Kind("ssh-dss".to_owned())));
        let certificate = "ssh-ed25519-cert-v01@openssh.com AAAA x";
        assert_eq!(Key::parse(certificate), Err(BadKey::Certificate));
        let forced = format!("command=\"true\" {ED25519}");
        assert_eq!(Key::parse(&forced), Err(BadKey::Option("command".to_owned())));
        let untouched = format!("no-touch-required {ED25519}");
        assert_eq!(Key::parse(&untouched), Err(BadKey::Option("no-touch-required".to_owned())));
        let principals = format!("principals=\"a\" {ED25519}");
        assert_eq!(Key::parse(&principals), Err(BadKey::Principals));
    }

    #[test]
    fn nets_cover_their_addresses() {
        let address: IpAddr = "10.1.2.3".parse().unwrap();
        for net in ["10.1.2.3", "10.0.0.0/8", "0.0.0.0/0", "10.1.2.2/31", "::ffff:10.1.2.3"] {
            assert!(covers(net, address), "{net}");
        }
        for net in ["10.1.2.4", "11.0.0.0/8", "::/0", "10.1.2.3/33", "x", "10.1.2.3/x"] {
            assert!(!covers(net, address), "{net}");
        }
        assert!(covers("2001:db8::/32", "2001:db8::1".parse().unwrap()));
    }
}
