//! What a program may do to the browser of whoever looks at it, and what not: the clipboard, and links.

use super::window::{SCREEN, Window, shows};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_fills_the_clipboard_and_never_reads_it() {
    let Some(Window { mut browser, world: _world, .. }) = Window::of_one().await else { return };
    browser.allow_clipboard().await;
    browser.value("navigator.clipboard.writeText('a secret of mine')").await;
    // What is answered is typed, and `cat -v` shows it.
    let ask = "stty raw -echo; clear; printf 'ready\\033]52;c;?\\007\\033]52;;?\\033\\\\\\033]52;p;?\\007'; \
        timeout 2 cat -v; stty sane; echo as''ked";
    browser.type_line(ask).await;
    browser.until(&shows("asked")).await;
    let screen = browser.value(SCREEN).await;
    let screen = screen.as_str().unwrap();
    assert!(screen.contains("ready") && !screen.contains("]52"), "{screen}");

    let clipboard = "navigator.clipboard.readText()";
    assert_eq!(browser.value(clipboard).await, "a secret of mine");
    // "put there: äöü"
    browser
        .type_line("clear; printf '\\033]52;c;cHV0IHRoZXJlOiDDpMO2w7w=\\007'; echo writ''ten")
        .await;
    browser.until(&shows("written")).await;
    browser.until(&format!("{clipboard}.then((text) => text === 'put there: äöü')")).await;

    // A window that is opened later does not do it again.
    browser.value("navigator.clipboard.writeText('mine')").await;
    let page = browser.value("location.href").await;
    browser.open(page.as_str().unwrap()).await;
    browser.until(&shows("written")).await;
    assert_eq!(browser.value(clipboard).await, "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_and_a_link_of_a_program_open_in_a_window_of_their_own() {
    let Some(Window { mut browser, world, .. }) = Window::of_one().await else { return };
    let url = world.url(1);
    let address = format!("{url}/livez?by=address");
    // In two parts: what is typed is on the screen too, for a moment. No prompt follows: what is drawn while the mouse
    // is pressed would be looked at anew.
    browser
        .type_line(&format!("clear; echo ht''tp{}; read x", address.strip_prefix("http").unwrap()))
        .await;
    let row = "[...document.querySelectorAll('.xterm-rows > div')].findLast((row) => row.innerText.startsWith('http'))";
    browser.until(row).await;
    let told =
        |address: &str| format!("document.querySelector('#status').textContent === '{address}'");
    browser.press_at(row, &told(&address)).await;
    browser.until_window(&address).await;

    let link = format!("{url}/livez?by=link");
    let print =
        format!("clear; printf '\\033]8;;{link}\\033\\\\the''re\\033]8;;\\033\\\\\\n'; read x");
    browser.type_line("read").await;
    browser.type_line(&print).await;
    let row = "[...document.querySelectorAll('.xterm-rows > div')].findLast((row) => row.innerText.startsWith('there'))";
    browser.until(row).await;
    browser.press_at(row, &told(&link)).await;
    browser.until_window(&link).await;
}
