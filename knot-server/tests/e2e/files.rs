//! Files copied to and from real spaces.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use rustix::process::Signal;

use crate::world::{World, describe, path};

/// Bytes that differ from place to place.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) ^ (at >> 11)) as u8).collect()
}

fn write(at: &Path, content: &[u8], mode: u32, changed: u64) {
    fs::write(at, content).unwrap();
    let file = fs::File::options().write(true).open(at).unwrap();
    file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(changed)).unwrap();
}

fn mode_and_time(at: &Path) -> (u32, u64) {
    let found = fs::metadata(at).unwrap();
    let changed = found.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs();
    (found.permissions().mode() & 0o777, changed)
}

#[test]
fn files_and_folders_are_copied_both_ways() {
    let world = World::start(2);
    world.json(1, &["space", "create", "dev", "--template", "shell", "--start"]);
    let here = world.folder.path().join("here");
    fs::create_dir_all(here.join("src/deep/empty")).unwrap();
    write(&here.join("one"), b"one\n", 0o751, 1_700_000_000);
    write(&here.join("src/a b"), &content(300_000), 0o644, 1_600_000_000);
    write(&here.join("src/deep/none"), b"", 0o600, 1_500_000_000);
    std::os::unix::fs::symlink("one", here.join("src/link")).unwrap();

    world.knot(1, &["cp", path(&here.join("one")), "dev:two"]);
    let stat = world.knot(2, &["space", "exec", "dev", "--", "stat", "-c", "%a %Y %s", "two"]);
    assert_eq!(stat, "751 1700000000 4\n");
    // Over what is there; then there is nothing to do.
    write(&here.join("one"), b"another\n", 0o640, 1_700_000_001);
    assert_eq!(world.json(2, &["cp", path(&here.join("one")), "dev:two"])["files"], 1);
    assert_eq!(world.json(2, &["cp", path(&here.join("one")), "dev:two"])["unchanged"], 1);
    assert_eq!(world.knot(1, &["space", "exec", "dev", "--", "cat", "two"]), "another\n");

    let refused = world.client(1).args(["cp", path(&here.join("src")), "dev:."]).output().unwrap();
    assert!(describe(&refused).contains("add -r"), "{}", describe(&refused));
    let copied =
        world.client(1).args(["cp", "-r", path(&here.join("src")), "dev:."]).output().unwrap();
    assert!(copied.status.success(), "{}", describe(&copied));
    assert!(describe(&copied).contains("link is left out"), "{}", describe(&copied));
    let back = world.folder.path().join("back");
    world.knot(2, &["cp", "-r", "dev:src", path(&back)]);
    assert_eq!(fs::read(back.join("a b")).unwrap(), content(300_000));
    assert_eq!(mode_and_time(&back.join("a b")), (0o644, 1_600_000_000));
    assert_eq!(mode_and_time(&back.join("deep/none")), (0o600, 1_500_000_000));
    assert!(back.join("deep/empty").is_dir());
    // Into a folder that is there, under its own name.
    world.knot(1, &["cp", "dev:src/a b", path(&here)]);
    assert_eq!(mode_and_time(&here.join("a b")), (0o644, 1_600_000_000));
    let parts = world.knot(1, &["space", "exec", "dev", "--", "find", ".", "-name", "*.knot-part"]);
    assert_eq!(parts, "", "what is whole leaves nothing behind");

    for (arguments, said) in [
        (["cp", "dev:nothing", "x"], "there is no such file or folder"),
        (["cp", "nothing", "dev:x"], "No such file"),
        (["cp", "a", "b"], "neither is in a space"),
        (["cp", "dev:a", "dev:b"], "both are in spaces"),
    ] {
        let output = world.client(1).args(arguments).output().unwrap();
        assert!(describe(&output).contains(said), "{}", describe(&output));
        assert!(!output.status.success());
    }
}

#[test]
fn a_copy_that_was_broken_off_goes_on_where_it_was() {
    let world = World::start(1);
    world.json(1, &["space", "create", "dev", "--template", "shell", "--start"]);
    let here = world.folder.path().join("big");
    let whole = content(80 << 20);
    write(&here, &whole, 0o644, 1_700_000_000);
    world.knot(1, &["cp", path(&here), "dev:big"]);

    let target = world.folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let part = || {
        let mut entries = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.extension().is_some_and(|part| part == "knot-part"))
    };
    let arguments = ["cp", "dev:big", path(&target)];
    // The system kills whoever writes more of a file than this: 20 or 40 MB, for shells count in other blocks.
    let client = world.client(1);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 40000 && exec \"$0\" \"$@\""]).arg(client.get_program());
    for (name, value) in client.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let broken = limited.args(arguments).stdin(Stdio::null()).output().unwrap();
    assert_eq!(broken.status.signal(), Some(Signal::XFSZ.as_raw()), "{}", describe(&broken));
    let came = fs::metadata(part().unwrap()).unwrap().len();
    assert!(came > 0 && came < whole.len() as u64, "it was not broken off");
    let copied = world.json(1, &arguments);
    assert_eq!((&copied["files"], &copied["resumed"]), (&1.into(), &1.into()));
    assert_eq!(copied["bytes"], whole.len() as u64 - came);
    assert!(fs::read(target.join("big")).unwrap() == whole, "it is another file");
    assert!(part().is_none());

    // Of another file nothing is gone on with.
    write(&here, &content(3 << 20), 0o644, 1_700_000_009);
    let copied = world.json(1, &["cp", path(&here), "dev:big"]);
    assert_eq!((&copied["files"], &copied["resumed"]), (&1.into(), &0.into()));
}
