//! Every page, rendered from sample data and served as the server serves it: what must be on it, and that nothing a
//! person wrote becomes markup.

#![allow(clippy::expect_used, reason = "a test's helpers may fail as its body may")]

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use knot_server::{
    api::types::{Desired, Observed, ServerState},
    pages::{
        self, Chart, Chrome, Conflict, ConflictingValue, ErrorPage, FieldRow, HistoryPage, Invalid,
        LocalPath, RevisionRow, SavedTemplate, ServerRow, ServersPage, SignInPage, SpacePage,
        SpaceRow, SpacesPage, TemplateChoice, TemplatePage, TemplateRow, TemplatesPage,
        TerminalPage,
    },
};

const HOSTILE: &str = "\"'><script>alert(1)</script>";

fn chrome() -> Chrome {
    Chrome { user: Some(HOSTILE.to_owned()), server: "athens-1".to_owned() }
}

fn conflict() -> Conflict {
    let edit = |author: &str| ConflictingValue {
        value: HOSTILE.to_owned(),
        author: author.to_owned(),
        time: "2026-11-22T08:12:00Z".to_owned(),
    };
    Conflict { field: "image".to_owned(), values: vec![edit("bob"), edit("carol")] }
}

fn space(id: &str, desired: Desired, observed: Observed) -> SpaceRow {
    SpaceRow {
        id: id.to_owned(),
        name: HOSTILE.to_owned(),
        owner: "alice".to_owned(),
        template: "rust-dev".to_owned(),
        template_id: "t1".to_owned(),
        desired,
        observed,
        home: "athens-1".to_owned(),
        home_reachable: true,
        ..SpaceRow::default()
    }
}

fn spaces(rows: Vec<SpaceRow>) -> String {
    let templates = vec![TemplateChoice { id: "t1".to_owned(), name: HOSTILE.to_owned() }];
    SpacesPage { chrome: chrome(), spaces: rows, templates }.render().expect("the page renders")
}

/// The part of the spaces page that shows one space.
fn row(space: SpaceRow) -> String {
    let page = spaces(vec![space]);
    let (_, list) = page.split_once("<ul id=\"spaces\"").expect("the list begins");
    let (row, _) = list.split_once("</ul>\n<p id=\"no-spaces\"").expect("the list ends");
    row.to_owned()
}

fn template_page(saved: Option<SavedTemplate>, may_edit: bool) -> String {
    let source = format!("name: rust-dev\ndescription: {HOSTILE}</textarea>\n");
    TemplatePage { chrome: chrome(), saved, source, may_edit }.render().expect("the page renders")
}

fn saved(running: usize) -> SavedTemplate {
    SavedTemplate {
        id: "t1".to_owned(),
        name: HOSTILE.to_owned(),
        revision: "b1946ac92492".to_owned(),
        running,
        outdated: running,
        retired: true,
        invalid: Some(Invalid { problems: vec![HOSTILE.to_owned()], used: "0123".to_owned() }),
        conflicts: vec![conflict()],
    }
}

fn every_page() -> Vec<String> {
    let failed = SpaceRow {
        cause: Some(HOSTILE.to_owned()),
        conflicts: vec![conflict()],
        ..space(HOSTILE, Desired::Running, Observed::Failed)
    };
    let sign_in = SignInPage {
        chrome: Chrome { user: None, server: HOSTILE.to_owned() },
        next: LocalPath::parse("/templates?q=\"><script>").expect("a local path"),
    };
    let templates = TemplatesPage {
        chrome: chrome(),
        may_edit: true,
        templates: vec![TemplateRow {
            id: HOSTILE.to_owned(),
            name: HOSTILE.to_owned(),
            description: HOSTILE.to_owned(),
            platform: "docker".to_owned(),
            image: HOSTILE.to_owned(),
            spaces: 2,
            conflicts: 1,
            retired: true,
            invalid: true,
            groups: vec![HOSTILE.to_owned()],
        }],
    };
    let history = HistoryPage {
        chrome: chrome(),
        id: HOSTILE.to_owned(),
        name: HOSTILE.to_owned(),
        revisions: vec![RevisionRow {
            id: HOSTILE.to_owned(),
            short: "0123456789ab".to_owned(),
            author: HOSTILE.to_owned(),
            time: "2026-11-22T08:12:00Z".to_owned(),
            fields: vec![FieldRow {
                field: HOSTILE.to_owned(),
                lines: vec![format!("-{HOSTILE}"), format!("+{HOSTILE}")],
            }],
            used: true,
        }],
        next: HOSTILE.to_owned(),
        may_edit: true,
    };
    let servers = ServersPage {
        chrome: chrome(),
        servers: vec![ServerRow {
            id: "s1".to_owned(),
            name: HOSTILE.to_owned(),
            zone: HOSTILE.to_owned(),
            quic: "10.1.0.1:7440".to_owned(),
            state: ServerState::Live,
            clock: "clock 5 min ahead".to_owned(),
            this: true,
            platforms: vec!["docker".to_owned(), HOSTILE.to_owned()],
        }],
    };
    let details = SpacePage {
        chrome: chrome(),
        id: HOSTILE.to_owned(),
        name: HOSTILE.to_owned(),
        state: HOSTILE.to_owned(),
        health: Some(HOSTILE.to_owned()),
        cause: Some(HOSTILE.to_owned()),
        charts: vec![Chart {
            title: "Memory",
            now: HOSTILE.to_owned(),
            most: HOSTILE.to_owned(),
            points: HOSTILE.to_owned(),
        }],
        usage_problem: None,
        generation: Some(HOSTILE.to_owned()),
        log: HOSTILE.to_owned(),
        log_problem: None,
    };
    let terminal = TerminalPage {
        id: HOSTILE.to_owned(),
        name: HOSTILE.to_owned(),
        server: "athens-1".to_owned(),
    };
    vec![
        spaces(vec![failed]),
        details.render().expect("the page renders"),
        SpacePage {
            usage_problem: Some(HOSTILE.to_owned()),
            log_problem: Some(HOSTILE.to_owned()),
            ..details
        }
        .render()
        .expect("the page renders"),
        sign_in.render().expect("the page renders"),
        templates.render().expect("the page renders"),
        history.render().expect("the page renders"),
        template_page(Some(saved(3)), true),
        template_page(None, true),
        servers.render().expect("the page renders"),
        terminal.render().expect("the page renders"),
        ErrorPage::forbidden(chrome(), HOSTILE.to_owned()).render().expect("the page renders"),
    ]
}

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
    let page = SpacesPage { chrome: chrome(), spaces: Vec::new(), templates: Vec::new() };
    let page = page.render().expect("the page renders");
    assert!(page.contains(r#"<p id="no-spaces" class="card empty">"#), "{page}");
    assert!(page.contains(r#"<p id="no-templates" class="card empty">"#), "{page}");
    assert!(page.contains(r#"href="/templates/new""#), "{page}");
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
