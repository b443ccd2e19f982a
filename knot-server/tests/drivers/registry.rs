//! A registry of the suite's own, on loopback, which wants a user and a password.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Instant,
};

use rustix::process::getpid;

use crate::{block::port, wait::BOUND};

pub(crate) const USER: &str = "builder";
pub(crate) const PASSWORD: &str = "open sesame";
/// The line of an htpasswd file for those two.
const HTPASSWD: &str = "builder:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";
/// How much there is to fetch.
const SIZE: usize = 24_000_000;

/// Where the registry listens, once it is asked for. A port is looked for before: Podman is told it when
/// its service starts. Whoever waits for it dials it, and must not be given it for the own end.
pub(crate) fn address() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| ([127, 0, 0, 1], port()).into())
}

/// Starts the registry, once; whether there is one. In CI there must be.
pub(crate) fn start() -> bool {
    static STARTED: OnceLock<bool> = OnceLock::new();
    *STARTED.get_or_init(|| {
        clear_up_after_the_dead();
        if Command::new("docker-registry").arg("--version").output().is_err() {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "docker-registry is wanted in CI");
            eprintln!("SKIPPED: there is no docker-registry; it is a package of Debian");
            return false;
        }
        let folder = folder();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("htpasswd"), HTPASSWD).unwrap();
        let configuration = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {0}/images}}}}\n\
             http: {{addr: \"{1}\"}}\n\
             auth: {{htpasswd: {{realm: tests, path: {0}/htpasswd}}}}\n",
            folder.display(),
            address()
        );
        fs::write(&configuration, text).unwrap();
        // It is to die with the thread that started it: this one lives as long as either.
        std::thread::spawn(move || {
            let mut registry = Command::new("setpriv");
            registry.args(["--pdeathsig", "TERM", "docker-registry", "serve"]).arg(configuration);
            let log = fs::File::create(folder.join("log")).unwrap();
            registry.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).status().unwrap();
        });
        let begin = Instant::now();
        while TcpStream::connect(address()).is_err() {
            assert!(begin.elapsed() < BOUND, "the registry does not come up");
            std::thread::yield_now();
        }
        true
    })
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("knot-registry-{}", getpid().as_raw_nonzero()))
}

/// Removes the folders of runs of the suite that have ended.
fn clear_up_after_the_dead() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name.strip_prefix("knot-registry-");
        if id.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// What an image is made of: busybox, and what takes a while to fetch.
pub(crate) fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name("/bin/busybox", "bin/busybox").unwrap();
    // What does not get smaller: each word follows from the one before.
    let mut word = 1_u64;
    let words = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.to_le_bytes()
    });
    let data: Vec<u8> = words.flatten().take(SIZE).collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(SIZE as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "data", &data[..]).unwrap();
    tar.into_inner().unwrap()
}
