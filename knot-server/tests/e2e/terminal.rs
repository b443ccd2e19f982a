//! A terminal in a real browser, whose server is killed: the screen goes on, and nothing is lost or comes twice.

mod clipboard;
mod endings;
mod window;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use self::window::{CONNECTED, ENDED, SCREEN, Window, cluster, shows};
use crate::{browser::Browser, world::World};

/// One address in front of the servers, as a balancer has it: connections go to one of them.
struct Front {
    address: SocketAddr,
    port: Arc<AtomicU16>,
}

impl Front {
    async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = Arc::new(AtomicU16::new(port));
        let to = Arc::clone(&port);
        tokio::spawn(async move {
            while let Ok((mut outer, _)) = listener.accept().await {
                let port = to.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let Ok(mut inner) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    copy_bidirectional(&mut outer, &mut inner).await.ok();
                });
            }
        });
        Self { address, port }
    }

    fn send_to(&self, port: u16) {
        self.port.store(port, Ordering::SeqCst);
    }
}

fn port(world: &World, n: usize) -> u16 {
    world.url(n).rsplit(':').next().unwrap().parse().unwrap()
}

/// Numbers in the order in which they are shown; all of them fit on the screen.
const COUNT: usize = 300;
const TYPED: &str = "stty -echo; PS1=; clear; i=0; while [ $i -lt 300 ]; do printf 'n%d ' $i; i=$((i+1)); \
    sleep 0.02; done; read x; echo got:$x";

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_goes_on_when_its_server_is_killed() {
    let Some(browser) = Browser::start().await else { return };
    let world = cluster(3).await;
    let front = Front::start(port(&world, 2)).await;
    let url = format!("http://{}", front.address);
    // Its home stays: the agent would live on without it too, but here the browser's server is what is killed.
    let Window { mut browser, world, page, .. } = Window::open(browser, world, &url).await;
    browser.type_line(TYPED).await;
    browser.until(&shows("n30n")).await;

    world.kill(2);
    front.send_to(port(&world, 3));
    // Typed while nothing is connected: it waits.
    browser.type_line("blind").await;
    browser.until(CONNECTED).await;
    browser.until(&shows("got:blind")).await;
    assert_eq!(browser.value("document.documentElement.dataset.state").await, "connected");

    // Each number once and in order, and no notice in between.
    let screen = browser.value(SCREEN).await;
    let all: String = (0..COUNT).map(|n| format!("n{n}")).collect();
    assert!(screen.as_str().unwrap().contains(&format!("{all}got:blind")), "{screen}");

    // A reload shows the same terminal, drawn anew.
    let before = browser.value("location.search").await;
    browser.open(&format!("{page}{}", before.as_str().unwrap())).await;
    browser.until(&shows("got:blind")).await;
    let list = world.json(3, &["space", "terminals", "dev"]);
    assert_eq!(list["terminals"].as_array().unwrap().len(), 1, "{list}");
    browser.type_line("exit").await;
    browser.until(ENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_are_searched_listed_joined_and_ended_in_the_page() {
    let Some(Window { mut browser, world, page }) = Window::of_one().await else { return };
    let first = browser.value("location.search").await.as_str().unwrap().to_owned();

    // What a program asks of its terminal is answered once, and not again when the screen is drawn anew.
    browser.type_line("printf 'ready\\033[6n'; read -rs -d R at; echo at${#at}; cat -v").await;
    browser.until(&format!("/at[5-8]/.test({SCREEN})")).await;
    browser.open(&format!("{page}{first}")).await;
    browser.until(&format!("/at[5-8]/.test({SCREEN})")).await;
    browser.type_line("needle").await;
    browser.until(&format!("{SCREEN}.split('needle').length > 2")).await;
    let screen = browser.value(SCREEN).await;
    assert!(!screen.as_str().unwrap().contains("^["), "nothing was answered twice: {screen}");

    browser.click("#search").await;
    browser.until("!document.querySelector('#find').hidden").await;
    browser.fill("#find input", "needle").await;
    browser.until("/of 2/.test(document.querySelector('#find output').textContent)").await;
    browser.click("[data-find='close']").await;

    // A second terminal, and the list of both.
    browser.open(&format!("{page}?renderer=dom")).await;
    browser.until(CONNECTED).await;
    browser
        .until(&format!("location.search.includes('terminal=') && location.search !== '{first}'"))
        .await;
    browser.click("#list").await;
    let rows = "document.querySelectorAll('#terminals tbody tr')";
    browser.until(&format!("{rows}.length === 2")).await;
    browser.value(&format!("{rows}[0].querySelector('input').value = 'build'")).await;
    browser.click("#terminals tbody tr:first-child form button").await;
    browser.until(&format!("{rows}[0]?.querySelector('a').textContent === 'build'")).await;
    let list = world.json(1, &["space", "terminals", "dev"]);
    assert_eq!(list["terminals"][0]["name"], "build", "{list}");
    browser.click("#terminals tbody tr:last-child [data-part='end']").await;
    browser.until(ENDED).await;
    browser.click("#terminals tbody tr:first-child a").await;
    browser.until(CONNECTED).await;
    browser.until(&format!("{SCREEN}.includes('needle')")).await;
}

/// What a window that nobody sees is told: what is written is far beyond what it keeps to draw.
const FLOOD: &str = "head -c 20000000 /dev/zero | tr '\\0' x; printf 'the%s' end; touch written; read x; echo got:$x";

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_nobody_sees_holds_no_program_up() {
    let Some(Window { mut browser, world, .. }) = Window::of_one().await else { return };
    let hide = "let hidden = true; Object.defineProperty(document, 'hidden', { get: () => hidden }); \
        globalThis.show = () => { hidden = false; document.dispatchEvent(new Event('visibilitychange')); }; \
        document.dispatchEvent(new Event('visibilitychange'))";
    browser.value(hide).await;
    browser.type_line(FLOOD).await;
    let dev = world.knot(
        1,
        &["space", "exec", "dev", "--", "sh", "-c", "until [ -e written ]; do sleep 0.1; done"],
    );
    assert_eq!(dev, "");
    // Seen again, it shows the screen as it is, and goes on.
    browser.value("show()").await;
    browser.until(&shows("theend")).await;
    browser.type_line("again").await;
    browser.until(&shows("got:again")).await;
}
