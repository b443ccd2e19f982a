//! A container engine, where one answers, and an image for it.

use std::process::{Command, Stdio};

/// Whether an engine of this kind can be used; where not, says so, and in CI fails.
pub(crate) fn have(what: &str, works: bool) -> bool {
    if !works {
        assert!(std::env::var_os("CI").is_none(), "{what} is missing: CI must have it");
        println!("SKIPPED: {what} is missing");
    }
    works
}

/// Whether a Docker engine answers.
pub(crate) fn have_docker() -> bool {
    let info = Command::new("docker").arg("info").output();
    have("a Docker engine", info.is_ok_and(|output| output.status.success()))
}

/// An image with nothing in it; removed with this value.
pub(crate) struct EmptyImage(String);

impl EmptyImage {
    pub(crate) fn make() -> Self {
        let name = format!("knot-test-{}:1", uuid::Uuid::new_v4().simple());
        let mut import = Command::new("docker")
            .args(["import", "-", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // An empty tar archive is two empty blocks.
        std::io::Write::write_all(&mut import.stdin.take().unwrap(), &[0; 1_024]).unwrap();
        assert!(import.wait().unwrap().success());
        Self(name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for EmptyImage {
    fn drop(&mut self) {
        Command::new("docker")
            .args(["rmi", "--force", &self.0])
            .stdout(Stdio::null())
            .status()
            .ok();
    }
}
