//! The page of a space: where its ports are opened, and the logs of its starts.

use serde_json::json;

use super::Browser;
use crate::{wait::eventually, world::World};

/// Whether something of the page is wider than its window.
const TOO_WIDE: &str =
    "document.documentElement.scrollWidth > document.documentElement.clientWidth";

impl Browser {
    /// Makes the window this wide.
    async fn widen(&mut self, width: u32) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        self.call("Emulation.setScrollbarsHidden", json!({"hidden": true})).await;
    }

    /// Writes a picture of the whole page where `KNOT_SCREENSHOTS` says, for whoever wants to look at it.
    async fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("KNOT_SCREENSHOTS") else { return };
        let whole = json!({"format": "png", "captureBeyondViewport": true});
        let taken = self.call("Page.captureScreenshot", whole).await;
        let data = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            taken["data"].as_str().unwrap(),
        );
        std::fs::write(std::path::Path::new(&folder).join(name), data.unwrap()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spaces_page_shows_its_ports_and_the_logs_of_earlier_starts() {
    let Some(mut browser) = Browser::start().await else { return };
    let world = tokio::task::spawn_blocking(|| {
        let world = World::start(2);
        let template = "name: shop\nplatform: local\nany_port: true\nports: {web: 8080/http, db: 5432/tcp, dns: 53/udp}\n\
                        startup_script: echo good morning\n";
        world.apply(1, template);
        world.json(1, &["space", "create", "dev", "--template", "shop", "--start"]);
        world.knot(1, &["port", "share", "dev", "web", "--with", "public"]);
        world.knot(1, &["space", "restart", "dev"]);
        world
    });
    let world = world.await.unwrap();

    // What the command shows, the page shows.
    let shown = world.json(2, &["space", "show", "dev"]);
    let ports = world.json(2, &["port", "list", "dev"]);
    assert_eq!((&shown["ports"], &shown["any_url"]), (&ports["ports"], &ports["any_url"]));
    let port =
        ports["ports"].as_array().unwrap().iter().find(|port| port["name"] == "web").unwrap();
    let url = port["url"].as_str().unwrap().to_owned();
    let text = world.knot(2, &["space", "show", "dev"]);
    assert!(text.contains(&format!("8080 web (http), to everybody: {url}")), "{text}");
    let any = ports["any_url"].as_str().unwrap().to_owned();
    assert_eq!(any, url.replacen("8080", "PORT", 1));
    assert!(text.contains(&any), "{text}");
    let starts = world.json(2, &["space", "starts", "dev"]);
    assert_eq!(starts["starts"][1]["generation"], "1.1");
    let previous = world.knot(2, &["space", "logs", "dev", "--previous"]);
    assert!(previous.contains("good morning"), "{previous}");
    let previous = world.knot(2, &["space", "logs", "dev", "--previous", "--provision"]);
    assert!(previous.contains("the space is running"), "{previous}");

    let page = format!("{}/spaces/{}", world.url(2), shown["id"].as_str().unwrap());
    browser.widen(1280).await;
    browser.sign_in(&world, &page).await;
    browser.loaded("#ports a").await;
    let links = "[...document.querySelectorAll('#ports a')].map(link => link.href).join()";
    let links = browser.value(links).await;
    assert!(links.as_str().unwrap().contains(&url), "{links}");
    let said = browser.value("document.querySelector('#ports').innerText").await;
    let said = said.as_str().unwrap().to_owned();
    for words in
        ["web, 8080", "Open to everybody.", "db, 5432", "knot port-forward dev 53 --udp", &any]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    // A port is opened to others there, and the page says so then.
    browser.value("document.querySelector('#port-8080 select').value = 'signed-in'").await;
    browser.click("#port-8080 button").await;
    let open = "document.querySelector('#ports').innerText.includes('Open to everybody who is signed in.')";
    browser.until(open).await;
    eventually("the other server has heard of it", || {
        let access = world.json(1, &["port", "list", "dev"])["ports"][2]["access"].clone();
        (access == "signed-in").then_some(())
    });

    for (fold, words) in [("provision", "the space is running"), ("container", "good morning")] {
        let fold = format!("document.getElementById('{fold}-1.1')");
        browser.until(&fold).await;
        browser.value(&format!("{fold}.open = true")).await;
        browser
            .until(&format!("{fold}.querySelector('pre').textContent.includes('{words}')"))
            .await;
    }
    browser.picture("space-1280.png").await;
    assert_eq!(browser.value(TOO_WIDE).await, false);
    browser.widen(390).await;
    browser.picture("space-390.png").await;
    assert_eq!(browser.value(TOO_WIDE).await, false);
    // A start that comes while the page is open is there without asking, and folds that come with it are read, too.
    world.knot(1, &["space", "restart", "dev"]);
    browser.until("document.getElementById('provision-1.2')").await;
    browser.value("document.getElementById('provision-1.2').open = true").await;
    let log = "document.getElementById('provision-1.2').querySelector('pre').textContent";
    browser.until(&format!("{log}.includes('the space is running')")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_starts_a_space_and_the_page_comes_by_itself() {
    let Some(mut browser) = Browser::start().await else { return };
    let world = tokio::task::spawn_blocking(|| World::start(1)).await.unwrap();
    let port = super::ports::program().await;
    world.apply(1, "name: lazy\nplatform: local\nany_port: true\nstart_on_connect: true\n");
    world.json(1, &["space", "create", "dev", "--template", "lazy"]);
    browser.sign_in(&world, world.url(1)).await;
    let at = world.url(1).rsplit_once(':').unwrap().1;
    let url = format!("http://{port}--dev--admin.localhost:{at}/");
    browser.widen(390).await;
    browser.open(&url).await;
    browser.until("document.querySelector('h1')?.innerText === 'A program'").await;
    assert_eq!(browser.value("location.href").await, url);
    assert_eq!(world.json(1, &["space", "show", "dev"])["desired"], "running");
    // Whoever stops it has it stopped, though the page is open and asks again.
    world.knot(1, &["space", "stop", "dev"]);
    let asked = "fetch('/').then(answer => answer.status)";
    assert_eq!(browser.value(asked).await, 409);
    assert_eq!(world.json(1, &["space", "show", "dev"])["desired"], "stopped");
    browser.open(&format!("{url}_knot/wait?to=/cookies")).await;
    browser.until("document.querySelector('h1')?.innerText === 'dev is stopped'").await;
    browser.picture("stopped-390.png").await;
    browser.click("a.button").await;
    browser.until("location.pathname === '/cookies'").await;
}
