//! Terminals that the agent keeps, whatever becomes of the streams to them.

use bytes::Bytes;
use knot_core::{
    agent::{
        Answer, Attach, Attached, Command, Exit, FromTerminal, Make, Open, Refusal, TerminalInfo,
        TerminalSize, ToTerminal,
    },
    wire::{MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::{RecvStream, SendStream};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::world::{Link, open, runs, shell, until, within, world};

const TERMINAL: Uuid = Uuid::from_u128(1);
const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

async fn next<T: DeserializeOwned>(receive: &mut RecvStream) -> T {
    within("a frame", read_frame(receive, MAX_AGENT_FRAME)).await.unwrap().unwrap()
}

async fn ask(link: &Link, what: Open) -> (Answer, SendStream, RecvStream) {
    let (send, mut receive) = open(&link.connection, &what).await;
    (next(&mut receive).await, send, receive)
}

async fn list(link: &Link) -> Vec<TerminalInfo> {
    let (answer, _send, mut receive) = ask(link, Open::Terminals).await;
    assert_eq!(answer, Answer::Ready);
    next(&mut receive).await
}

/// One viewer's stream.
struct Viewer {
    attached: Attached,
    send: SendStream,
    receive: RecvStream,
}

impl Viewer {
    async fn attach(
        link: &Link,
        viewer: u128,
        make: Option<&str>,
        from: Option<u64>,
    ) -> Result<Self, (Refusal, String)> {
        let run = |script| Make { run: shell(script), name: "proof".to_owned() };
        let attach = Attach {
            terminal: TERMINAL,
            make: make.map(run),
            viewer: Uuid::from_u128(viewer),
            size: SIZE,
            from,
            sent: 0,
        };
        match ask(link, Open::Attach(attach)).await {
            (Answer::Ready, send, mut receive) => {
                Ok(Self { attached: next(&mut receive).await, send, receive })
            }
            (Answer::Refused { refusal, why }, ..) => Err((refusal, why)),
            (other, ..) => panic!("{other:?}"),
        }
    }

    async fn input(&mut self, offset: u64, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let frame = ToTerminal::Input { offset, bytes };
        write_frame(&mut self.send, &frame, MAX_AGENT_FRAME).await.unwrap();
    }

    async fn until(&mut self, wanted: impl Fn(&FromTerminal) -> bool) -> FromTerminal {
        loop {
            let frame = next(&mut self.receive).await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Output up to and with `end`.
    async fn output_up_to(&mut self, end: &str) -> String {
        let mut output = Vec::new();
        while !output.ends_with(end.as_bytes()) {
            let frame = self.until(|frame| matches!(frame, FromTerminal::Output(_))).await;
            let FromTerminal::Output(bytes) = frame else { continue };
            output.extend_from_slice(&bytes);
        }
        String::from_utf8(output).unwrap()
    }
}

#[tokio::test]
async fn a_terminal_outlives_its_streams_and_goes_on_where_each_was() {
    let (_server, _agent, link) = world().await;
    let script = "stty raw -echo; printf ready; exec cat";
    let mut viewer = Viewer::attach(&link, 7, Some(script), None).await.unwrap();
    assert_eq!((viewer.attached.from, viewer.attached.taken), (Some(0), 0));
    assert_eq!(viewer.output_up_to("ready").await, "ready");
    viewer.input(0, "abc").await;
    assert_eq!(
        viewer.until(|frame| matches!(frame, FromTerminal::Taken(_))).await,
        FromTerminal::Taken(3)
    );
    drop(viewer);

    // What was typed and not known to be taken comes again, and is taken once.
    let mut viewer = Viewer::attach(&link, 7, None, Some(5)).await.unwrap();
    assert_eq!((viewer.attached.from, viewer.attached.taken), (Some(5), 3));
    viewer.input(1, "bcde").await;
    assert_eq!(viewer.output_up_to("e").await, "abcde");
    let seen = list(&link).await;
    assert_eq!((seen.len(), seen[0].name.as_str(), seen[0].viewers), (1, "proof", 1));

    // Another viewer is given the screen, and sees what the first one types.
    let mut other = Viewer::attach(&link, 8, None, None).await.unwrap();
    assert_eq!(other.attached.from, None);
    let snapshot = other.until(|frame| matches!(frame, FromTerminal::Snapshot { .. })).await;
    assert!(matches!(snapshot, FromTerminal::Snapshot { at: 10, .. }), "{snapshot:?}");
    viewer.input(5, "!").await;
    assert!(other.output_up_to("!").await.contains("readyabcde"));
}

#[tokio::test]
async fn the_end_is_told_to_who_was_away_too() {
    let (_server, _agent, link) = world().await;
    let viewer = Viewer::attach(&link, 7, Some("read x; echo bye; exit 3"), None).await.unwrap();
    let mut viewer = viewer;
    viewer.input(0, "\n").await;
    viewer.until(|frame| *frame == FromTerminal::Ended(Exit::Code(3))).await;
    assert_eq!(list(&link).await, []);
    let mut late = Viewer::attach(&link, 9, None, None).await.unwrap();
    late.until(|frame| *frame == FromTerminal::Ended(Exit::Code(3))).await;
    let renamed = Open::Rename { terminal: TERMINAL, name: "other".to_owned() };
    let (answer, ..) = ask(&link, renamed).await;
    assert!(matches!(answer, Answer::Refused { refusal: Refusal::NotFound, .. }), "{answer:?}");
}

#[tokio::test]
async fn a_terminal_is_named_and_ended_by_who_looks_at_none() {
    let (_server, _agent, link) = world().await;
    let unknown = Viewer::attach(&link, 7, None, None).await.err().unwrap();
    assert_eq!(unknown.0, Refusal::NotFound);
    let mut viewer = Viewer::attach(&link, 7, Some("echo $$; sleep 1000"), None).await.unwrap();
    let process = viewer.output_up_to("\n").await.trim().parse().unwrap();
    drop(viewer);
    let rename = Open::Rename { terminal: TERMINAL, name: "a\u{7}b".to_owned() };
    assert_eq!(ask(&link, rename).await.0, Answer::Ready);
    assert_eq!(list(&link).await[0].name, "ab");
    assert_eq!(ask(&link, Open::End(TERMINAL)).await.0, Answer::Ready);
    until("its processes to end", || !runs(process)).await;
}

#[tokio::test]
async fn an_agent_that_ends_hangs_its_terminals_up() {
    let (_server, mut agent, link) = world().await;
    let mut viewer = Viewer::attach(&link, 7, Some("echo $$; sleep 1000"), None).await.unwrap();
    let process = viewer.output_up_to("\n").await.trim().parse().unwrap();
    agent.signal(Signal::TERM);
    viewer.until(|frame| *frame == FromTerminal::Stopping).await;
    within("the agent to end", agent.0.wait()).await.unwrap();
    until("its processes to end", || !runs(process)).await;
}

#[tokio::test]
async fn what_cannot_run_is_no_terminal() {
    let (_server, _agent, link) = world().await;
    let run = knot_core::agent::Run {
        command: Command::Program(vec!["no-such-program".to_owned()]),
        ..Default::default()
    };
    let attach = Attach {
        terminal: TERMINAL,
        make: Some(Make { run, name: String::new() }),
        viewer: TERMINAL,
        size: SIZE,
        from: None,
        sent: 0,
    };
    let (answer, ..) = ask(&link, Open::Attach(attach)).await;
    let Answer::Refused { refusal: Refusal::Failed, why } = answer else { panic!("{answer:?}") };
    assert!(why.contains("no-such-program"), "{why}");
    assert_eq!(list(&link).await, []);
}
