//! Who is let in, and for how long.

use std::{io::Read as _, net::TcpStream, process::Command};

use crate::{
    client::{Client, Piped, said},
    wait::{BOUND, eventually},
};

#[test]
fn keys_are_added_used_and_taken_away() {
    let Some(client) = Client::start() else { return };
    let listed = client.world.json(1, &["key", "ls"]);
    assert_eq!(listed["keys"][0]["label"], "laptop");
    let shown = Command::new("ssh-keygen")
        .args(["-l", "-f"])
        .arg(client.folder.join("key.pub"))
        .output()
        .unwrap();
    let fingerprint = listed["keys"][0]["fingerprint"].as_str().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains(fingerprint));

    for (name, arguments) in
        [("ecdsa", &["-t", "ecdsa", "-b", "384"][..]), ("rsa", &["-t", "rsa", "-b", "2048"])]
    {
        client.keygen(name, arguments);
        client.configure(name);
        let stranger = client.program("ssh", name, &["dev@gate", "true"]).output().unwrap();
        assert_eq!(stranger.status.code(), Some(255), "{name}");
        assert!(String::from_utf8_lossy(&stranger.stderr).contains("Permission denied"));
        client.add_key(&format!("{name}.pub"));
        let ran = client.program("ssh", name, &["dev@gate", "echo in"]).output().unwrap();
        assert_eq!(said(&ran, name), "in\n");
    }
    let sha1 = client
        .program("ssh", "rsa", &["-o", "PubkeyAcceptedAlgorithms=ssh-rsa", "dev@gate", "true"])
        .output()
        .unwrap();
    assert_eq!(sha1.status.code(), Some(255), "RSA with SHA-1 is taken");

    // An open connection ends with its key, and only that.
    let mut other = Piped::start(&mut client.ssh(&["dev@gate", "echo up; exec cat"]));
    let mut held =
        Piped::start(&mut client.program("ssh", "rsa", &["dev@gate", "echo up; exec cat"]));
    assert_eq!((held.line(), other.line()), ("up".to_owned(), "up".to_owned()));
    let keys = client.world.json(1, &["key", "ls"]);
    let rsa = keys["keys"].as_array().unwrap().iter().find(|key| key["kind"] == "ssh-rsa");
    client.world.knot(1, &["key", "remove", rsa.unwrap()["fingerprint"].as_str().unwrap()]);
    // To wait for it would end its input.
    let _input = held.0.stdin.take();
    assert_eq!(held.0.wait().unwrap().code(), Some(255));
    other.types("still here\n");
    assert_eq!(other.line(), "still here");
    let again = client.program("ssh", "rsa", &["dev@gate", "true"]).output().unwrap();
    assert_eq!(again.status.code(), Some(255));
}

#[test]
fn what_is_no_key_is_refused_with_what_to_do() {
    let Some(client) = Client::start() else { return };
    client.keygen("short", &["-t", "rsa", "-b", "1024"]);
    for (file, said) in [("key", "private key"), ("short.pub", "1024 bits")] {
        let path = client.folder.join(file);
        let refused = client.world.client(1).args(["key", "add"]).arg(path).output().unwrap();
        assert!(!refused.status.success());
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains(said), "{file}: {told}");
    }
}

#[test]
fn a_certificate_of_ones_authority_signs_in() {
    let Some(client) = Client::start() else { return };
    let authority = client.keygen("authority", &["-t", "ed25519", "-C", "team"]);
    let line = std::fs::read_to_string(client.folder.join("authority.pub")).unwrap();
    let trusted = client.folder.join("trusted");
    std::fs::write(&trusted, format!("cert-authority {line}")).unwrap();
    assert_eq!(client.add_key("trusted")["authority"], true);
    let sign = |name: &str, arguments: &[&str]| {
        let key = client.keygen(name, &["-t", "ed25519"]);
        client.configure(name);
        let public = format!("{}.pub", key.display());
        let base = ["-q", "-s", authority.to_str().unwrap(), "-I", name];
        client.run_keygen(&[&base[..], arguments, &[public.as_str()]].concat());
        client.program("ssh", name, &["dev@gate", "echo in"]).output().unwrap()
    };
    assert_eq!(said(&sign("good", &["-n", "admin", "-V", "+1h"]), "certificate"), "in\n");
    let here = ["-n", "admin", "-V", "+1h", "-O", "source-address=127.0.0.0/8"];
    assert_eq!(said(&sign("here", &here), "certificate for here"), "in\n");
    for (name, arguments) in [
        ("other", &["-n", "somebody", "-V", "+1h"][..]),
        ("over", &["-n", "admin", "-V", "20200101:20200102"]),
        ("early", &["-n", "admin", "-V", "+1d:+2d"]),
        ("nobody", &["-V", "+1h"]),
        ("forced", &["-n", "admin", "-V", "+1h", "-O", "force-command=id"]),
        ("elsewhere", &["-n", "admin", "-V", "+1h", "-O", "source-address=192.0.2.0/24"]),
        ("verified", &["-n", "admin", "-V", "+1h", "-O", "verify-required"]),
        ("unknown", &["-n", "admin", "-V", "+1h", "-O", "critical:new@example.org=x"]),
        ("host", &["-h", "-n", "admin", "-V", "+1h"]),
    ] {
        let refused = sign(name, arguments);
        assert_eq!(refused.status.code(), Some(255), "{name} is taken");
    }
    // The authority's own key is none to sign in with.
    client.configure("authority");
    let own = client.program("ssh", "authority", &["dev@gate", "true"]).output().unwrap();
    assert_eq!(own.status.code(), Some(255));

    // A certificate is as good as its authority: taken away, it ends what it opened, and signs in nobody else.
    let mut held =
        Piped::start(&mut client.program("ssh", "good", &["dev@gate", "echo up; exec cat"]));
    assert_eq!(held.line(), "up");
    client.world.knot(1, &["key", "remove", "team"]);
    let _input = held.0.stdin.take();
    assert_eq!(held.0.wait().unwrap().code(), Some(255));
    let again = client.program("ssh", "good", &["dev@gate", "true"]).output().unwrap();
    assert_eq!(again.status.code(), Some(255), "an authority that was removed still counts");
}

#[test]
fn the_configuration_that_is_written_works_as_it_is() {
    let Some(client) = Client::start() else { return };
    let home = client.folder.join("home");
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    for _ in 0..2 {
        let wrote =
            client.world.client(1).env("HOME", &home).args(["ssh-config", "--write"]).output();
        said(&wrote.unwrap(), "ssh-config");
    }
    let written = std::fs::read_to_string(home.join(".ssh/knot_config")).unwrap();
    assert_eq!(written.matches("Host *.knot\n").count(), 1, "{written}");
    // The client takes ~ from the account, not from HOME: what it includes is named whole.
    let config = client.folder.join("written.config");
    let include = format!(
        "Include {}\nHost *\n  IdentityFile {}\n  IdentitiesOnly yes\n  BatchMode yes\n",
        home.join(".ssh/knot_config").display(),
        client.folder.join("key").display()
    );
    std::fs::write(&config, include).unwrap();
    for host in ["dev.knot", "admin+dev.knot", "dev@knot-1.knot-server"] {
        let ran = client.program("ssh", "written", &[host, "echo $KNOT_SPACE"]).output().unwrap();
        assert_eq!(said(&ran, host), "dev\n");
    }
}

#[test]
fn a_space_answers_to_its_other_names_and_its_id() {
    let Some(client) = Client::start() else { return };
    client.world.knot(1, &["space", "edit", "dev", "--alt", "web=8080"]);
    let id = client.world.json(1, &["space", "show", "dev"])["id"].as_str().unwrap().to_owned();
    for name in ["web", "admin+web", "admin+dev", &id] {
        let ran = client.ssh(&[&format!("{name}@gate"), "echo $KNOT_SPACE"]).output().unwrap();
        assert_eq!(said(&ran, name), "dev\n");
    }
    let nobodys = client.ssh(&["nobody+dev@gate", "true"]).output().unwrap();
    assert_eq!(nobodys.status.code(), Some(255));
}

#[test]
fn strangers_are_few_and_do_not_stay() {
    let Some(client) = Client::start() else { return };
    let (host, port) = client.address(1);
    let knock = || {
        let mut stream = TcpStream::connect(format!("{host}:{port}")).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let mut greeting = [0; 4];
        let heard = stream.read_exact(&mut greeting).is_ok();
        assert!(!heard || &greeting == b"SSH-");
        heard.then_some(stream)
    };
    let mut strangers: Vec<_> = (0..20).map(|_| knock().unwrap()).collect();
    assert!(knock().is_none(), "one more than an address has");
    let refused = client.run("true");
    assert_eq!(refused.status.code(), Some(255));
    drop(strangers.split_off(1));
    eventually("there is room again", || client.run("true").status.success().then_some(()));
    // Whoever says nothing is shown out.
    let mut rest = Vec::new();
    strangers[0].read_to_end(&mut rest).unwrap();
}
