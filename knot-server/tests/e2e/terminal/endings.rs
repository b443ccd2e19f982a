//! How a terminal in the page ends: each way says what it is, and what to do.

use serde_json::json;

use super::{
    Front, port,
    window::{CONNECTED, ENDED, Window, cluster, shows},
};
use crate::{
    browser::Browser,
    world::{World, knot_server, path},
};

const WHY: &str = "document.documentElement.dataset.why";
const BUTTON: &str = "document.querySelector('#again').textContent";
const STATUS: &str = "document.querySelector('#status').textContent";

/// Signs in on the page that is shown.
async fn sign_in_again(browser: &mut Browser, world: &World) {
    browser.until("document.querySelector('input[type=password]')").await;
    browser.until("document.readyState === 'complete'").await;
    browser.fill("input[name=user]", "admin").await;
    browser.fill("input[name=password]", world.up["admin"]["password"].as_str().unwrap()).await;
    browser.click("form button[type=submit]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_signed_out_is_told_signs_in_again_and_goes_on() {
    let Some(Window { mut browser, world, .. }) = Window::of_one().await else { return };
    browser.type_line("stty -echo; PS1=; clear; echo bef''ore; read x; echo got:$x").await;
    browser.until(&shows("before")).await;
    let before = browser.value("location.search").await;

    // As in another tab.
    let sign_out = "fetch('/api/v1/sign-out', {method: 'POST', headers: {'content-type': 'application/json'}}) \
        .then((answer) => answer.status)";
    assert_eq!(browser.value(sign_out).await, 204);
    browser.until(ENDED).await;
    assert_eq!(browser.value(WHY).await, "signed_out");
    assert_eq!(browser.value(STATUS).await, "you were signed out");
    browser.until(&shows("Entersignsyouinagain")).await;
    assert_eq!(browser.value(BUTTON).await, "Sign in again");
    browser.click("#again").await;
    sign_in_again(&mut browser, &world).await;
    browser.until(CONNECTED).await;
    assert_eq!(browser.value("location.search").await, before, "another terminal");
    browser.type_line("after").await;
    browser.until(&shows("got:after")).await;

    // By an admin, which ends all of one's sessions; and signed in again in another tab meanwhile.
    let ended = knot_server(&["admin", "admin", "--data", path(&world.data(1))]);
    let password = String::from_utf8(ended.stdout).unwrap();
    browser.until(ENDED).await;
    assert_eq!(browser.value(WHY).await, "signed_out");
    let credentials = json!({"user": "admin", "password": password.trim()});
    let sign_in = format!(
        "fetch('/api/v1/sign-in', {{method: 'POST', body: JSON.stringify({credentials}), \
         headers: {{'content-type': 'application/json'}}}}).then((answer) => answer.ok)"
    );
    assert_eq!(browser.value(&sign_in).await, true);
    browser.value("document.dispatchEvent(new Event('visibilitychange'))").await;
    browser.until(CONNECTED).await;
    assert_eq!(browser.value("location.search").await, before, "another terminal");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_a_stop_and_a_server_that_goes_are_told_apart() {
    let Some(browser) = Browser::start().await else { return };
    let world = cluster(2).await;
    let front = Front::start(port(&world, 2)).await;
    let url = format!("http://{}", front.address);
    let Window { mut browser, world, .. } = Window::open(browser, world, &url).await;

    // Its server stops: the page says so, and goes on through another.
    let note = "globalThis.said = []; new MutationObserver(() => said.push(document.querySelector('#status').textContent)) \
        .observe(document.querySelector('#status'), {childList: true, characterData: true, subtree: true})";
    browser.value(note).await;
    front.send_to(port(&world, 1));
    world.stop_one(2);
    browser.until("said.includes('its server is stopping, reconnecting')").await;
    browser.until(CONNECTED).await;
    browser.type_line("exit 3").await;
    browser.until(ENDED).await;
    assert_eq!(browser.value(WHY).await, "ended");
    assert_eq!(browser.value(STATUS).await, "ended with status 3");

    browser.click("#again").await;
    browser.until(CONNECTED).await;
    world.knot(1, &["space", "stop", "dev"]);
    browser.until(ENDED).await;
    assert_eq!(browser.value(WHY).await, "space_stopped");
    assert_eq!(browser.value(STATUS).await, "the space has stopped");
    browser.until(&shows("Enterstartsit")).await;
    assert_eq!(browser.value(BUTTON).await, "Start the space");
    // Nobody but a person at it brings the space back.
    assert_eq!(world.json(1, &["space", "show", "dev"])["desired"], "stopped");
    browser.press_enter().await;
    browser.until(CONNECTED).await;
    browser.type_line("echo star''ted").await;
    browser.until(&shows("started")).await;
}
