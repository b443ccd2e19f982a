//! A Podman service of the suite's own: started with the first test that wants it, in a folder of its
//! own, and ended with the process that runs the tests.
//!
//! The configuration makes it run where Debian's defaults do not: cgroups that are hybrid, of which
//! crun wants to know nothing, and limits below those that Podman raises by itself.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Instant,
};

use rustix::process::getpid;

use crate::{registry, wait::BOUND};

/// Says to a server that the suite starts, and kills, where the service is.
const ADDRESS: &str = "KNOT_TEST_PODMAN";

const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

/// Where the service listens. It may not have been started.
pub(crate) fn address() -> String {
    std::env::var(ADDRESS).unwrap_or_else(|_| format!("unix://{}/socket", folder().display()))
}

/// What a server that the suite starts is told of the service.
pub(crate) fn variable() -> (&'static str, String) {
    (ADDRESS, address())
}

/// Starts the service, once; where there is no Podman nothing listens.
pub(crate) fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let folder = folder();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("containers.conf"), CONFIGURATION).unwrap();
        // The suite's registry speaks plain HTTP, which Podman has to be told even of this machine.
        let registry = registry::address().port();
        let registries =
            format!("[[registry]]\nlocation = \"localhost:{registry}\"\ninsecure = true\n");
        fs::write(folder.join("registries.conf"), registries).unwrap();
        clear_up_after_the_dead();
        let (tell, told) = std::sync::mpsc::channel();
        // The service is to die with the thread that started it: this one lives as long as the
        // process, and a test's does not.
        std::thread::spawn(move || {
            tell.send(spawn(&folder)).unwrap();
            loop {
                std::thread::park();
            }
        });
        let socket = self::folder().join("socket");
        if told.recv().unwrap() {
            let begin = Instant::now();
            while UnixStream::connect(&socket).is_err() && begin.elapsed() < BOUND {
                std::thread::yield_now();
            }
        }
    });
}

fn spawn(folder: &Path) -> bool {
    if Command::new("podman").arg("--version").output().is_err() {
        return false;
    }
    podman(folder)
        .args(["system", "service", "--time=0"])
        .arg(format!("unix://{}", folder.join("socket").display()))
        .stdin(Stdio::null())
        .stdout(fs::File::create(folder.join("log")).unwrap())
        .stderr(fs::File::create(folder.join("errors")).unwrap())
        .spawn()
        .is_ok()
}

/// Podman with all that it keeps in a folder. It ends with the thread that starts it.
fn podman(folder: &Path) -> Command {
    let mut podman = Command::new("setpriv");
    podman
        .args(["--pdeathsig", "TERM", "podman"])
        .args(["--root".as_ref(), folder.join("root").as_os_str()])
        .args(["--runroot".as_ref(), folder.join("run").as_os_str()])
        .args(["--tmpdir".as_ref(), folder.join("tmp").as_os_str()])
        .env("CONTAINERS_CONF", folder.join("containers.conf"))
        .env("CONTAINERS_REGISTRIES_CONF", folder.join("registries.conf"));
    podman
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("knot-podman-{}", getpid().as_raw_nonzero()))
}

/// Unmounts and removes the folders of runs of the suite that have ended.
fn clear_up_after_the_dead() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix("knot-podman-") else { continue };
        if Path::new("/proc").join(id).exists() {
            continue;
        }
        // Its containers outlive a service that was killed.
        podman(&entry.path()).args(["rm", "--all", "--force", "--time=0"]).output().ok();
        let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = format!("{}/", entry.path().display());
        let points = mounted.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.starts_with(&below)) {
            Command::new("umount").arg(point).status().ok();
        }
        fs::remove_dir_all(entry.path()).ok();
    }
}
