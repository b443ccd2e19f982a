//! The pages in a real browser: Chromium, driven over its DevTools protocol.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{
    engine::have,
    wait::{BOUND, bounded},
    world::{World, describe, knot_server, path},
};

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A page in a headless browser of its own.
pub(crate) struct Browser {
    process: Child,
    _profile: TempDir,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    calls: u64,
}

impl Browser {
    /// `None` where no Chromium is installed; says so, and in CI fails.
    pub(crate) async fn start() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let start = |program| {
            Command::new(program)
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
                .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
                .args(["--disable-component-update", "--window-size=1280,800"])
                .args(["--remote-debugging-port=0", "about:blank"])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
        };
        let process = PROGRAMS.iter().find_map(|program| start(program).ok());
        have("Chromium", process.is_some());
        let mut process = process?;
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let url = bounded(process.id(), || {
            lines.find_map(|line| {
                line.unwrap().strip_prefix("DevTools listening on ").map(str::to_owned)
            })
        });
        // What Chromium goes on saying must have somewhere to go.
        std::thread::spawn(move || lines.count());
        let (socket, _) = connect_async(url.expect("Chromium did not come up")).await.unwrap();
        let session = String::new();
        let mut browser = Self { process, _profile: profile, socket, session, calls: 0 };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        let answer = timeout(BOUND, self.attempt(method, parameters)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{method}: no answer"));
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn attempt(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": parameters});
        if !self.session.is_empty() {
            call["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        loop {
            let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.calls {
                let error = &answer["error"];
                return if error.is_null() {
                    Ok(answer["result"].clone())
                } else {
                    Err(error.clone())
                };
            }
        }
    }

    /// Opens a page, and waits until the one before it has given way.
    pub(crate) async fn open(&mut self, url: &str) {
        self.until("globalThis.leaving = true").await;
        self.call("Page.navigate", json!({"url": url})).await;
        self.until("!globalThis.leaving").await;
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        self.call("Runtime.evaluate", evaluate(expression)).await["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true, or promises to be.
    pub(crate) async fn until(&mut self, expression: &str) {
        let poll = async {
            // A page that gives way to another meanwhile answers with an error.
            let asked = evaluate(&format!("Promise.resolve({expression}).then(Boolean)"));
            let told = |answer: Result<Value, Value>| {
                answer.is_ok_and(|answer| answer["result"]["value"] == true)
            };
            while !told(self.attempt("Runtime.evaluate", asked.clone()).await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let came = timeout(BOUND, poll).await.is_ok();
        if !came {
            let page = self.value("location.href + '\\n' + document.body?.innerText").await;
            panic!("never true in the page: {expression}\n{page}");
        }
    }

    /// Types into the page's terminal.
    pub(crate) async fn type_text(&mut self, text: &str) {
        self.value("document.querySelector('.xterm-helper-textarea').focus()").await;
        self.write(text).await;
    }

    /// Types a line, and Enter.
    pub(crate) async fn type_line(&mut self, text: &str) {
        self.type_text(text).await;
        self.press_enter().await;
    }

    async fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    pub(crate) async fn press_enter(&mut self) {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13});
            self.call("Input.dispatchKeyEvent", key).await;
        }
    }

    pub(crate) async fn fill(&mut self, selector: &str, text: &str) {
        self.value(&format!("document.querySelector({selector:?}).focus()")).await;
        self.write(text).await;
    }

    pub(crate) async fn click(&mut self, selector: &str) {
        self.value(&format!("document.querySelector({selector:?}).click()")).await;
    }

    /// Waits until a page with this is there, and its modules have run.
    pub(crate) async fn loaded(&mut self, selector: &str) {
        let there = format!("document.querySelector({selector:?})");
        self.until(&format!("{there} && document.readyState === 'complete'")).await;
    }

    /// Opens a page of a cluster as its first admin.
    pub(crate) async fn sign_in(&mut self, world: &World, url: &str) {
        self.open(url).await;
        self.loaded("input[type=password]").await;
        self.fill("input[name=user]", "admin").await;
        let password = world.up["admin"]["password"].as_str().unwrap().to_owned();
        self.fill("input[name=password]", &password).await;
        self.click("form button[type=submit]").await;
        self.until("document.querySelector('#live') && !document.querySelector('#sign-in')").await;
    }
}

fn evaluate(expression: &str) -> Value {
    json!({"expression": expression, "awaitPromise": true, "returnByValue": true})
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_is_made_and_its_terminal_used_in_the_browser() {
    let Some(mut browser) = Browser::start().await else { return };
    let world = tokio::task::spawn_blocking(|| World::start(3)).await.unwrap();

    // Signed in at the first server.
    browser.sign_in(&world, world.url(1)).await;

    // What the client does through the second server appears by itself.
    let create = ["space", "create", "dev", "--template", "shell", "--start"];
    let created = world.json(2, &create);
    let row = format!("[data-space='{}']", created["id"].as_str().unwrap());
    browser
        .until(&format!("document.querySelector(\"{row}\")?.dataset.observed === 'running'"))
        .await;

    // The session is good on the third server too; the terminal there reaches the space.
    world.until_known("dev");
    let terminal = format!(
        "{}/spaces/{}/terminal?renderer=dom",
        world.url(3),
        created["id"].as_str().unwrap()
    );
    browser.open(&terminal).await;
    browser.until("document.documentElement.dataset.state === 'connected'").await;
    browser.type_text("echo sum $((20 + 22))").await;
    browser.press_enter().await;
    browser.until("document.querySelector('.xterm-rows').innerText.includes('sum 42')").await;
    browser.write("exit").await;
    browser.press_enter().await;
    browser.until("document.documentElement.dataset.state === 'ended'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_is_made_with_a_parameter_edited_and_shared_in_the_browser() {
    let Some(mut browser) = Browser::start().await else { return };
    let world = tokio::task::spawn_blocking(|| World::start(1)).await.unwrap();
    world.apply(
        1,
        "name: lab\nplatform: local\nparameters:\n  branch: {pattern: '[a-z]+', required: true}\n  \
         size: {type: choice, choices: [small, large], default: small}\n",
    );
    let made = knot_server(&["admin", "anna", "--data", path(&world.data(1))]);
    assert!(made.status.success(), "{}", describe(&made));
    let url = |path: &str| format!("{}{path}", world.url(1));

    // A value that the template does not take is refused at its field, and nothing typed is lost.
    browser.sign_in(&world, &url("/spaces/new?template=lab")).await;
    browser.loaded("[name='parameters/branch']").await;
    browser.fill("#name", "web").await;
    browser.fill("[name='parameters/branch']", "Main").await;
    browser.click("[name=start]").await;
    browser.click("form .main").await;
    let field = "document.querySelector(\"[data-field='parameters/branch']\")";
    browser.until(&format!("{field}.querySelector('.problem')")).await;
    browser.until(&format!("{field}.querySelector('input') === document.activeElement")).await;
    browser.value("document.activeElement.select()").await;
    browser.write("main").await;
    browser.click("form .main").await;
    browser.loaded("#title").await;
    let made = world.json(1, &["space", "show", "web"]);
    assert_eq!(made["parameters"], json!({"branch": "main"}));
    assert_eq!(made["desired"], "stopped");

    // Another default, a note, and somebody to share it with: the page follows by itself.
    browser.value("document.querySelector(\"[name='parameters/size']\").value = 'large'").await;
    browser.click("#parameters button").await;
    browser.until("document.querySelector('#said').innerText.includes('next start')").await;
    browser.fill("#note", "mind the gap").await;
    browser.click("#settings button").await;
    browser.until("document.querySelector('#space').innerText.includes('mind the gap')").await;
    browser.fill("#share-user", "nobody").await;
    browser.click("form:has(#share-user) button").await;
    browser
        .until("document.querySelector('#sharing .problem')?.innerText.includes('nobody')")
        .await;
    browser.value("document.querySelector('#share-user').select()").await;
    browser.fill("#share-user", "anna").await;
    browser.click("form:has(#share-user) button").await;
    browser.until("document.querySelector('#sharing .people')?.innerText.includes('anna')").await;
    let shown = world.json(1, &["space", "show", "web"]);
    assert_eq!(shown["parameters"], json!({"branch": "main", "size": "large"}));
    assert_eq!((&shown["note"], &shown["shares"]), (&json!("mind the gap"), &json!(["anna"])));

    // What others do shows too, and what was begun here stays.
    browser.fill("#description", "half a sent").await;
    world.knot(1, &["space", "unshare", "web", "anna"]);
    browser.until("!document.querySelector('#sharing .people')").await;
    browser.until("document.querySelector('#description').value === 'half a sent'").await;

    // It is deleted from its own page, which then gives way to the list.
    browser.click("[data-action=delete]").await;
    browser.until("document.querySelector('#delete').open").await;
    browser.click("#delete [value=go]").await;
    browser.until("location.pathname === '/'").await;
}

mod hands;
mod ports;
mod space;
