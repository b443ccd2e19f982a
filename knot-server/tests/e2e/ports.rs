//! Ports of real spaces: through any server with curl, on this machine with `knot port-forward`, and from
//! one space to another. The programs listen on this machine's loopback, where local spaces run.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    block::port,
    engine::have,
    stopped::two_stopped,
    wait::{BOUND, bounded, eventually},
    world::{Running, World, describe},
};

/// A program that says back in capitals what it has heard, once it has heard all.
pub(crate) fn program() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let (mut stream, mut heard) = (stream.unwrap(), Vec::new());
                if stream.read_to_end(&mut heard).is_ok() {
                    stream.write_all(&heard.to_ascii_uppercase()).ok();
                }
            });
        }
    });
    port
}

/// What the program behind an address answers.
pub(crate) fn ask(at: SocketAddr, text: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let text = text.to_vec();
    let sent = std::thread::spawn(move || {
        writer.write_all(&text).ok();
        writer.shutdown(Shutdown::Write).ok();
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    sent.join().unwrap();
    answer
}

/// `knot port-forward` through the n-th server, and where it listens.
pub(crate) fn forward(world: &World, n: usize, arguments: &[&str]) -> (Running, SocketAddr) {
    let mut child = world
        .client(n)
        .args([&["port-forward"], arguments, &["--json"]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    let listening: Value = bounded(child.id(), || {
        loop {
            text.push_str(&lines.next().expect("it ended").unwrap());
            if let Ok(value) = serde_json::from_str(&text) {
                break value;
            }
        }
    });
    (Running(child), listening["local"].as_str().unwrap().parse().unwrap())
}

#[test]
fn a_port_is_brought_to_this_machine_through_any_server() {
    let world = World::start(2);
    world.json(1, &["space", "create", "dev", "--template", "shell", "--start"]);
    let pair = format!("0:{}", program());
    for n in [1, 2] {
        let (_forward, at) = forward(&world, n, &["dev", &pair]);
        assert_eq!(ask(at, b"hello"), b"HELLO");
        let much: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        assert_eq!(ask(at, &much), much.to_ascii_uppercase());
        let many: Vec<_> = (0..20).map(|_| std::thread::spawn(move || ask(at, b"many"))).collect();
        many.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), b"MANY"));
    }

    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let pair = format!("0:{}", echo.local_addr().unwrap().port());
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((count, from)) = echo.recv_from(&mut buffer) {
            echo.send_to(&buffer[..count], from).ok();
        }
    });
    let (_forward, at) = forward(&world, 2, &["dev", &pair, "--udp"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for text in [&b"one"[..], &[7; 20_000], b""] {
        let mut buffer = [0; 65_536];
        eventually("a datagram comes back", || {
            socket.send_to(text, at).unwrap();
            // One that was sent again may come twice, and late.
            while let Ok(count) = socket.recv(&mut buffer) {
                if buffer[..count] == *text {
                    return Some(());
                }
            }
            None
        });
    }

    // What cannot be is said, and does not end it.
    let output = world.client(1).args(["port-forward", "nothing", "80"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", describe(&output));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = format!("{}:80", taken.local_addr().unwrap().port());
    let output = world.client(1).args(["port-forward", "dev", &pair]).output().unwrap();
    assert!(describe(&output).contains("name another port before the colon"));
}

#[test]
fn a_forward_starts_a_stopped_space_where_its_template_says_so_and_once() {
    let world = two_stopped();
    let pair = format!("0:{}", program());
    let refused = world.client(2).args(["port-forward", "strict", &pair]).output().unwrap();
    let said = describe(&refused);
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("knot space start strict") && said.contains("its template"), "{said}");
    assert_eq!(world.json(2, &["space", "show", "strict"])["desired"], "stopped");

    let mut child = world
        .client(2)
        .args(["port-forward", "lazy", &pair])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let _forward = Running(child);
    let listening = lines.next().expect("it ended").unwrap();
    let at = listening.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert_eq!(ask(at, b"hello"), b"HELLO");
    let progress = errors.next().unwrap().unwrap();
    assert!(progress.starts_with("lazy: "), "{progress}");

    // What is left open does not bring it back.
    world.knot(1, &["space", "stop", "lazy"]);
    assert_eq!(ask(at, b"hello"), b"");
    let why = errors.map(Result::unwrap).find(|line| !line.starts_with("lazy: ")).unwrap();
    assert!(why.contains("a connection to port"), "{why}");
    assert_eq!(world.json(2, &["space", "show", "lazy"])["desired"], "stopped");
}

#[test]
fn curl_opens_a_port_through_any_server() {
    let curl = Command::new("curl").arg("--version").output().is_ok();
    if !have("curl", curl) {
        return;
    }
    let world = World::start(2);
    world.json(1, &["space", "create", "dev", "--template", "shell", "--start"]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = axum::routing::any(async |body: axum::body::Bytes| format!("heard {}", body.len()));
    let routes =
        axum::Router::new().route("/", said).layer(axum::extract::DefaultBodyLimit::disable());
    runtime.spawn(async move { axum::serve(listener, routes).await });
    let bearer = format!("Authorization: Bearer {}", world.token());
    let big = world.folder.path().join("big");
    std::fs::write(&big, vec![1; 30 << 20]).unwrap();
    for n in [1, 2] {
        let at = world.url(n).rsplit_once(':').unwrap().1;
        let url = format!("http://{port}--dev--admin.localhost:{at}/");
        let opened = |arguments: &[&str]| {
            let output = Command::new("curl")
                .args(["-sS", "-m", "60", &url])
                .args(arguments)
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(opened(&["-H", &bearer]), "heard 0");
        let upload = format!("@{}", big.display());
        assert_eq!(
            opened(&["-H", &bearer, "--data-binary", &upload]),
            format!("heard {}", 30 << 20)
        );
        assert_eq!(opened(&["-H", &bearer, "--http2-prior-knowledge"]), "heard 0");
        assert!(opened(&[]).contains("not_signed_in"));
    }
    world.knot(1, &["port", "share", "dev", &port.to_string(), "--with", "public"]);
    let listed = world.json(2, &["port", "list", "dev"]);
    assert_eq!(listed["ports"][0]["access"], "public");
    let url = listed["ports"][0]["url"].as_str().unwrap();
    let output = Command::new("curl").args(["-sS", "-m", "60", url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "heard 0", "{}", describe(&output));

    world.knot(1, &["space", "stop", "dev"]);
    eventually("the other server has heard of it", || {
        let html = ["-sS", "-m", "60", "-H", "Accept: text/html", url];
        let output = Command::new("curl").args(html).output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains("dev is stopped").then_some(())
    });
}

#[test]
fn a_port_of_one_space_leads_to_another_space() {
    let world = World::start(2);
    for name in ["web", "db"] {
        world.json(1, &["space", "create", name, "--template", "shell", "--start"]);
    }
    let to = format!("db:{}", program());
    // Local spaces share this machine's loopback.
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, port()));
    let port = free.port().to_string();
    world.knot(2, &["space", "forward", "web", &port, &to]);
    assert!(world.knot(2, &["space", "show", "web"]).contains(&format!("{port} to {to}")));
    eventually("the agent listens", || TcpStream::connect(free).ok().map(drop));
    assert_eq!(ask(free, b"hello"), b"HELLO");
    world.knot(1, &["space", "stop", "db"]);
    assert_eq!(ask(free, b"hello"), b"");
    world.knot(1, &["space", "start", "db"]);
    eventually("it leads there again", || (ask(free, b"hello") == b"HELLO").then_some(()));
    world.knot(1, &["space", "forward", "web", &port, "--remove"]);
    eventually("the agent listens no more", || TcpStream::connect(free).err().map(drop));
    let refused =
        world.client(1).args(["space", "forward", "web", &port, "nothing:1"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(4), "{}", describe(&refused));
}
