//! Files: scp and sftp, with the image's server and with the agent's own.

use std::{fs::File, io::Write as _, process::Stdio, time::Instant};

use crate::client::{Client, file_of, said, sum_of};

/// What any of the two servers must do.
fn check(client: &Client) {
    let home = client.good("pwd").trim().to_owned();
    let local = client.folder.join("local");
    file_of(&local, 3_000_001);
    std::fs::set_permissions(&local, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    let local = local.to_str().unwrap();
    let back = client.folder.join("back");

    let scp = |from: &str, to: &str| {
        said(&client.program("scp", "key", &["-p", "-r", from, to]).output().unwrap(), "scp");
    };
    scp(local, "dev@gate:there");
    assert_eq!(client.good("stat -c %a there").trim(), "750");
    scp("dev@gate:there", back.to_str().unwrap());
    assert!(std::fs::read(local).unwrap() == std::fs::read(&back).unwrap());
    let tree = client.folder.join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/b/c"), "deep").unwrap();
    scp(tree.to_str().unwrap(), "dev@gate:tree");
    assert_eq!(client.good("cat tree/a/b/c"), "deep");

    let batch = "mkdir made\ncd made\npwd\nput LOCAL one\nchmod 600 one\nrename one two\nsymlink two link\n\
        ln two hard\nls -l\nls -l link\nget link BACK\nrm link\ndf .\ncd ..\nrmdir empty\n"
        .replace("LOCAL", local)
        .replace("BACK", back.to_str().unwrap());
    client.good("rm -rf made empty; mkdir empty");
    let mut sftp = client
        .program("sftp", "key", &["-b", "-", "dev@gate"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sftp.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    let told = said(&sftp.wait_with_output().unwrap(), "sftp");
    assert!(told.contains(&format!("Remote working directory: {home}/made")), "{told}");
    let listed = |name: &str| {
        let line =
            told.lines().find(|line| line.trim_end().ends_with(name) && !line.starts_with("sftp>"));
        line.unwrap_or_else(|| panic!("no {name}: {told}")).to_owned()
    };
    let two = listed(" two");
    assert!(two.starts_with("-rw-------") && two.contains(" 3000001 "), "{two}");
    assert!(listed(" link").starts_with("lrwxrwxrwx"), "{told}");
    assert!(std::fs::read(local).unwrap() == std::fs::read(&back).unwrap());
    assert_eq!(client.good("ls made").split_whitespace().collect::<Vec<_>>(), ["hard", "two"]);
    assert_eq!(client.good("readlink made/link 2>/dev/null || echo none").trim(), "none");

    // What is not there, or may not be, is said so.
    let mut refused = client.program("sftp", "key", &["-b", "-", "dev@gate"]);
    refused.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut refused = refused.spawn().unwrap();
    refused.stdin.take().unwrap().write_all(b"get nothing\n").unwrap();
    let refused = refused.wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("nothing\" not found") || told.contains("No such file"), "{told}");
}

#[test]
fn the_agent_serves_files_where_the_image_has_no_server() {
    let template = "name: own\nplatform: local\nenvironment:\n  SFTP_SERVER: built-in\n";
    let Some(client) = Client::before(template, true) else { return };
    check(&client);
}

#[test]
fn the_images_own_server_is_used_where_it_has_one() {
    let there = std::path::Path::new("/usr/lib/openssh/sftp-server").exists();
    if !crate::engine::have("OpenSSH's sftp-server", there) {
        return;
    }
    let Some(client) = Client::start() else { return };
    check(&client);
}

/// Four gigabytes, for whoever has the minutes: `KNOT_SSH_BYTES=4294967296`.
#[test]
fn a_large_transfer_is_whole_while_keys_are_exchanged_again_and_again() {
    let Some(client) = Client::start() else { return };
    let bytes = std::env::var("KNOT_SSH_BYTES").ok().and_then(|bytes| bytes.parse().ok());
    let bytes = bytes.unwrap_or(64 << 20);
    let large = client.folder.join("large");
    file_of(&large, bytes);
    let here = sum_of(File::open(&large).unwrap());
    let limit = ["-v", "-o", "RekeyLimit=1M", "dev@gate"];
    let began = Instant::now();
    let mut up = client.ssh(&[&limit[..], &["cksum"]].concat());
    let ran = up.stdin(File::open(&large).unwrap()).output().unwrap();
    println!("{bytes} bytes up in {:?}", began.elapsed());
    assert_eq!(said(&ran, "upload"), here);
    let exchanges = String::from_utf8_lossy(&ran.stderr).matches("SSH2_MSG_NEWKEYS sent").count();
    assert!(exchanges > 10, "{exchanges} key exchanges");

    let began = Instant::now();
    let line = format!("cat {}", large.display());
    let mut down = client.ssh(&[&limit[1..], &[&line]].concat());
    let mut down = down.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(sum_of(down.stdout.take().unwrap()), here);
    assert!(down.wait().unwrap().success());
    println!("{bytes} bytes down in {:?}", began.elapsed());
}
