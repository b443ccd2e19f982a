//! A window on a terminal: a cluster, a space on it, and the page in a browser.

use crate::{browser::Browser, world::World};

/// What the page's terminal shows, without what is white.
pub(super) const SCREEN: &str =
    "document.querySelector('.xterm-rows').innerText.replace(/\\s/g, '')";
pub(super) const CONNECTED: &str = "document.documentElement.dataset.state === 'connected'";
pub(super) const ENDED: &str = "document.documentElement.dataset.state === 'ended'";

pub(super) fn shows(text: &str) -> String {
    format!("{SCREEN}.includes('{text}')")
}

/// A cluster of so many servers.
pub(super) async fn cluster(servers: usize) -> World {
    tokio::task::spawn_blocking(move || World::start(servers)).await.unwrap()
}

/// A browser that shows a new terminal of the space `dev`.
pub(super) struct Window {
    pub(super) browser: Browser,
    pub(super) world: World,
    /// The address of the page, without what says which terminal.
    pub(super) page: String,
}

impl Window {
    /// On a cluster of one server; `None` where no browser is.
    pub(super) async fn of_one() -> Option<Self> {
        let browser = Browser::start().await?;
        let world = cluster(1).await;
        let url = world.url(1).to_owned();
        Some(Self::open(browser, world, &url).await)
    }

    /// Signs in at an address of a cluster, and opens a terminal of a space whose home is the first server.
    pub(super) async fn open(mut browser: Browser, world: World, url: &str) -> Self {
        browser.sign_in(&world, url).await;
        let home = world.name(1);
        let create = ["space", "create", "dev", "--template", "shell", "--start", "--server", home];
        let space = world.json(1, &create)["id"].as_str().unwrap().to_owned();
        world.until_known("dev");
        let page = format!("{url}/spaces/{space}/terminal");
        browser.open(&format!("{page}?renderer=dom")).await;
        browser.until(CONNECTED).await;
        browser.until("location.search.includes('terminal=')").await;
        Self { browser, world, page }
    }
}
