//! Every page, rendered from sample data and served as the server serves it: what must be on it, and that nothing a
//! person wrote becomes markup.

#![allow(clippy::expect_used, reason = "a test's helpers may fail as its body may")]

#[path = "pages/samples.rs"]
mod samples;

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use knot_server::{
    api::types::{Desired, Observed},
    pages::{
        self, Chrome, ErrorPage, Input, ParameterField, SpacePage, SpaceRow, SpacesPage,
        TerminalPage,
    },
};

use samples::{
    chrome, conflict, details, every_page, parameter, row, saved, shared, space, template_page,
    variables,
};

#[test]
fn what_a_person_wrote_never_becomes_markup() {
    for page in every_page() {
        assert!(!page.contains("<script>"), "{page}");
        assert!(!page.contains("\"'>"), "{page}");
        assert_eq!(
            page.matches("</textarea>").count(),
            page.matches("<textarea").count(),
            "{page}"
        );
    }
}

#[test]
fn no_page_carries_a_script_or_a_handler_in_its_text() {
    for page in every_page() {
        for script in page.split("<script").skip(1) {
            assert!(script.starts_with(" type=\"module\" src=\"/static/"), "{script}");
        }
        assert!(!page.contains(" onclick=") && !page.contains("javascript:"), "{page}");
    }
}

#[test]
fn a_running_space_can_be_opened_stopped_and_restarted_but_not_started() {
    let row = row(space("0a", Desired::Running, Observed::Running));
    assert!(
        row.contains(r#"data-space="0a" data-observed="running" data-desired="running""#),
        "{row}"
    );
    assert!(row.contains(r#"href="/spaces/0a/terminal">"#), "{row}");
    assert!(row.contains(r#"data-action="start" hidden>"#), "{row}");
    assert!(row.contains(r#"data-action="stop">"#), "{row}");
    assert!(row.contains(r#"data-action="restart">"#), "{row}");
    assert!(row.contains(r#"data-action="delete">"#), "{row}");
}

#[test]
fn a_stopped_space_can_only_be_started_or_deleted() {
    let row = row(space("0a", Desired::Stopped, Observed::Stopped));
    assert!(row.contains(r#"href="/spaces/0a/terminal" hidden>"#), "{row}");
    assert!(row.contains(r#"data-action="start">"#), "{row}");
    assert!(row.contains(r#"data-action="stop" hidden>"#), "{row}");
    assert!(row.contains(r#"data-action="restart" hidden>"#), "{row}");
}

#[test]
fn a_space_on_its_way_out_takes_no_orders() {
    let row = row(space("0a", Desired::Stopped, Observed::Deleting));
    for action in ["start\"", "stop\" hidden", "restart\" hidden", "delete\""] {
        assert!(row.contains(&format!("data-action=\"{action} disabled>")), "{action}: {row}");
    }
}

#[test]
fn a_row_says_what_waits_and_what_is_wrong() {
    let hidden = |row: &str, part: &str| row.contains(&format!("data-part=\"{part}\" hidden>"));
    let calm = row(space("0a", Desired::Running, Observed::Running));
    for part in
        ["update", "cause", "conflicts", "home-lost", "start-waits", "stop-waits", "since-line"]
    {
        assert!(hidden(&calm, part), "{part}: {calm}");
    }
    let troubled = row(SpaceRow {
        cause: Some("the image cannot be pulled".to_owned()),
        since: Some("2026-11-22T08:12:00Z".to_owned()),
        home_reachable: false,
        update_available: true,
        conflicts: vec![conflict()],
        ..space("0a", Desired::Running, Observed::Created)
    });
    for part in ["update", "cause", "conflicts", "home-lost", "start-waits", "since-line"] {
        assert!(!hidden(&troubled, part), "{part}: {troubled}");
    }
    assert!(troubled.contains("the image cannot be pulled"), "{troubled}");
    assert!(troubled.contains(r#"datetime="2026-11-22T08:12:00Z""#), "{troubled}");
    assert!(troubled.contains("by carol"), "{troubled}");
}

#[test]
fn with_nothing_to_show_a_page_says_what_to_do() {
    let page = SpacesPage { chrome: chrome(), spaces: Vec::new(), any_template: false };
    let page = page.render().expect("the page renders");
    assert!(page.contains(r#"<p id="no-spaces" class="card empty">"#), "{page}");
    assert!(page.contains(r#"<p id="no-templates" class="card empty">"#), "{page}");
    assert!(page.contains(r#"href="/templates/new""#), "{page}");
}

#[test]
fn whom_a_space_is_shared_with_is_offered_no_more_than_to_start_and_stop_it() {
    let (own, shared) = (details().render(), shared().render());
    let (own, shared) = (own.expect("the page renders"), shared.expect("the page renders"));
    for path in
        ["shares", "unshare", "transfer", "move", "recover", "parameters", "attach", "launch"]
    {
        assert!(own.contains(&format!("/{path}\"")), "{path}: {own}");
        assert!(!shared.contains(&format!("/{path}\"")), "{path}: {shared}");
    }
    for part in ["id=\"settings\"", "data-method=\"PATCH\"", "data-action=\"delete\">"] {
        assert!(own.contains(part) && !shared.contains(part), "{part}");
    }
    assert!(shared.contains(r#"data-action="delete" hidden>"#), "{shared}");
    assert!(shared.contains(r#"data-action="restart">"#), "{shared}");
}

#[test]
fn a_home_out_of_reach_is_recovered_from_and_not_moved_from() {
    let page = details();
    let lost =
        SpacePage { space: SpaceRow { home_reachable: false, ..page.space.clone() }, ..details() };
    let (page, lost) = (page.render(), lost.render());
    let (page, lost) = (page.expect("the page renders"), lost.expect("the page renders"));
    assert!(page.contains("/move\"") && page.contains(r#"<details id="recover">"#), "{page}");
    assert!(!lost.contains("/move\"") && lost.contains(r#"<details id="recover" open>"#), "{lost}");
}

#[test]
fn a_parameter_is_asked_for_as_its_type_has_it() {
    let field = |kind, default, required, value| {
        let mut page = details();
        let field = ParameterField::new(parameter(kind, default, required), value);
        page.parameters = vec![ParameterField { name: "size".to_owned(), ..field }];
        page.render().expect("the page renders")
    };
    let of = |page: &str, part: &str| page.contains(part);
    let text = field("text", None, true, Some("main"));
    assert!(of(&text, r#"name="parameters/size" value="main" data-as="parameter""#), "{text}");
    let number = field("number", Some("3"), false, None);
    assert!(of(&number, r#"inputmode="decimal""#) && of(&number, "Default: 3"), "{number}");
    assert!(of(&number, "A number, 1 or more."), "{number}");
    let choice = field("bool", Some("true"), false, Some("false"));
    assert!(of(&choice, r#"<option value="false" selected>false</option>"#), "{choice}");
    assert!(of(&choice, r#"<option value="">Default: true</option>"#), "{choice}");
    let needed = field("bool", None, true, None);
    assert!(of(&needed, r#"<option value="" disabled selected>Choose one</option>"#), "{needed}");
    let other = field("choice", None, false, Some("huge"));
    assert!(of(&other, "huge (not a choice any more)"), "{other}");
    let secret = field("secret", Some("hunter2"), false, Some("sealed"));
    assert!(of(&secret, "Take the secret away") && !of(&secret, "hunter2"), "{secret}");
    assert_eq!(ParameterField::new(parameter("odd", None, false), None).input, Input::Text);
}

#[test]
fn a_secret_variable_has_no_value_to_show() {
    let page = variables();
    assert!(page.contains("Sealed: it is never shown."), "{page}");
    assert_eq!(page.matches("<pre class=\"value\"").count(), 1, "{page}");
}

#[test]
fn the_navigation_has_what_is_for_admins_for_admins_only() {
    let of = |admin| {
        let page = ErrorPage::not_found(Chrome { admin, ..chrome() });
        page.render().expect("the page renders")
    };
    for path in ["/variables", "/groups"] {
        assert!(of(true).contains(&format!("href=\"{path}\"")));
        assert!(!of(false).contains(&format!("href=\"{path}\"")));
    }
}

#[test]
fn a_template_says_how_many_running_spaces_a_change_marks() {
    assert!(
        template_page(Some(saved(3)), true).contains("<strong>3</strong> running spaces use it")
    );
    assert!(
        template_page(Some(saved(1)), true).contains("<strong>1</strong> running space uses it")
    );
    assert!(template_page(Some(saved(0)), true).contains("No running space uses it"));
}

#[test]
fn who_may_only_read_a_template_gets_no_save_button() {
    let page = template_page(Some(saved(3)), false);
    assert!(page.contains(" readonly>"), "{page}");
    assert!(!page.contains("Save</button>"), "{page}");
}

#[test]
fn the_terminal_names_its_space_and_its_state() {
    let page =
        TerminalPage { id: "0a".to_owned(), name: "web".to_owned(), server: "athens-1".to_owned() };
    let page = page.render().expect("the page renders");
    assert!(page.contains(r#"class="window" data-state="connecting""#), "{page}");
    assert!(page.contains(r#"id="terminal" data-space="0a""#), "{page}");
}

/// The pages' files and one page, on a real socket.
async fn served() -> String {
    let app: Router = pages::static_router()
        .route("/error", get(async || ErrorPage::not_found(chrome()).into_response()))
        .layer(axum::middleware::map_response(pages::security_headers));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(axum::serve(listener, app).into_future());
    format!("http://{address}")
}

async fn fetch(address: &str) -> reqwest::Response {
    // An error means that another test was first.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::get(address).await.expect("an answer")
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).expect("the header").to_str().expect("text")
}

/// Files named in `src`, `href` and relative imports, as addresses.
fn files_of(text: &str, folder: &str) -> Vec<String> {
    let in_pages = text.split(['"']).filter(|part| part.starts_with("/static/")).map(str::to_owned);
    let in_modules = text.split(['"']).filter_map(|part| part.strip_prefix("./"));
    in_pages.chain(in_modules.map(|name| format!("{folder}{name}"))).collect()
}

#[tokio::test]
async fn every_file_that_pages_and_modules_name_is_served_for_good() {
    let server = served().await;
    let folder = pages::static_url("");
    let mut wanted: Vec<String> =
        every_page().iter().flat_map(|page| files_of(page, &folder)).collect();
    let mut seen = BTreeSet::new();
    while let Some(path) = wanted.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let response = fetch(&format!("{server}{path}")).await;
        assert_eq!(response.status(), 200, "{path}");
        if path.starts_with(&folder) {
            assert!(header(&response, "cache-control").contains("immutable"), "{path}");
        }
        let own_module = path.ends_with(".js");
        let kind = match path.rsplit_once('.').expect("a name with a kind").1 {
            "js" | "mjs" => "text/javascript",
            "css" => "text/css",
            "svg" => "image/svg+xml",
            _ => "text/plain",
        };
        assert!(header(&response, "content-type").starts_with(kind), "{path}");
        if own_module {
            wanted.extend(files_of(&response.text().await.expect("text"), &folder));
        }
    }
    for name in ["terminal.js", "xterm.mjs", "addon-webgl.mjs", "live.js"] {
        assert!(seen.contains(&pages::static_url(name)), "{name} is named nowhere");
    }
}

#[tokio::test]
async fn a_page_of_another_release_gets_our_file_but_must_not_keep_it() {
    let server = served().await;
    let response = fetch(&format!("{server}/static/0123456789abcdef/terminal.js")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(fetch(&format!("{server}{}", pages::static_url("nothing.js"))).await.status(), 404);
}

#[tokio::test]
async fn the_licences_of_third_party_modules_can_be_read() {
    let server = served().await;
    let text = fetch(&format!("{server}/static/third-party-licences.txt"))
        .await
        .text()
        .await
        .expect("text");
    let addons = ["fit", "clipboard", "search", "web-links", "webgl"];
    let addons = addons.map(|name| format!("@xterm/addon-{name} "));
    for package in addons.iter().map(String::as_str).chain(["@xterm/xterm 6.0.0"]) {
        assert!(text.contains(package), "{package}");
    }
    assert_eq!(text.matches("Permission is hereby granted").count(), 6);
}

#[tokio::test]
async fn pages_forbid_what_they_never_do_and_are_not_kept() {
    let server = served().await;
    let response = fetch(&format!("{server}/error")).await;
    assert_eq!(response.status(), 404);
    let policy = header(&response, "content-security-policy");
    for rule in
        ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    assert_eq!(header(&response, "referrer-policy"), "same-origin");
    assert_eq!(header(&response, "cache-control"), "no-store");
}
