//! HTTPS with a certificate of the operator's: real servers, curl and the `knot` client, who trust its authority.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::{
    block::port,
    engine::have,
    left::Left,
    wait::eventually,
    world::{Running, SERVER, coming_up, describe, knot_server, path},
};

/// An authority, and the files of a server.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // One of the same name as what it signs would be taken for that.
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder: folder.to_owned() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a new certificate, and then its key.
    fn issue(&self, host: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file("server.pem"), certificate.pem()).unwrap();
        fs::write(self.file("server.key"), key.serialize_pem()).unwrap();
    }
}

#[test]
fn https_with_a_certificate_that_may_be_renewed() {
    let curl = Command::new("curl").arg("--version").output().is_ok();
    if !have("curl", curl) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let _left = Left::below(folder.path());
    let authority = Authority::new(folder.path());
    authority.issue("127.0.0.1");
    let turn = coming_up();
    let (http, ports) = (port(), port());
    let data = folder.path().join("data");
    let certificate = authority.file("server.pem");
    let key = authority.file("server.key");
    let (http_at, ports_at) = (format!("127.0.0.1:{http}"), format!("127.0.0.1:{ports}"));
    let ssh = format!("127.0.0.1:{}", port());
    let quic = format!("127.0.0.1:{}", port());
    let init = knot_server(&[
        "init",
        "--data",
        path(&data),
        "--name",
        "one",
        "--http",
        &http_at,
        "--quic",
        &quic,
        "--ssh",
        &ssh,
        "--ports-listen",
        &ports_at,
        "--ports-url",
        &format!("https://localhost:{ports}"),
        "--http-certificate",
        path(&certificate),
        "--http-key",
        path(&key),
    ]);
    assert!(init.status.success(), "{}", describe(&init));
    // `run` goes by what `init` has written down.
    let server = Command::new(SERVER)
        .args(["run", "--data", path(&data)])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Running(server);
    let url = format!("https://127.0.0.1:{http}");
    let curl = |arguments: &[&str]| {
        let ca = authority.file("ca.pem");
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "30", "--cacert", path(&ca)]).args(arguments).output().unwrap()
    };
    let live = format!("{url}/livez");
    eventually("the server answers", || curl(&[&live]).status.success().then_some(()));
    drop(turn);
    let version = curl(&["-o", "/dev/null", "-w", "%{http_version}", &live]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), "2", "{}", describe(&version));
    let version = curl(&["--http1.1", "-o", "/dev/null", "-w", "%{http_version}", &live]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), "1.1");

    // The client, a WebSocket of its own, and a port of a space.
    let password =
        String::from_utf8(knot_server(&["admin", "admin", "--data", path(&data)]).stdout).unwrap();
    let knot = |arguments: &[&str]| {
        let mut knot = Command::new(env!("CARGO_BIN_EXE_knot"));
        knot.env("HOME", folder.path())
            .env("SSL_CERT_FILE", authority.file("ca.pem"))
            .env("KNOT_URL", &url);
        knot.env_remove("XDG_CONFIG_HOME").env_remove("KNOT_TOKEN").args(arguments);
        knot
    };
    let mut login = knot(&["login", &url, "--user", "admin", "--password-stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut login.stdin.take().unwrap(), password.as_bytes()).unwrap();
    assert!(login.wait().unwrap().success());
    let run = |arguments: &[&str]| {
        let output = knot(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "knot {arguments:?}: {}", describe(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["space", "create", "dev", "--template", "shell", "--start"]);
    assert_eq!(run(&["space", "exec", "dev", "--", "echo", "hello"]), "hello\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::io::Read::read(&mut stream, &mut [0; 4096]).ok();
            std::io::Write::write_all(
                &mut stream,
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            )
            .ok();
        }
    });
    run(&["port", "share", "dev", &shared, "--with", "public"]);
    let listed: serde_json::Value =
        serde_json::from_str(&run(&["port", "list", "dev", "--json"])).unwrap();
    let shown = listed["ports"][0]["url"].as_str().unwrap();
    assert!(shown.starts_with("https://"), "{shown}");
    let resolved = shown.replacen("localhost", "127.0.0.1", 1);
    let host = format!("Host: localhost:{ports}");
    let opened = curl(&["--http1.1", "-H", &host, &resolved]);
    assert_eq!(String::from_utf8_lossy(&opened.stdout), "hi", "{}", describe(&opened));

    // What is no certificate is not used; the next one is, with no start.
    let presented = || {
        let output = curl(&["-v", "--insecure", "-w", "%{certs}", "-o", "/dev/null", &live]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let first = presented();
    assert!(first.contains("BEGIN CERTIFICATE"), "{first}");
    fs::write(&certificate, "nothing").unwrap();
    authority.issue("127.0.0.1");
    eventually("the new certificate is shown", || {
        let now = presented();
        (now.contains("BEGIN CERTIFICATE") && now != first).then_some(())
    });
    assert!(curl(&[&live]).status.success());
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    authority.issue("127.0.0.1");
    let (certificate, key) = (authority.file("server.pem"), authority.file("server.key"));
    let data = folder.path().join("data");
    let init = knot_server(&[
        "init",
        "--data",
        path(&data),
        "--quic",
        "127.0.0.1:7",
        "--http-certificate",
        path(&certificate),
        "--http-key",
        path(&key),
    ]);
    assert!(init.status.success(), "{}", describe(&init));
    let kept = fs::read_to_string(&key).unwrap();
    authority.issue("127.0.0.1");
    fs::write(&key, kept).unwrap();
    let refused = knot_server(&["run", "--data", path(&data)]);
    assert!(describe(&refused).contains("does not fit the certificate"), "{}", describe(&refused));
    fs::remove_file(&certificate).unwrap();
    let refused = knot_server(&["run", "--data", path(&data)]);
    assert!(describe(&refused).contains("server.pem cannot be read"), "{}", describe(&refused));
}
