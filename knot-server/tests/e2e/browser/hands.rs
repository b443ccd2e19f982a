//! What a person does beside the keyboard: the mouse, the clipboard, other windows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::Browser;
use crate::wait::BOUND;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Wider than a letter of a terminal, in pixels.
const LETTER: f64 = 12.0;

impl Browser {
    /// Lets the page read and write the clipboard, as a person would who is asked.
    pub(crate) async fn allow_clipboard(&mut self) {
        // What grants several at once takes all others away, cookies among them.
        for name in ["clipboard-read", "clipboard-write"] {
            let granted = json!({"permission": {"name": name}, "setting": "granted"});
            self.call_browser("Browser.setPermission", granted).await;
        }
        self.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true})).await;
    }

    /// Moves the mouse over an element, near its left end, until the page is as told, and clicks there.
    pub(crate) async fn press_at(&mut self, element: &str, told: &str) {
        let place = format!(
            "(() => {{ const at = ({element}).getBoundingClientRect(); \
             return [at.left + 20, at.top + at.height / 2, at.bottom + at.height]; }})()"
        );
        let (began, mut x, mut y) = (Instant::now(), 0.0, 0.0);
        // What is drawn anew under a mouse is looked at again when that comes to another letter, from another line.
        for step in 0.. {
            let at = self.value(&place).await;
            x = at[0].as_f64().unwrap() + f64::from(step % 2) * LETTER;
            y = at[1].as_f64().unwrap();
            self.mouse("mouseMoved", x, at[2].as_f64().unwrap()).await;
            self.mouse("mouseMoved", x, y).await;
            if self.value(told).await == true {
                break;
            }
            assert!(began.elapsed() < BOUND, "never true with the mouse over it: {told}");
            sleep(PAUSE).await;
        }
        self.mouse("mousePressed", x, y).await;
        self.mouse("mouseReleased", x, y).await;
    }

    async fn mouse(&mut self, kind: &str, x: f64, y: f64) {
        let button = if kind == "mouseMoved" { "none" } else { "left" };
        let event = json!({"type": kind, "x": x, "y": y, "button": button, "clickCount": 1});
        self.call("Input.dispatchMouseEvent", event).await;
    }

    /// Waits until a window shows this address, and closes it.
    pub(crate) async fn until_window(&mut self, url: &str) {
        let opened = async {
            loop {
                let targets = self.call_browser("Target.getTargets", json!({})).await;
                let mut all = targets["targetInfos"].as_array().unwrap().iter();
                if let Some(shown) = all.find(|target| target["url"] == url) {
                    return shown["targetId"].clone();
                }
                sleep(PAUSE).await;
            }
        };
        let came = timeout(BOUND, opened).await;
        let shown = came.unwrap_or_else(|_| panic!("no window shows {url}"));
        self.call_browser("Target.closeTarget", json!({"targetId": shown})).await;
        self.call("Page.bringToFront", json!({})).await;
    }

    /// Calls what is the browser's and not the page's.
    async fn call_browser(&mut self, method: &str, parameters: Value) -> Value {
        let session = std::mem::take(&mut self.session);
        let answer = self.call(method, parameters).await;
        self.session = session;
        answer
    }
}
