//! What a visit to a port of a stopped space does: whom it starts the space for, and what they are shown until
//! it runs.

use knot_core::model::{Desired, Observed, SpaceStatus};

use super::*;

/// The world, with the template's `more`, and the space stopped.
async fn stopped(more: &str) -> World {
    let world = World::start().await;
    world.template(more).await;
    observe(&world, Observed::Stopped, None).await;
    world.server.agents.refuse(ReachError::NotRunning);
    world
}

async fn observe(world: &World, state: Observed, cause: Option<&str>) {
    let cause = cause.map(str::to_owned);
    let status = SpaceStatus { state, cause, ..SpaceStatus::default() };
    world.server.observe(&world.space, status).await;
}

fn desired(world: &World) -> Desired {
    world.server.space(&world.space).desired
}

async fn share_with_bert(world: &World) {
    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
}

/// Where a page tries again.
fn again(answer: &Answer) -> String {
    let (_, rest) = answer.text.split_once("content=\"2; url=").expect("the page tries again");
    rest.split_once('"').unwrap().0.replace("&#38;", "&").replace("&amp;", "&")
}

#[tokio::test]
async fn a_visit_of_who_may_start_the_space_starts_it() {
    let world = stopped("start_on_connect: true\n").await;
    let shown = answer(page(token(world.get("/echo?a=1"), &world.anna))).await;
    assert_eq!(shown.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(shown.headers[header::RETRY_AFTER], "2");
    assert_eq!(shown.headers[header::CACHE_CONTROL], "no-store");
    assert!(shown.text.contains("web is starting"), "{}", shown.text);
    assert_eq!(desired(&world), Desired::Running);
    // The page tries again by itself, and says how far it is, until the port answers.
    let at = again(&shown);
    assert_eq!(at, "/_knot/wait?to=/echo%3Fa%3D1");
    for (state, word) in [
        (Observed::Provisioning, "being prepared"),
        (Observed::Starting, "asked to start"),
        (Observed::Stopping, "still stopping"),
    ] {
        observe(&world, state, None).await;
        let waits = answer(page(token(world.get(&at), &world.anna))).await;
        assert_eq!(waits.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(waits.text.contains(word), "{state}: {}", waits.text);
        assert_eq!(again(&waits), at);
    }
    observe(&world, Observed::Running, None).await;
    world.server.agents.relent();
    let back = answer(page(token(world.get(&at), &world.anna))).await;
    assert_eq!((back.status, location(&back).as_str()), (StatusCode::FOUND, "/echo?a=1"));
    answer(token(world.get("/echo?a=1"), &world.anna)).await.ok();
}

#[tokio::test]
async fn a_program_is_told_when_to_ask_again() {
    let world = stopped("start_on_connect: true\n").await;
    let sent = token(world.to(&world.host(), Method::POST, "/echo"), &world.anna).body("hello");
    let told = answer(sent).await;
    assert_eq!(told.headers[header::RETRY_AFTER], "2");
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    told.problem("starting");
    assert_eq!(desired(&world), Desired::Running);
}

#[tokio::test]
async fn a_space_is_started_by_its_users_only_unless_its_template_says_more() {
    let world = stopped("start_on_connect: true\n").await;
    world.share("public").await;
    for request in [world.get("/"), token(world.get("/"), &world.bert)] {
        let shown = answer(page(request)).await;
        assert_eq!(shown.status, StatusCode::CONFLICT);
        assert!(shown.text.contains("web is stopped"), "{}", shown.text);
        assert_eq!(desired(&world), Desired::Stopped);
    }
    // Whom it is shared with may start it, and so does by a visit.
    share_with_bert(&world).await;
    answer(token(world.get("/"), &world.bert)).await.problem("starting");
    assert_eq!(desired(&world), Desired::Running);

    let open = stopped("start_on_visit: true\n").await;
    // Only of a port that they may open.
    answer(open.get("/")).await.problem("not_signed_in");
    answer(token(open.get("/"), &open.bert)).await.problem("not_found");
    assert_eq!(desired(&open), Desired::Stopped);
    open.share("public").await;
    let shown = answer(page(open.get("/"))).await;
    assert!(shown.text.contains("web is starting"), "{}", shown.text);
    assert_eq!(desired(&open), Desired::Running);
    let history = open.anna.get(&format!("/spaces/{}", open.space)).await.ok();
    assert_eq!(history["desired"], "running");

    let by_hand = stopped("").await;
    answer(token(by_hand.get("/"), &by_hand.anna)).await.problem("not_running");
    assert_eq!(desired(&by_hand), Desired::Stopped);
}

#[tokio::test]
async fn what_was_left_open_does_not_bring_a_space_back() {
    let world = stopped("").await;
    let pass = world.pass("anna").await;
    world.template("start_on_connect: true\n").await;
    let ask = async |path: &str, headers: &[(&'static str, &str)]| {
        let mut request = world.get(path).header(header::COOKIE, &pass);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request).await
    };
    let own = ("sec-fetch-site", "same-origin");
    for headers in [
        // A page that polls, with and without what browsers say of it; one that is fetched in advance.
        &[("accept", "*/*")][..],
        &[own, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
        &[("accept", "text/html"), ("sec-purpose", "prefetch")],
    ] {
        let said = ask("/echo", headers).await;
        assert_eq!(said.status, StatusCode::CONFLICT, "{headers:?}");
        assert_eq!(desired(&world), Desired::Stopped, "{headers:?}");
    }
    // Nor does a page of knot's that tries again: it offers the way.
    let shown = ask("/_knot/wait?to=/echo", &[("accept", "text/html")]).await;
    assert!(shown.text.contains("web is stopped") && !shown.text.contains("http-equiv"));
    assert!(
        shown.text.contains("<a class=\"button\" href=\"/echo\">Start it</a>"),
        "{}",
        shown.text
    );
    assert_eq!(desired(&world), Desired::Stopped);
    let opened = [
        own,
        ("accept", "text/html"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert_eq!(ask("/echo", &opened).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(desired(&world), Desired::Running);
    // It leads nowhere else.
    observe(&world, Observed::Running, None).await;
    for elsewhere in ["//evil.example/", "https://evil.example/", "x"] {
        let back = ask(&format!("/_knot/wait?to={elsewhere}"), &[]).await;
        assert_eq!(location(&back), "/", "{elsewhere}");
    }
}

#[tokio::test]
async fn a_start_that_fails_is_said_to_who_may_know_why() {
    let world = stopped("start_on_visit: true\n").await;
    world.share("public").await;
    let db = world.anna.create("db", "app").await;
    let edit = world.anna.request(Method::PATCH, &format!("/spaces/{}", world.space));
    answer(edit.json(&json!({"depends_on": ["db"]}))).await.ok();
    let told = answer(page(token(world.get("/"), &world.anna))).await;
    assert!(told.text.contains("depends on db, which is stopped"), "{}", told.text);
    let told = answer(page(world.get("/"))).await;
    assert!(told.text.contains("web is stopped"), "{}", told.text);
    assert!(!told.text.contains("depends on"), "{}", told.text);
    assert_eq!(desired(&world), Desired::Stopped);
    world.anna.post(&format!("/spaces/{db}/start"), json!(null)).await.ok();
    answer(world.get("/")).await.problem("starting");

    observe(&world, Observed::Failed, Some("no such image")).await;
    let told = answer(page(token(world.get("/"), &world.anna))).await;
    assert!(told.text.contains("could not be started") && told.text.contains("No such image."));
    let told = answer(page(world.get("/"))).await;
    assert!(told.text.contains("could not be started") && !told.text.contains("image"));
}

#[tokio::test]
async fn below_a_path_the_page_tries_again_there() {
    let world = stopped("start_on_connect: true\n").await;
    let prefix = format!("/spaces/anna/web/{}", world.program);
    let at = |path: &str| http().get(format!("http://{}{path}", world.apart));
    let shown = answer(page(token(at(&format!("{prefix}/echo")), &world.anna))).await;
    assert!(shown.text.contains("web is starting"), "{}", shown.text);
    let waits = again(&shown);
    assert_eq!(waits, format!("{prefix}/_knot/wait?to={prefix}/echo"));
    observe(&world, Observed::Running, None).await;
    let back = answer(page(token(at(&waits), &world.anna))).await;
    assert_eq!(location(&back), format!("{prefix}/echo"));
    let other = format!("{prefix}/_knot/wait?to=/spaces/bert/evil/80/");
    assert_eq!(location(&answer(token(at(&other), &world.anna)).await), format!("{prefix}/"));
}
