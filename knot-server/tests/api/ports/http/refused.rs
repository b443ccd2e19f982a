//! What a request or a program may not say, and what is not understood.

use super::*;

#[tokio::test]
async fn a_second_request_is_not_smuggled_within_a_first() {
    let world = World::any_port().await;
    let (heard, mut hears) = mpsc::channel(64);
    let routes = Router::new().fallback(any(move |request: Request| {
        let heard = heard.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
            let text = body.map_or_else(
                |_| "broken".to_owned(),
                |body| String::from_utf8(body.to_vec()).unwrap(),
            );
            heard.send(format!("{path} {text}")).await.unwrap();
            "heard"
        }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let second = "GET /second HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = format!("0\r\n\r\n{second}");
    let length = second.len();
    let plain = |headers: &str| format!("{headers}\r\n\r\n{second}");
    let attempts = [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n{chunked}", chunked.len()),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: identity, chunked\r\nContent-Length: 3\r\n\r\n{chunked}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: \x0bchunked\r\n\r\n{chunked}"),
        format!("X: y\r\n Transfer-Encoding: chunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n{second}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n{chunked}"),
        format!("Transfer-Encoding: chunked\r\n\r\n10000000000000000f\r\n{second}"),
        plain(&format!("Content-Length: 0\r\nContent-Length: {length}")),
        plain(&format!("Content-Length: 0, {length}")),
        plain("Content-Length: +0"),
        plain("Content-Length: -1"),
        plain("Content-Length: 0x0"),
        plain("Content-Length : 0"),
        plain("Content-Length: 99999999999999999999999"),
        plain("Content-Length: 0\r\nHost: second"),
        plain("Content-Length: 0\r\nX: a\0b"),
    ];
    for (n, attempt) in attempts.iter().enumerate() {
        let mut client = world.connect().await;
        let first = format!("/first/{n} ");
        let request =
            format!("{}{attempt}", world.request(port, &format!("POST {}", first.trim())));
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answers = rest(&mut client).await;
        let mut reached = Vec::new();
        while let Ok(one) = hears.try_recv() {
            reached.push(one);
        }
        // That an earlier one broke off may be heard only now.
        let (mine, other): (Vec<_>, Vec<_>) =
            reached.into_iter().partition(|one: &String| one.starts_with(&first));
        let is_earlier = |one: &String| one.starts_with("/first/") && one.ends_with(" broken");
        assert!(other.iter().all(is_earlier), "{attempt:?}: {other:?}");
        // Refused, or one request that both sides have read alike; the one behind it is no port's.
        assert!(mine.len() <= 1, "{attempt:?}: {mine:?}");
        let refused = answers.is_empty() || answers.starts_with("HTTP/1.1 400");
        let whole = mine == [&*first] && answers.starts_with("HTTP/1.1 200");
        assert!(refused || whole, "{attempt:?}: {mine:?} {answers}");
        assert!(
            !refused || mine.iter().all(|one| *one == format!("{first}broken")),
            "{attempt:?}: {mine:?}"
        );
    }
}

#[tokio::test]
async fn headers_without_measure_are_refused_both_ways() {
    let world = World::any_port().await;
    let fine = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let ask = async |port: u16, headers: &str| {
        let mut client = world.connect().await;
        let request = format!("{}{headers}\r\n", world.request(port, "GET /"));
        // It may be refused before it has been read.
        client.write_all(request.as_bytes()).await.ok();
        head(&mut client).await.unwrap_or_default()
    };
    let answer = ask(fine, &format!("X-Long: {}\r\n", "x".repeat(30_000))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for headers in [format!("X-Long: {}\r\n", "x".repeat(200_000)), "X: y\r\n".repeat(300)] {
        let answer = ask(fine, &headers).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let many = program(async |mut stream| {
        head(&mut stream).await;
        let headers = "X: y\r\n".repeat(400);
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes()).await.ok();
    });
    let endless = program(async |mut stream| {
        head(&mut stream).await;
        while stream.write_all("X: y".repeat(1_000).as_bytes()).await.is_ok() {}
    });
    for port in [many.await, endless.await] {
        let answer = ask(port, "").await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}

#[tokio::test]
async fn a_program_that_does_not_upgrade_is_heard() {
    let world = World::any_port().await;
    let port = program(async |mut stream| {
        while let Some(asked) = head(&mut stream).await {
            let asked = lower(&asked);
            let answer = match (asked.contains("/socket"), asked.contains("upgrade: websocket")) {
                (true, true) => "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
                (false, false) => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
                _ => "HTTP/1.1 500 Wrong\r\nContent-Length: 0\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let mut client = world.connect().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let request = format!("{}{upgrade}", world.request(port, "GET /socket"));
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!lower(&answer).contains("upgrade"), "{answer}");
    assert_eq!(exactly(&mut client, 2).await, "no");
    // The connection goes on as it was.
    client.write_all(format!("{}\r\n", world.request(port, "GET /")).as_bytes()).await.unwrap();
    assert!(head(&mut client).await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(exactly(&mut client, 3).await, "yes");

    // One that upgrades without being asked to is not heard further.
    let rude =
        answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            .await;
    super::answer(token(world.to(&world.host_of(rude), Method::GET, "/"), &world.anna))
        .await
        .problem("no_answer");
}

#[tokio::test]
async fn a_program_may_speak_tls_with_any_certificate() {
    let world = World::start().await;
    let key = rcgen::generate_simple_self_signed(vec!["nobody.invalid".to_owned()]).unwrap();
    let secret =
        rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], secret)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let port = program(move |stream| {
        let acceptor = acceptor.clone();
        counted.fetch_add(1, Relaxed);
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while let Some(asked) = head(&mut stream).await {
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{asked}", asked.len());
                if write(&mut stream, answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let file = format!(
        "name: app\nplatform: docker\nimage: busybox\nports: {{safe: {port}/https}}\nany_port: true\n"
    );
    world.root.apply(&file).await.ok();
    let safe = world.host_of("safe");
    for path in ["/one", "/two", "/three"] {
        let said = answer(token(world.to(&safe, Method::GET, path), &world.anna)).await;
        assert!(said.text.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{}", said.text);
        // The program is told how the browser came, not how it is spoken to.
        assert!(lower(&said.text).contains("x-forwarded-proto: http\r\n"), "{}", said.text);
    }
    assert_eq!(taken.load(Relaxed), 1, "the connection was used again");
    // One that speaks no TLS where it should is said.
    let file = file.replace(&format!("{port}/https"), &format!("{}/https", world.program));
    world.root.apply(&file).await.ok();
    let wrong = answer(token(world.to(&world.host(), Method::GET, "/echo"), &world.anna)).await;
    let said = wrong.problem("no_answer");
    assert!(said["detail"].as_str().unwrap().contains("TLS"), "{said}");
}
