//! Where a port is found: below a path, by another name of its space, and not at all once it was closed.

use super::*;

#[tokio::test]
async fn without_a_domain_a_space_is_below_a_path() {
    let world = World::start().await;
    let prefix = format!("/spaces/anna/web/{}", world.program);
    let at = |path: &str| http().get(format!("http://{}{path}", world.apart));
    let bare = answer(token(at(&prefix), &world.anna)).await;
    assert_eq!(location(&bare), format!("{prefix}/"));
    let opened = answer(token(at(&format!("{prefix}/echo?x=1")), &world.anna)).await;
    assert!(opened.headers.get("content-security-policy").is_none());
    let opened = opened.ok();
    assert_eq!(opened["path"], "/echo?x=1");
    assert_eq!(opened["headers"]["x-forwarded-prefix"], prefix);
    let sent = answer(token(at(&format!("{prefix}/away")), &world.anna)).await;
    assert_eq!(location(&sent), format!("{prefix}/echo"));
    let set = answer(token(at(&format!("{prefix}/cookies")), &world.anna)).await;
    let set: Vec<_> = set.headers.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(set, [&format!("own=1; Path={prefix}/")]);

    // Pages of other people's spaces share the origin there, and so get none.
    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
    let opened = answer(token(at(&format!("{prefix}/echo")), &world.bert)).await;
    let policy = opened.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("sandbox ") && !policy.contains("allow-same-origin"));

    // A browser is let in there, too, and its cookie stays below the path.
    let sent = answer(page(at(&format!("{prefix}/echo")))).await;
    let state = cookies(&sent);
    let session = world.session("anna").await;
    let back = answer(page(http().get(location(&sent)).header(header::COOKIE, session))).await;
    let arrived = answer(http().get(location(&back)).header(header::COOKIE, state)).await;
    assert_eq!(location(&arrived), format!("{prefix}/echo"));
    let set = arrived.headers.get_all(header::SET_COOKIE).iter().next().unwrap();
    assert!(set.to_str().unwrap().contains(&format!("; Path={prefix}/; HttpOnly")), "{set:?}");
    let pass = cookies(&arrived);
    answer(at(&format!("{prefix}/echo")).header(header::COOKIE, pass)).await.ok();
}

#[tokio::test]
async fn another_name_of_a_space_leads_to_its_port() {
    let world = World::start().await;
    let edit = world.anna.request(Method::PATCH, &format!("/spaces/{}", world.space));
    answer(edit.json(&json!({"alt_names": {"shop": world.program}}))).await.ok();
    let host = format!("shop--anna.{DOMAIN}:{}", world.at.port());
    answer(token(world.to(&host, Method::GET, "/echo"), &world.anna)).await.ok();
    answer(token(world.to(&host, Method::GET, "/echo"), &world.bert)).await.problem("not_found");
}

#[tokio::test]
async fn a_port_that_was_closed_stays_closed_whatever_was_said_meanwhile() {
    let world = World::start().await;
    world.share("public").await;
    let id: knot_core::id::Id<model::Space> = world.space.parse().unwrap();
    let closed = || {
        let space = world.server.replica.get(id).unwrap();
        space.port_access.is_empty()
    };
    let path = format!("/spaces/{}/ports/{}", world.space, world.program);
    world.anna.put(&path, json!({"access": "owner"})).await.ok();
    until(&world.server.replica, closed).await;
}
