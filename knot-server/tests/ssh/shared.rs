//! Several sessions over one connection: none waits for another.

use std::{fs::File, process::Stdio, time::Instant};

use crate::{
    client::{Client, Piped, said},
    wait::eventually,
};

#[test]
fn a_channel_that_nobody_reads_stops_no_other() {
    let Some(client) = Client::start() else { return };
    let socket = client.folder.join("master");
    let own = format!("ControlPath={}", socket.display());
    let _master =
        Piped::start(&mut client.ssh(&["-o", &own, "-o", "ControlMaster=yes", "-N", "dev@gate"]));
    eventually("the connection is shared", || socket.exists().then_some(()));
    let through = |line: &str| {
        let ran = client.ssh(&["-o", &own, "-o", "ControlMaster=no", "dev@gate", line]).output();
        said(&ran.unwrap(), line)
    };
    assert_eq!(through("echo one"), "one\n");

    // What is sent to one is never read, and what another sends neither.
    let stuck = |line: &str| {
        let mut command = client.ssh(&["-o", &own, "-o", "ControlMaster=no", "dev@gate", line]);
        command.stdin(File::open("/dev/zero").unwrap()).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut deaf = stuck("exec sleep 1000");
    let mut unheard = client
        .ssh(&["-o", &own, "-o", "ControlMaster=no", "dev@gate", "exec yes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    for round in 0..20 {
        assert_eq!(through(&format!("echo {round}")), format!("{round}\n"));
    }
    let bytes = through("head -c 20000000 /dev/zero | tr '\\0' x").len();
    assert_eq!(bytes, 20_000_000);
    println!("20 commands and 20 MB beside two stuck channels: {:?}", began.elapsed());
    assert!(deaf.try_wait().unwrap().is_none(), "the stuck one was given up");
    for child in [&mut deaf, &mut unheard] {
        child.kill().ok();
        child.wait().ok();
    }
    // What had been stopped goes on.
    let mut upload = client.ssh(&["-o", &own, "-o", "ControlMaster=no", "dev@gate", "wc -c"]);
    let zeros = client.folder.join("zeros");
    std::fs::write(&zeros, vec![0; 9_000_000]).unwrap();
    let ran = upload.stdin(File::open(&zeros).unwrap()).output().unwrap();
    assert_eq!(said(&ran, "wc").trim(), "9000000");
}

#[test]
fn a_slow_reader_gets_all_of_it() {
    let Some(client) = Client::start() else { return };
    let large = client.folder.join("large");
    crate::client::file_of(&large, 24 << 20);
    // More than is kept for it waits at the client meanwhile.
    let mut slow = client.ssh(&["dev@gate", "sleep 2; cksum"]);
    let ran = slow.stdin(File::open(&large).unwrap()).output().unwrap();
    assert_eq!(said(&ran, "cksum"), crate::client::sum_of(File::open(&large).unwrap()));
}
