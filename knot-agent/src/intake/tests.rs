//! What becomes of the messages of a space's programs.

use std::io::Write as _;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use proptest::prelude::*;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::TcpStream,
};

use super::*;

#[test]
fn syslog_is_read_as_both_standards_have_it() {
    for (message, line) in [
        ("<34>1 2003-10-11T22:14:15.003Z host su - ID47 - failed for me", "crit su: failed for me"),
        (
            r#"<165>1 2003-10-11T22:14:15.003Z h app 99 - [a@1 b="x ]\" y"][c] two words"#,
            "notice app: two words",
        ),
        ("<14>1 - - - - - -", "info "),
        ("<30>Oct 11 22:14:15 host cron[42]: began", "info cron: began"),
        ("<30>Oct 11 22:14:15 cron[42]: began", "info cron: began"),
        ("<11>app: it broke: badly", "error app: it broke: badly"),
        ("<11>just some words", "error just some words"),
        ("57 <34>1 2003-10-11T22:14:15.003Z host su - - - counted", "crit su: counted"),
        ("no syslog at all", "no syslog at all"),
        ("<999>too high", "<999>too high"),
    ] {
        assert_eq!(syslog::read(message.as_bytes()), line, "{message}");
    }
}

#[test]
fn no_line_controls_a_terminal_or_is_two() {
    assert_eq!(line::clean(b"a\x1b[31mb\nc\td\r\n"), "a\\x1b[31mb\\nc\td");
    assert!(line::clean(&vec![b'x'; 1 << 20]).len() < 9_000);
}

#[test]
fn gelf_is_read_plain_compressed_and_in_parts() {
    let text = br#"{"version":"1.1","host":"h","short_message":"it broke","level":3,"_app":"web"}"#;
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(text).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text).unwrap();
    for message in [text.to_vec(), zlib.finish().unwrap(), gzip.finish().unwrap()] {
        assert_eq!(gelf::read(&message).as_deref(), Some("error web: it broke"));
    }
    assert_eq!(gelf::read(b"{\"short_message\":1}"), None);
    let part = |n: u8| [&[0x1e, 0x0f, 1, 2, 3, 4, 5, 6, 7, 8, n, 3][..], &[b'a' + n; 4]].concat();
    let (mut parts, now) = (Parts::default(), Instant::now());
    assert_eq!(parts.take(&part(2), now), None);
    assert_eq!(parts.take(&part(0), now), None);
    assert_eq!(parts.take(&part(1), now).as_deref(), Some(&b"aaaabbbbcccc"[..]));
    // The first part is too old by the time that the last comes.
    assert_eq!(parts.take(&part(0), now), None);
    assert_eq!(parts.take(&part(1), now), None);
    assert_eq!(parts.take(&part(2), now + Duration::from_secs(6)), None);
}

#[test]
fn a_flood_is_cut_and_said() {
    let now = Instant::now();
    let mut rate = Rate::new(now);
    let taken = (0..5_000).filter(|_| rate.take(now).is_some()).count();
    assert_eq!(taken, 2_000);
    assert_eq!(rate.take(now + Duration::from_secs(1)), Some(3_000));
}

/// A log that can be read.
async fn world() -> (Environment, Lines<BufReader<tokio::io::DuplexStream>>) {
    let intake = Intake::bind().await;
    let mut environment = Environment::new();
    intake.tell(&mut environment);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(intake.run(theirs));
    (environment, BufReader::new(ours).lines())
}

fn address(environment: &Environment, variable: &str) -> SocketAddr {
    environment[std::ffi::OsStr::new(variable)].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_programs_say_stands_in_the_log() {
    let (environment, mut log) = world().await;
    let (other, _) = world().await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let syslog = address(&environment, "KNOT_SYSLOG");
    assert_ne!(syslog, address(&other, "KNOT_SYSLOG"), "two spaces may share a network");
    udp.send_to(b"<11>app: one", syslog).await.unwrap();
    assert_eq!(log.next_line().await.unwrap().unwrap(), "error app: one");
    let gelf = address(&environment, "KNOT_GELF");
    udp.send_to(b"{\"short_message\":\"two\"}", gelf).await.unwrap();
    assert_eq!(log.next_line().await.unwrap().unwrap(), "info two");
    let mut lines = TcpStream::connect(address(&environment, "KNOT_LOG")).await.unwrap();
    lines.write_all(b"three\n\nfour\r\nfive").await.unwrap();
    lines.shutdown().await.unwrap();
    for wanted in ["three", "four", "five"] {
        assert_eq!(log.next_line().await.unwrap().unwrap(), wanted);
    }
    let mut stream = TcpStream::connect(gelf).await.unwrap();
    stream
        .write_all(b"{\"short_message\":\"six\"}\0{\"short_message\":\"seven\"}\0")
        .await
        .unwrap();
    assert_eq!(log.next_line().await.unwrap().unwrap(), "info six");
    assert_eq!(log.next_line().await.unwrap().unwrap(), "info seven");
}

proptest! {
    /// Programs in a space may send anything.
    #[test]
    fn any_bytes_make_at_most_one_line(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        start in prop::sample::select(vec![&b""[..], b"<14>1 ", b"<14>", b"{\"short_message\":\"", b"\x1e\x0f"]),
    ) {
        let message = [start, &bytes].concat();
        let mut parts = Parts::default();
        if let Some(whole) = parts.take(&message, Instant::now()) {
            let lines = Format::ALL.iter().filter_map(|format| format.read(&whole));
            for line in lines {
                prop_assert!(!line.contains('\n') && !line.is_empty() && line.len() < 9_000);
            }
        }
    }
}
