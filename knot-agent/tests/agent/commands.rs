//! Commands without a terminal.

use knot_core::agent::{Exit, FromAgent, MAX_CHUNK, ToAgent};
use quinn::VarInt;

use crate::world::{Session, Told, command, run, runs, shell, until, within, world};

fn numbers(text: &str) -> Vec<u32> {
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[tokio::test]
async fn outputs_are_apart_and_the_status_is_exact() {
    let (_server, _agent, link) = world().await;
    let told = run(&link, &shell("echo out; echo err >&2; exit 7")).await;
    let wanted = Told {
        output: b"out\n".to_vec(),
        error_output: b"err\n".to_vec(),
        exit: Some(Exit::Code(7)),
        failed: None,
    };
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn a_death_by_signal_is_told_as_such() {
    let (_server, _agent, link) = world().await;
    let told = run(&link, &shell("kill -TERM $$")).await;
    assert_eq!(told.exit, Some(Exit::Signal(15)));
}

#[tokio::test]
async fn input_reaches_the_command_and_ends() {
    let (_server, _agent, link) = world().await;
    let mut session = Session::open(&link.connection, &command(&["cat"])).await;
    session.input("one\n").await;
    assert_eq!(session.output_up_to("\n").await, "one\n");
    session.input("two\n").await;
    session.tell(ToAgent::EndOfInput).await;
    let told = session.rest().await;
    assert_eq!((told.output.as_slice(), told.exit), (&b"two\n"[..], Some(Exit::Code(0))));
}

#[tokio::test]
async fn a_command_that_takes_no_input_does_not_stall_its_session() {
    let (_server, _agent, link) = world().await;
    let script = "exec <&-; echo closed; exec sleep 1000";
    let mut session = Session::open(&link.connection, &shell(script)).await;
    session.output_up_to("closed\n").await;
    for _ in 0..64 {
        session.input(vec![b'x'; MAX_CHUNK]).await;
    }
    session.tell(ToAgent::Signal(15)).await;
    assert_eq!(session.rest().await.exit, Some(Exit::Signal(15)));
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group() {
    let (_server, _agent, link) = world().await;
    let mut session =
        Session::open(&link.connection, &shell("sleep 1000 & echo $! $$; wait")).await;
    let processes = numbers(&session.output_up_to("\n").await);
    session.tell(ToAgent::Signal(9)).await;
    assert_eq!(session.rest().await.exit, Some(Exit::Signal(9)));
    until("both to be gone", || !processes.iter().any(|process| runs(*process))).await;
}

#[tokio::test]
async fn much_output_arrives_whole_while_others_go_on() {
    let (_server, agent, link) = world().await;
    let mut slow = Session::open(&link.connection, &shell("seq 1 1200000; echo end >&2")).await;
    let Some(FromAgent::Output(first)) = slow.next().await else { panic!("no output") };
    // Nobody reads on: the command waits, and nothing piles up in the agent.
    let before = agent.resident();
    for _ in 0..10 {
        assert_eq!(run(&link, &shell("exit 5")).await.exit, Some(Exit::Code(5)));
    }
    let grown = agent.resident().saturating_sub(before);
    assert!(grown < 4 << 10, "{grown} KiB");
    let mut told = slow.rest().await;
    told.output.splice(..0, first);
    let wanted: String = (1..=1_200_000).map(|n| format!("{n}\n")).collect();
    assert!(wanted.len() > 8 << 20);
    assert!(told.output == wanted.as_bytes(), "{} of {} bytes", told.output.len(), wanted.len());
    assert_eq!((told.error_output.as_slice(), told.exit), (&b"end\n"[..], Some(Exit::Code(0))));
}

#[tokio::test]
async fn a_process_left_behind_does_not_hold_up_the_exit() {
    let (_server, _agent, link) = world().await;
    let told = run(&link, &shell("sleep 1000 & echo $!; seq 1 2000; exit 4")).await;
    assert_eq!(told.exit, Some(Exit::Code(4)));
    let text = String::from_utf8(told.output).unwrap();
    assert!(text.ends_with("\n2000\n"));
    let left = numbers(&text)[0];
    assert!(runs(left), "what was left behind on purpose lives on");
    run(&link, &shell(&format!("kill {left}"))).await;
}

#[tokio::test]
async fn a_process_left_behind_that_never_stops_talking_does_not_either() {
    let (_server, _agent, link) = world().await;
    let told = run(&link, &shell("yes & echo $! >&2")).await;
    assert_eq!(told.exit, Some(Exit::Code(0)));
    let left = numbers(std::str::from_utf8(&told.error_output).unwrap())[0];
    until("SIGPIPE", || !runs(left)).await;
}

#[tokio::test]
async fn a_hung_up_session_takes_its_group_along() {
    let (_server, _agent, link) = world().await;
    // The second group member ignores the first, polite signal.
    let script = "(trap '' HUP; sleep 1000 & echo $!; wait) & echo $$; wait";
    for way in ["stopped", "reset", "dropped"] {
        let mut session = Session::open(&link.connection, &shell(script)).await;
        let mut processes = Vec::new();
        while processes.len() < 2 {
            processes.extend(numbers(&session.output_up_to("\n").await));
        }
        match way {
            "stopped" => session.receive.stop(VarInt::from_u32(0)).unwrap(),
            "reset" => session.send.reset(VarInt::from_u32(0)).unwrap(),
            _ => drop(session),
        }
        until(way, || !processes.iter().any(|process| runs(*process))).await;
    }
}

#[tokio::test]
async fn a_lost_link_hangs_its_sessions_up() {
    let (_server, _agent, link) = world().await;
    let mut session = Session::open(&link.connection, &shell("echo $$; exec sleep 1000")).await;
    let process = numbers(&session.output_up_to("\n").await)[0];
    link.connection.close(VarInt::from_u32(0), b"");
    until("the command to end", || !runs(process)).await;
}

#[tokio::test]
async fn a_server_without_more_to_say_still_hears_the_end() {
    let (_server, _agent, link) = world().await;
    let mut session = Session::open(&link.connection, &shell("cat; echo done")).await;
    session.send.finish().unwrap();
    let told = session.rest().await;
    assert_eq!((told.output.as_slice(), told.exit), (&b"done\n"[..], Some(Exit::Code(0))));
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let (_server, _agent, link) = world().await;
    let told = run(&link, &command(&["no-such-program"])).await;
    assert!(told.failed.unwrap().contains("`no-such-program` was not found in "));
    let mut open = shell("true");
    open.directory = Some("/no/such".to_owned());
    assert!(run(&link, &open).await.failed.unwrap().contains("/no/such"));
}

#[tokio::test]
async fn the_environment_is_the_sessions_and_holds_no_secret() {
    let (_server, _agent, link) = world().await;
    let mut open = command(&["env"]);
    open.environment = [("COLOUR".to_owned(), "green".to_owned())].into();
    let told = run(&link, &open).await;
    let text = String::from_utf8(told.output).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.contains(&"COLOUR=green") && lines.contains(&"KNOT_SPACE=calm-otter"), "{text}");
    assert!(!text.contains("KNOT_AGENT_LAUNCH"), "{text}");
    open = command(&["pwd"]);
    open.directory = Some("/usr".to_owned());
    assert_eq!(run(&link, &open).await.output, b"/usr\n");
}

#[tokio::test]
async fn sessions_beyond_the_limit_are_told_so() {
    let (_server, _agent, link) = world().await;
    let mut waiting = Vec::new();
    for _ in 0..knot_agent::sessions::MAX_SESSIONS {
        let (mut send, receive) = within("a stream", link.connection.open_bi()).await.unwrap();
        // Part of a frame: the session has begun and waits for the rest.
        send.write_all(&[0]).await.unwrap();
        waiting.push((send, receive));
    }
    let told = run(&link, &shell("true")).await;
    assert!(told.failed.unwrap().starts_with("1000 sessions are open"));
    waiting.clear();
    within("room", async {
        while run(&link, &shell("true")).await.failed.is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
