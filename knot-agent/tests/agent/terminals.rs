//! Commands with a terminal.

use knot_core::agent::{Exit, Run, TerminalSize, ToAgent};

use crate::world::{Session, command, run, runs, shell, until, world};

fn on_terminal(run: Run) -> Run {
    Run { terminal: Some(TerminalSize { columns: 100, rows: 30 }), ..run }
}

/// A command that another run of the tests on this machine does not have too.
fn sleep_of_this_run(seconds: u32) -> String {
    format!("sleep {seconds}.{}", std::process::id())
}

#[tokio::test]
async fn a_terminal_has_the_size_it_is_given() {
    let (_server, _agent, link) = world().await;
    let open = on_terminal(shell("stty -echo; stty size; read x; stty size; echo $TERM; exit 6"));
    let mut session = Session::open(&link.connection, &open).await;
    assert_eq!(session.output_up_to("\n").await, "30 100\r\n");
    session.tell(ToAgent::Resize(TerminalSize { columns: 132, rows: 50 })).await;
    session.input("\n").await;
    let told = session.rest().await;
    assert_eq!(String::from_utf8(told.output).unwrap(), "50 132\r\nxterm-256color\r\n");
    assert_eq!((told.error_output.as_slice(), told.exit), (&b""[..], Some(Exit::Code(6))));
}

#[tokio::test]
async fn the_terminal_controls_its_session() {
    let (_server, _agent, link) = world().await;
    let open = on_terminal(shell("ps -o tty= -p $$; echo here >/dev/tty; exec sleep 1000"));
    let mut session = Session::open(&link.connection, &open).await;
    let shown = session.output_up_to("here\r\n").await;
    assert!(shown.starts_with("pts/"), "{shown}");
    // Control-C.
    session.input("\u{3}").await;
    assert_eq!(session.rest().await.exit, Some(Exit::Signal(2)));
}

#[tokio::test]
async fn a_login_shell_runs_what_is_typed_until_the_input_ends() {
    let (_server, _agent, link) = world().await;
    let mut session = Session::open(&link.connection, &on_terminal(Run::default())).await;
    session.input("PS1='re''ady> '; echo $((20+22)) \"$0\"\n").await;
    let shown = session.output_up_to("ready> ").await;
    assert!(shown.contains("42 -"), "{shown}");
    session.tell(ToAgent::EndOfInput).await;
    assert_eq!(session.rest().await.exit, Some(Exit::Code(0)));
}

#[tokio::test]
async fn a_signal_goes_to_the_foreground() {
    let (_server, _agent, link) = world().await;
    let sleep = sleep_of_this_run(1012);
    let script = format!("set -m; {sleep}; echo status $?; exit 0");
    let mut session = Session::open(&link.connection, &on_terminal(shell(&script))).await;
    // With job control each job is a group of its own: the signal must find it.
    let ready = format!("until pgrep -f '^{sleep}$' >/dev/null; do :; done");
    let told = run(&link, &shell(&ready)).await;
    assert_eq!(told.exit, Some(Exit::Code(0)));
    session.tell(ToAgent::Signal(15)).await;
    let told = session.rest().await;
    assert!(String::from_utf8_lossy(&told.output).contains("status 143"), "{told:?}");
}

#[tokio::test]
async fn a_hung_up_terminal_takes_its_processes_along() {
    let (_server, _agent, link) = world().await;
    // The job is a group of its own, which may not have begun when the session is hung up.
    let sleep = sleep_of_this_run(1013);
    let script = format!("trap '' HUP; set -m; stty -echo; echo $$; {sleep}; {sleep}");
    let mut session = Session::open(&link.connection, &on_terminal(shell(&script))).await;
    let process = session.output_up_to("\n").await.trim().parse().unwrap();
    drop(session);
    until("the shell to end", || !runs(process)).await;
    let gone = format!("until ! pgrep -f '^{sleep}$' >/dev/null; do :; done");
    let told = run(&link, &shell(&gone)).await;
    assert_eq!(told.exit, Some(Exit::Code(0)));
}

#[tokio::test]
async fn a_terminal_shows_all_there_is() {
    let (_server, _agent, link) = world().await;
    let told = run(&link, &on_terminal(shell("stty -onlcr; seq 1 200000"))).await;
    let wanted: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(told.output.ends_with(wanted.as_bytes()), "{} bytes", told.output.len());
    assert_eq!(told.exit, Some(Exit::Code(0)));
}

#[tokio::test]
async fn what_cannot_run_says_why_on_a_terminal_too() {
    let (_server, _agent, link) = world().await;
    let told = run(&link, &on_terminal(command(&["no-such-program"]))).await;
    assert!(told.failed.unwrap().contains("no-such-program"));
}
