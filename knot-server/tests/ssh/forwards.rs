//! Ports, sockets, agents and jumps.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    process::Command,
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    block::port,
    client::{Client, Piped, said},
    wait::eventually,
};

/// A server that takes one connection at a time, reads it to its end, and answers what it read.
pub(crate) fn echo_server() -> (JoinHandle<()>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let mut stream = stream.unwrap();
            let mut text = Vec::new();
            // What breaks is for whoever sent it to judge; a half that has ended leaves the other open.
            if stream.read_to_end(&mut text).is_ok() {
                stream.write_all(&text).ok();
            }
        }
    });
    (serving, at)
}

pub(crate) fn exchange(stream: TcpStream, text: &[u8]) -> Vec<u8> {
    try_exchange(stream, text).expect("the connection holds")
}

/// Sends a text, and gives what came back; `None` where the connection broke.
pub(crate) fn try_exchange(mut stream: TcpStream, text: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(text).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back).ok()?;
    Some(back)
}

pub(crate) fn connect(port: u16) -> TcpStream {
    eventually("the forwarded port listens", || TcpStream::connect(("127.0.0.1", port)).ok())
}

/// Sends a text through a SOCKS proxy and gives what came back.
pub(crate) fn through_socks(port: u16, to: SocketAddr, text: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [5, 0]);
    let port = to.port().to_be_bytes();
    stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, port[0], port[1]]).unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[1], 0, "{answer:?}");
    exchange(stream, text)
}

#[test]
fn ports_are_forwarded_both_ways() {
    let Some(client) = Client::start() else { return };
    let text: Vec<u8> = (0..=255_u8).cycle().take(700_001).collect();
    let (_server, at) = echo_server();
    let (local, socks, gone) = (port(), port(), port());
    let to = format!("{local}:127.0.0.1:{}", at.port());
    let dead = format!("{gone}:127.0.0.1:1");
    let _held = Piped::start(&mut client.ssh(&[
        "-N",
        "-L",
        &to,
        "-L",
        &dead,
        "-D",
        &socks.to_string(),
        "dev@gate",
    ]));
    assert!(exchange(connect(local), &text) == text);
    assert!(through_socks(socks, at, &text) == text);
    let nothing = connect(gone).read(&mut [0; 8]);
    assert!(!matches!(nothing, Ok(1..)), "nothing listens there");

    // Out of the space: a port of its choice, which the client is told.
    let (_server, at) = echo_server();
    let remote = format!("0:127.0.0.1:{}", at.port());
    let mut command = client.ssh(&["-o", "LogLevel=INFO", "-R", &remote, "dev@gate", "cat"]);
    command.stderr(std::process::Stdio::piped());
    let mut held = Piped::start(&mut command);
    let (mut told, mut byte) = (Vec::new(), [0]);
    let complaints = held.0.stderr.as_mut().unwrap();
    while complaints.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        told.push(byte[0]);
    }
    let told = String::from_utf8(told).unwrap();
    let port = told.strip_prefix("Allocated port ").and_then(|told| told.split(' ').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{told}"));
    // The space is on this machine.
    assert!(exchange(connect(port), &text) == text);
    drop(held);
    eventually("the port is given up", || TcpStream::connect(("127.0.0.1", port)).err());
}

#[test]
fn standard_input_and_output_can_be_a_connection() {
    let Some(client) = Client::start() else { return };
    let (_server, at) = echo_server();
    let mut wired =
        Piped::start(&mut client.ssh(&["-W", &format!("127.0.0.1:{}", at.port()), "dev@gate"]));
    wired.types("over the wire\n");
    drop(wired.0.stdin.take());
    assert_eq!(wired.line(), "over the wire");
}

#[test]
fn sockets_are_forwarded_both_ways() {
    let Some(client) = Client::start() else { return };
    let (here, there) = (client.folder.join("here.sock"), client.folder.join("there.sock"));
    let target = client.folder.join("target.sock");
    let listener = UnixListener::bind(&target).unwrap();
    let serving = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        }
    });
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let out = format!("{}:{}", path(&here), path(&target));
    let back = format!("{}:{}", path(&there), path(&target));
    let _held = Piped::start(&mut client.ssh(&["-N", "-L", &out, "-R", &back, "dev@gate"]));
    for socket in [&here, &there] {
        let mut stream = eventually("the socket is there", || UnixStream::connect(socket).ok());
        stream.write_all(b"through a socket").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "THROUGH A SOCKET");
    }
    serving.join().unwrap();
}

#[test]
fn an_agent_is_reached_from_the_space() {
    let Some(client) = Client::start() else { return };
    let socket = client.folder.join("agent.sock");
    let mut agent = Piped::start(Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket));
    eventually("the agent is up", || UnixStream::connect(&socket).ok());
    let added = Command::new("ssh-add")
        .arg(client.folder.join("key"))
        .env("SSH_AUTH_SOCK", &socket)
        .output()
        .unwrap();
    assert!(added.status.success(), "{added:?}");
    let mut command = client.ssh(&["-A", "dev@gate", "ssh-add -l; test -S \"$SSH_AUTH_SOCK\""]);
    let told = said(&command.env("SSH_AUTH_SOCK", &socket).output().unwrap(), "ssh-add");
    assert!(told.contains("laptop (ED25519)"), "{told}");
    let without = client.good("echo \"[$SSH_AUTH_SOCK]\"");
    assert_eq!(without.trim(), "[]");
    agent.0.kill().ok();
}

#[test]
fn a_space_is_reached_by_a_jump() {
    let Some(client) = Client::start() else { return };
    client.world.json(1, &["space", "create", "other", "--template", "shell", "--start"]);
    // Whatever the local user is called: the jump's own name need be nothing.
    let mut jumped = client.ssh(&["-J", "gate", "other", "echo $KNOT_SPACE"]);
    assert_eq!(said(&jumped.output().unwrap(), "jump"), "other\n");
    let mut named = client.ssh(&["-J", "dev@gate", "admin+other.knot", "echo $KNOT_SPACE; exit 4"]);
    let named = named.output().unwrap();
    assert_eq!((named.status.code(), &*named.stdout), (Some(4), &b"other\n"[..]));
    let nowhere = client.ssh(&["-J", "gate", "nowhere", "true"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(255));
}

/// Stops or continues whatever runs of a space, its agent too.
fn signal_space(client: &Client, id: &str, signal: Signal) {
    let folder = client.world.folder.path().to_str().unwrap();
    let mut found = 0;
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&environment);
        let mark = text.split('\0').find_map(|pair| pair.strip_prefix("KNOT_RUN="));
        if mark.is_some_and(|mark| mark.contains(id)) && text.contains(folder) {
            let pid = process.file_name().to_str().unwrap().parse().unwrap();
            kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
            found += 1;
        }
    }
    assert!(found > 0, "nothing runs of {id}");
}

/// The client asks the gateway to listen in a space whose agent does not answer: what goes to another space over the
/// same connection goes on meanwhile.
#[test]
fn a_listener_that_is_slow_to_come_stalls_no_other_channel() {
    let Some(client) = Client::start() else { return };
    client.world.json(1, &["space", "create", "other", "--template", "shell", "--start"]);
    let dev = client.world.json(1, &["space", "show", "dev"])["id"].as_str().unwrap().to_owned();
    let socket = client.folder.join("master");
    let own = format!("ControlPath={}", socket.display());
    let _master =
        Piped::start(&mut client.ssh(&["-o", &own, "-o", "ControlMaster=yes", "-N", "dev@gate"]));
    eventually("the connection is shared", || socket.exists().then_some(()));
    let config = client.folder.join("key.config");
    let jump = format!("ProxyCommand=ssh -F {} -o {own} -W other:22 dev@gate", config.display());
    let mut beside = Piped::start(&mut client.ssh(&["-o", &jump, "dev@other", "exec cat"]));
    let mut exchange_line = |text: &str| {
        beside.types(&format!("{text}\n"));
        assert_eq!(beside.line(), text);
    };
    exchange_line("before");

    signal_space(&client, &dev, Signal::STOP);
    let (_server, at) = echo_server();
    let listen = |port: u16| {
        let to = format!("{port}:127.0.0.1:{}", at.port());
        let mut command = client.ssh(&["-o", &own, "-O", "forward", "-R", &to, "dev@gate"]);
        Piped::start(&mut command)
    };
    let ports: Vec<u16> = (0..4).map(|_| port()).collect();
    let mut asked: Vec<Piped> = ports.iter().map(|port| listen(*port)).collect();
    let mut chosen = listen(0);
    // All five are answered, and lines go on, though the space does nothing until that is so.
    let mut answered = eventually("each is answered", || {
        exchange_line("beside");
        let all = asked.iter_mut().chain([&mut chosen]);
        all.map(|one| one.0.try_wait().unwrap()).collect::<Option<Vec<_>>>()
    });
    exchange_line("beside");
    assert!(!answered.pop().unwrap().success(), "no port was chosen");

    // Those that name their port come when the space goes on.
    signal_space(&client, &dev, Signal::CONT);
    for (port, answered) in ports.iter().zip(answered) {
        assert!(answered.success());
        assert_eq!(exchange(connect(*port), b"late"), b"late");
    }
    exchange_line("after");
}
