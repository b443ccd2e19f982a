//! Spaces of others: who is let in, and how that ends.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Instant,
};

use crate::{
    block::port,
    client::{Client, Piped, said},
    forwards::{connect, echo_server},
    people::People,
    wait::{BOUND, eventually},
};

/// What is said to whom a key signs in, and who reaches nothing.
fn turned_away(client: &Client, key: &str, login: &str) -> String {
    let tried = client.program("ssh", key, &[&format!("{login}@gate"), "true"]).output().unwrap();
    assert_eq!(tried.status.code(), Some(255), "{login} is let in");
    String::from_utf8(tried.stderr).unwrap()
}

/// A session of somebody's in `admin+dev`, and what is forwarded beside it.
struct Visit {
    session: Piped,
    /// A connection through it into the space, over which something has come already.
    held: TcpStream,
    /// A port of the space that leads out.
    out: u16,
}

impl Visit {
    fn pay(client: &Client, key: &str) -> Self {
        let (_, at) = echo_server();
        let (local, out) = (port(), port());
        let (into, outof) =
            (format!("{local}:127.0.0.1:{}", at.port()), format!("{out}:127.0.0.1:{}", at.port()));
        let mut command = client.program(
            "ssh",
            key,
            &["-L", &into, "-R", &outof, "admin+dev@gate", "echo up; exec cat"],
        );
        let mut session = Piped::start(command.stderr(std::process::Stdio::piped()));
        assert_eq!(session.line(), "up");
        let mut held = connect(local);
        held.write_all(b"begun").unwrap();
        eventually("it leads out of the space", || TcpStream::connect(("127.0.0.1", out)).ok());
        Self { session, held, out }
    }

    /// Waits until all of it has ended; what its visitor was told.
    fn ends(mut self, after: &str) -> String {
        let began = Instant::now();
        let _input = self.session.0.stdin.take();
        let mut told = String::new();
        self.session.0.stderr.as_mut().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(self.session.0.wait().unwrap().code(), Some(255), "{after}: {told}");
        println!("{after}: over after {:?}", began.elapsed());
        self.held.set_read_timeout(Some(BOUND)).unwrap();
        let rest = self.held.read(&mut [0; 8]);
        assert!(matches!(rest, Ok(0) | Err(_)), "{after}: the connection into it goes on");
        eventually("the port in the space is given up", || {
            TcpStream::connect(("127.0.0.1", self.out)).err()
        });
        told
    }
}

#[test]
fn a_space_is_reached_by_whom_it_is_shared_with_for_as_long_as_it_is() {
    let Some(client) = Client::start() else { return };
    for name in ["anna", "berta"] {
        client.keygen(name, &["-t", "ed25519"]);
        client.configure(name);
    }
    let mut people = People::of(&client);
    people.make(&client, "anna");
    people.make(&client, "berta");
    let into = |key: &str, login: &str| {
        client
            .program("ssh", key, &[&format!("{login}@gate"), "echo $KNOT_SPACE"])
            .output()
            .unwrap()
    };

    // A space that somebody may not know of is answered like one that there is not.
    for name in ["anna", "berta"] {
        let there = turned_away(&client, name, "admin+dev");
        let nowhere = turned_away(&client, name, "admin+nothing");
        assert_eq!(there.replace("dev", "nothing"), nowhere);
        assert!(nowhere.contains("there is no space `nothing`"), "{nowhere}");
        assert_eq!(turned_away(&client, name, "nobody+nothing"), nowhere);
        assert_eq!(turned_away(&client, name, "nothing"), nowhere);
    }
    client.world.knot(1, &["space", "share", "dev", "anna"]);
    for login in ["admin+dev", "dev"] {
        assert_eq!(said(&into("anna", login), login), "dev\n");
    }
    let other = turned_away(&client, "berta", "admin+dev");
    assert!(other.contains("there is no space `dev`"), "{other}");

    // Whatever ends it, a session that is open ends too, with all that is forwarded; those of others go on.
    let mut owners = Piped::start(&mut client.ssh(&["dev@gate", "echo up; exec cat"]));
    assert_eq!(owners.line(), "up");
    let visit = Visit::pay(&client, "anna");
    client.world.knot(1, &["space", "unshare", "dev", "anna"]);
    let told = visit.ends("unshared");
    assert!(told.contains("knot: ") && told.contains("shared with you no more"), "{told}");
    let gone = turned_away(&client, "anna", "admin+dev");
    assert!(gone.contains("there is no space `dev`"), "{gone}");

    for name in ["anna", "berta"] {
        client.world.knot(1, &["space", "share", "dev", name]);
    }
    let visit = Visit::pay(&client, "anna");
    people.take_key(&client, "anna");
    let told = visit.ends("the key was taken away");
    assert!(told.contains("the key that you signed in with was removed"), "{told}");
    assert!(turned_away(&client, "anna", "admin+dev").contains("Permission denied"));

    let visit = Visit::pay(&client, "berta");
    people.remove(&client, "berta");
    let told = visit.ends("the user was removed");
    assert!(told.contains("knot: "), "{told}");
    assert!(turned_away(&client, "berta", "admin+dev").contains("Permission denied"));

    owners.types("still here\n");
    assert_eq!(owners.line(), "still here");
}
