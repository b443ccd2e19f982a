//! Process 1 of a container: orphans are reaped, and no status of its own children is lost.
//!
//! In a program of its own, because it waits for every child of the process that it runs in.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use knot_agent::children::{Children, in_own_group};
use knot_core::agent::Exit;
use tokio::time::{sleep, timeout};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[tokio::test(flavor = "current_thread")]
async fn orphans_are_reaped_and_statuses_reach_their_owners() {
    // Orphans below this process come to it, as they come to process 1.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let children = Children::default();
    let reaper = tokio::spawn({
        let children = children.clone();
        async move { children.reap().await }
    });
    let mut started = Vec::new();
    for status in 0..20 {
        // The orphan ends after its parent, and says who it was.
        let script = format!("(read x; exit 99) </dev/null & echo $!; exit {status}");
        let mut command = shell(&script);
        in_own_group(&mut command, Stdio::null()).stdout(Stdio::piped());
        let (child, pipes) = children.spawn(&mut command).unwrap();
        started.push((status, child, pipes));
    }
    let bound = Duration::from_secs(60);
    for (status, mut child, pipes) in started {
        assert_eq!(timeout(bound, child.ended()).await.unwrap(), Exit::Code(status));
        let mut orphan = String::new();
        pipes.stdout.unwrap().read_to_string(&mut orphan).unwrap();
        let orphan = PathBuf::from("/proc").join(orphan.trim());
        timeout(bound, async {
            while orphan.exists() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
    reaper.abort();
}
