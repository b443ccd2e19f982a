//! Who may open a port, and how a browser gets in.

use super::*;

#[tokio::test]
async fn a_port_is_its_spaces_users_own() {
    let world = World::start().await;
    let opened = answer(token(world.get("/echo?a=%20b"), &world.anna)).await.ok();
    assert_eq!((&opened["method"], &opened["path"]), (&json!("GET"), &json!("/echo?a=%20b")));
    assert_eq!(opened["headers"]["host"], world.host());
    assert_eq!(opened["headers"]["x-forwarded-host"], world.host());
    assert!(opened["headers"].get("authorization").is_none(), "{opened}");
    // By the name of the port, and by the space's id.
    let by_name = world.host_of("app");
    answer(token(world.to(&by_name, Method::GET, "/echo"), &world.anna)).await.ok();
    let id = world.space.replace('-', "");
    let by_id = format!("{}--{id}.{DOMAIN}:{}", world.program, world.at.port());
    answer(token(world.to(&by_id, Method::GET, "/echo"), &world.anna)).await.ok();

    answer(token(world.get("/echo"), &world.bert)).await.problem("not_found");
    answer(world.get("/echo")).await.problem("not_signed_in");
    // What is not there is no different.
    let nowhere = world.host().replace("web", "nothing");
    answer(token(world.to(&nowhere, Method::GET, "/"), &world.bert)).await.problem("not_found");
    answer(world.to(&nowhere, Method::GET, "/")).await.problem("not_signed_in");

    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
    answer(token(world.get("/echo"), &world.bert)).await.ok();
}

#[tokio::test]
async fn a_port_is_shared_with_all_who_are_signed_in_or_with_everybody() {
    let world = World::start().await;
    world.share("signed-in").await;
    answer(token(world.get("/echo"), &world.bert)).await.ok();
    answer(world.get("/echo")).await.problem("not_signed_in");
    world.share("public").await;
    answer(world.get("/echo")).await.ok();
    // A page elsewhere may use what is open to everybody.
    answer(world.get("/echo").header("sec-fetch-site", "cross-site")).await.ok();

    let listed = world.anna.get("/spaces/web/ports").await.ok();
    let url = format!("{}/", world.origin());
    assert_eq!(
        listed["ports"][1],
        json!({"number": world.program, "name": "app", "protocol": "http", "access": "public", "url": url})
    );
    assert_eq!((&listed["any_port"], &listed["any_url"]), (&json!(false), &json!(null)));
    world.template("any_port: true\n").await;
    let listed = world.anna.get("/spaces/web/ports").await.ok();
    assert_eq!(listed["any_url"], format!("http://{}/", world.host_of("PORT")));
    let path = format!("/spaces/web/ports/{}", world.program);
    world.bert.put(&path, json!({"access": "public"})).await.problem("not_found");
    world.anna.delete(&path).await.ok();
    answer(world.get("/echo")).await.problem("not_signed_in");
}

#[tokio::test]
async fn only_what_the_template_opens_is_open() {
    let world = World::start().await;
    let other = world.host_of(4);
    answer(token(world.to(&other, Method::GET, "/"), &world.anna)).await.problem("port_closed");
    answer(token(world.to(&other, Method::GET, "/"), &world.bert)).await.problem("not_found");
    let path = format!("/spaces/{}/ports/4", world.space);
    world.anna.put(&path, json!({"access": "public"})).await.problem("port_closed");
    world.template("any_port: true\n").await;
    let open = async || answer(token(world.to(&other, Method::GET, "/"), &world.anna)).await;
    open().await.problem("not_listening");
    world.template("features: {ports: false}\n").await;
    let said = answer(token(world.get("/echo"), &world.anna)).await.problem("port_closed");
    assert!(said["detail"].as_str().unwrap().contains("turns ports off"), "{said}");
}

#[tokio::test]
async fn a_browser_is_let_in_by_way_of_knots_own_pages() {
    let world = World::start().await;
    let pass = world.pass("anna").await;
    assert!(pass.starts_with("knot-port="), "{pass}");
    let cookie = format!("own=1; {pass}; knot_session=x");
    let opened = answer(world.get("/echo").header(header::COOKIE, &cookie)).await.ok();
    assert_eq!(opened["headers"]["cookie"], "own=1");
    // A pass is for one port.
    let other = world.to(&world.host_of(1), Method::GET, "/").header(header::COOKIE, &cookie);
    answer(other).await.problem("not_signed_in");

    // Whoever is not signed in there signs in first, and comes back.
    let (refused, _) = world.away("", "/echo").await;
    assert_eq!(refused.status, StatusCode::FOUND);
    assert!(location(&refused).starts_with("/sign-in?next=/ports/enter%3Fto%3D"));
    // Whoever may not open it is told no more than that nothing is there.
    let (refused, _) = world.away(&world.session("bert").await, "/echo").await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(refused.text.contains("Nothing is here"));

    // A ticket is good for the browser that was sent, once.
    let session = world.session("anna").await;
    let (back, state) = world.away(&session, "/echo").await;
    let path = location(&back).strip_prefix(&world.origin()).unwrap().to_owned();
    let (_, other_state) = world.away(&session, "/echo").await;
    for cookie in ["", &other_state] {
        let stolen = answer(page(world.get(&path)).header(header::COOKIE, cookie)).await;
        assert_eq!(stolen.status, StatusCode::UNAUTHORIZED, "{cookie}");
        assert!(stolen.headers.get(header::SET_COOKIE).is_none());
    }
    let arrived = answer(world.get(&path).header(header::COOKIE, state)).await;
    let set: Vec<_> = arrived.headers.get_all(header::SET_COOKIE).iter().collect();
    assert!(set[0].to_str().unwrap().contains("; HttpOnly; SameSite=Lax"));
    assert!(set[1].to_str().unwrap().starts_with("knot-port-state=; Max-Age=0"));
}

#[tokio::test]
async fn knots_pages_send_a_ticket_to_ports_only() {
    let world = World::start().await;
    let session = world.session("anna").await;
    let ties = "0".repeat(32);
    for to in [
        "http://evil.example/".to_owned(),
        format!("http://{}--web--anna.evil.example/", world.program),
        format!("https://{}/echo", world.host()),
        format!("http://{}--web--anna.{DOMAIN}:1/", world.program),
        format!("http://{}@evil.example/", world.host()),
        "//evil.example".to_owned(),
        "javascript:alert(1)".to_owned(),
    ] {
        let request = http().get(format!("http://{}/ports/enter", world.at));
        let request = request.query(&[("to", &to), ("ties", &ties)]);
        let refused = answer(request.header(header::COOKIE, &session)).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{to}");
    }
}

#[tokio::test]
async fn whoever_signs_out_or_loses_the_share_is_out_at_once() {
    let world = World::start().await;
    let open = async |pass: &str| answer(world.get("/echo").header(header::COOKIE, pass)).await;
    let user = |name| users::find(&world.server.replica, name).unwrap().id();
    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();

    let (session, other) = (world.session("bert").await, world.pass("bert").await);
    let (back, state) = world.away(&session, "/echo").await;
    let path = location(&back).strip_prefix(&world.origin()).unwrap().to_owned();
    let pass = cookies(&answer(world.get(&path).header(header::COOKIE, state)).await);
    open(&pass).await.ok();
    // Signing out ends what was had by that session, and no other.
    let out = http().post(format!("http://{}/api/v1/sign-out", world.at));
    let out = out.header(header::COOKIE, &session).header("sec-fetch-site", "same-origin");
    assert_eq!(answer(out).await.status, StatusCode::NO_CONTENT);
    open(&pass).await.problem("not_signed_in");
    open(&other).await.ok();
    let me = http().get(format!("http://{}/api/v1/me", world.at));
    answer(me.header(header::COOKIE, session)).await.problem("not_signed_in");

    let unshare = format!("/spaces/{}/unshare", world.space);
    world.anna.post(&unshare, json!({"user": "bert"})).await.ok();
    open(&other).await.problem("not_found");
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
    open(&other).await.ok();
    let author = Author::Server(world.server.replica.me());
    users::sign_out_everywhere(&world.server.replica, user("bert"), author).await.unwrap();
    open(&other).await.problem("not_signed_in");
}

#[tokio::test]
async fn pages_of_others_may_not_use_a_visitors_pass() {
    let world = World::start().await;
    let pass = world.pass("anna").await;
    world.bert.create("evil", "app").await;
    world.anna.create("api", "app").await;
    let origin = |space: &str, owner: &str| {
        format!("http://{}--{space}--{owner}.{DOMAIN}:{}", world.program, world.at.port())
    };
    let asked = async |headers: &[(&'static str, String)]| {
        let mut request =
            world.to(&world.host(), Method::POST, "/echo").header(header::COOKIE, &pass);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        answer(request).await
    };
    let site = |value: &str| ("sec-fetch-site", value.to_owned());
    asked(&[]).await.ok();
    asked(&[site("same-origin"), ("origin", world.origin())]).await.ok();
    asked(&[("origin", world.origin())]).await.ok();
    asked(&[site("same-site"), ("origin", origin("api", "anna"))]).await.ok();
    for headers in [
        vec![site("same-site"), ("origin", origin("evil", "bert"))],
        vec![site("cross-site"), ("origin", "https://evil.example".to_owned())],
        vec![("origin", origin("evil", "bert"))],
        vec![("origin", "null".to_owned())],
        vec![site("same-site")],
        // A form that is sent is more than a link that is followed.
        vec![
            site("same-site"),
            ("sec-fetch-mode", "navigate".to_owned()),
            ("sec-fetch-dest", "document".to_owned()),
        ],
    ] {
        asked(&headers).await.problem("cross_origin");
    }
    let link =
        world.get("/echo").header(header::COOKIE, &pass).header("sec-fetch-site", "cross-site");
    answer(link.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document"))
        .await
        .ok();
}

#[tokio::test]
async fn a_spaces_host_is_never_knots_own() {
    let world = World::start().await;
    world.share("public").await;
    // The API's paths are the space's there.
    let me = answer(token(world.get("/api/v1/me"), &world.anna)).await.ok();
    assert_eq!(me["path"], "/api/v1/me");
    for host in ["x", "a.b", "8080", "8080--a--b--c", "xn--a--b", ""] {
        let host = format!("{host}.{DOMAIN}:{}", world.at.port());
        let refused = answer(token(world.to(&host, Method::GET, "/api/v1/me"), &world.anna)).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{host}");
        assert_eq!(refused.json()["code"], "not_found");
    }
    let apart = http().get(format!("http://{}/api/v1/me", world.apart));
    answer(token(apart, &world.anna)).await.problem("not_found");
    let own = world.to(&world.at.to_string(), Method::GET, "/api/v1/me");
    assert_eq!(answer(token(own, &world.anna)).await.ok()["name"], "anna");

    let set = answer(world.get("/cookies")).await;
    let set: Vec<_> = set.headers.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(set, ["own=1; Path=/"]);
}
