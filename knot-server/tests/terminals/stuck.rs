//! One viewer of a terminal that reads nothing, and another that reads all: the first costs the second nothing.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::viewer::{Servers, Socket};

/// What the command writes: far more than is kept of it, or is on its way anywhere.
const WRITTEN: usize = 16 << 20;
/// Longer than a busy machine takes; nothing is measured.
const BOUND: Duration = Duration::from_secs(120);

/// Looks at a terminal, through any server, and makes it where that is said.
async fn look(servers: &Servers, n: usize, terminal: Uuid, make: Value) -> Socket {
    let mut socket = servers.connect(n, terminal).await.expect("it connects");
    let view = json!({
        "make": make, "viewer": Uuid::new_v4(), "size": {"columns": 80, "rows": 24}, "from": null, "sent": 0,
    });
    socket.send(Message::text(view.to_string())).await.unwrap();
    loop {
        let message = socket.next().await.unwrap().unwrap();
        if matches!(&message, Message::Text(text) if text.contains("attached")) {
            return socket;
        }
    }
}

/// What one viewer was shown.
#[derive(Default)]
struct Seen {
    output: usize,
    snapshots: usize,
    last: Vec<u8>,
}

/// Reads, and says that it was shown, until this comes.
async fn read(socket: &mut Socket, until: &str) -> Seen {
    let (mut seen, mut shown, mut drawing) = (Seen::default(), 0, 0);
    let read = async {
        while !String::from_utf8_lossy(&seen.last).contains(until) {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => {
                    shown += bytes.len();
                    let snapshot = drawing.min(bytes.len());
                    drawing -= snapshot;
                    seen.output += bytes.len() - snapshot;
                    seen.last.extend_from_slice(&bytes);
                    seen.last.drain(..seen.last.len().saturating_sub(64 << 10));
                    let told = json!({"shown": shown}).to_string();
                    socket.send(Message::text(told)).await.unwrap();
                }
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if let Some(length) = message["snapshot"]["length"].as_u64() {
                        drawing = usize::try_from(length).unwrap();
                        seen.snapshots += 1;
                    }
                }
                _ => {}
            }
        }
    };
    timeout(BOUND, read).await.expect("all of it comes");
    seen
}

/// Of two viewers one reads nothing until the other has seen all.
pub(crate) async fn one_stuck(servers: &Servers) {
    let terminal = Uuid::new_v4();
    let script = format!(
        "stty raw -echo; printf ready; read go; head -c {WRITTEN} /dev/zero | tr '\\0' x; printf ' all of it '; exec cat"
    );
    let make = json!({"name": "flood", "command": ["sh", "-c", script]});
    let mut reads = look(servers, 0, terminal, make).await;
    // What is typed before is echoed.
    read(&mut reads, "ready").await;
    let mut stuck = look(servers, 1, terminal, Value::Null).await;
    reads.send(Message::binary(&b"go\n"[..])).await.unwrap();
    let seen = read(&mut reads, " all of it ").await;
    assert_eq!(
        (seen.output, seen.snapshots),
        (WRITTEN + " all of it ".len(), 0),
        "each byte, none drawn anew"
    );
    // The terminal answers whoever is there.
    reads.send(Message::binary(&b"still here"[..])).await.unwrap();
    read(&mut reads, "still here").await;

    let seen = read(&mut stuck, "still here").await;
    assert!(
        seen.snapshots > 0 && seen.output < WRITTEN,
        "{} bytes, {} times",
        seen.output,
        seen.snapshots
    );
}
