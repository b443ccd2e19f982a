//! Builds the agent that the server carries inside and puts into every space.
//!
//! It is linked statically, so that it runs in any image, an empty one included. It is built by a
//! cargo of its own, into a folder of its own: in the outer cargo's folder the two would wait for
//! each other for ever, and in `OUT_DIR` it would be built again for each of build, test and clippy.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, exit},
};

/// Names a ready agent to be taken instead of building one.
const READY: &str = "KNOT_AGENT";
/// Tells the server's code where the agent is.
const RESULT: &str = "KNOT_AGENT_BINARY";
/// The package and its program.
const NAME: &str = "knot-agent";
/// The profile in the workspace's manifest.
const PROFILE: &str = "agent";

/// What the outer cargo sets for this script, which would make the inner cargo build something
/// else, or somewhere else.
const CLEARED: &[&str] = &[
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "DEBUG",
    "HOST",
    "MAKEFLAGS",
    "MFLAGS",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "TARGET",
];
/// The beginnings of names that are cleared likewise.
const CLEARED_PREFIXES: &[&str] =
    &["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// Finds or builds the agent, and tells the compiler where it is.
pub(crate) fn build() {
    println!("cargo::rerun-if-env-changed={READY}");
    let agent = match env::var_os(READY).filter(|path| !path.is_empty()) {
        Some(path) => ready(Path::new(&path)),
        None => built(),
    };
    println!("cargo::rustc-env={RESULT}={}", agent.display());
}

fn ready(path: &Path) -> PathBuf {
    let Ok(path) = path.canonicalize() else {
        fail(&format!(
            "{READY} names {}, which is not there: give the path of a static knot-agent, or unset it",
            path.display()
        ));
    };
    println!("cargo::rerun-if-changed={}", path.display());
    path
}

fn built() -> PathBuf {
    let workspace = workspace();
    for source in [
        "Cargo.toml",
        "Cargo.lock",
        "knot-agent/Cargo.toml",
        "knot-agent/src",
        "knot-core/Cargo.toml",
        "knot-core/src",
        "knot-server/build.rs",
        "knot-server/build",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let triple = variable("TARGET");
    let folder = folder();
    let mut cargo = Command::new(variable("CARGO"));
    for (name, _) in env::vars_os() {
        let cleared = name.to_str().is_some_and(|name| {
            CLEARED.contains(&name)
                || CLEARED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        });
        if cleared {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(&workspace)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--locked", "--package", NAME, "--bin", NAME])
        .args(["--profile", PROFILE, "--target", &triple])
        .arg("--target-dir")
        .arg(&folder);
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "{NAME} could not be built ({status}; the reason is above). It is linked statically: if \
             the linker found no C library, install the static one (libc6-dev on Debian and Ubuntu, \
             glibc-static on Fedora). Or build it elsewhere and set {READY} to its path"
        )),
        Err(error) => fail(&format!("cargo could not be run for {NAME}: {error}")),
    }
    let agent = folder.join(triple).join(PROFILE).join(NAME);
    if !agent.is_file() {
        fail(&format!("cargo built {NAME}, but not to {}", agent.display()));
    }
    agent
}

/// The folder with the workspace's manifest.
fn workspace() -> PathBuf {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    match package.parent() {
        Some(workspace) => workspace.to_owned(),
        None => fail("knot-server is not in its workspace: build it in a clone of the repository"),
    }
}

/// `knot-agent` in the outer target folder, found from `OUT_DIR`, so that it is where the user wants
/// build output to be: `<target>[/<triple>]/<profile>/build/knot-server-<hash>/out`.
fn folder() -> PathBuf {
    let out = PathBuf::from(variable("OUT_DIR"));
    let outer = out.ancestors().nth(4).map(|above| {
        let is_triple = above.file_name().is_some_and(|name| name == variable("TARGET").as_str());
        if is_triple { above.parent().unwrap_or(above) } else { above }
    });
    match outer {
        Some(outer) => outer.join(NAME),
        None => fail(&format!("OUT_DIR is {}, which is in no target folder", out.display())),
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set: build with cargo")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1);
}
