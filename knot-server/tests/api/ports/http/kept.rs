//! Connections to a program that are kept: for whom, and what becomes of a request on one that breaks.

use super::*;

#[tokio::test]
async fn a_connection_that_is_kept_is_kept_for_one_visitor() {
    let world = World::any_port().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    // It says which of its connections asks, and who began that one.
    let port = program(move |mut stream| {
        let number = counted.fetch_add(1, Relaxed);
        async move {
            let mut first = None;
            while let Some(asked) = head(&mut stream).await {
                let line = asked.lines().next().unwrap().to_owned();
                let who = line.split(['/', ' ']).nth(2).unwrap().to_owned();
                let first = first.get_or_insert(who).clone();
                let said = format!("{line} {first} {number}");
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let path = format!("/spaces/{}/ports/{port}", world.space);
    world.anna.put(&path, json!({"access": "public"})).await.ok();
    let host = world.host_of(port);
    let ask = async |who: &str, n: usize| {
        let request = world.to(&host, Method::GET, &format!("/{who}/{n}"));
        let request = match who {
            "anna" => token(request, &world.anna),
            "bert" => token(request, &world.bert),
            _ => request,
        };
        let said = answer(request).await.text;
        let expected = format!("GET /{who}/{n} HTTP/1.1 {who} ");
        assert!(said.starts_with(&expected), "{expected}: {said}");
    };
    let all = async |who: &'static str| {
        for n in 0..60 {
            ask(who, n).await;
        }
    };
    tokio::join!(all("anna"), all("bert"), all("nobody"), all("anna"), all("bert"));
    let used = connections.load(Relaxed);
    assert!(used < 60, "{used} connections for 300 requests");
    // Nor is one kept that a visitor has signed in.
    let before = connections.load(Relaxed);
    for n in 0..3 {
        let request = world.to(&host, Method::GET, &format!("/nobody/{n}"));
        answer(request.header(header::AUTHORIZATION, "NTLM dGVzdA==")).await;
    }
    assert_eq!(connections.load(Relaxed), before + 3);
}

#[tokio::test]
async fn what_only_asks_is_asked_again_where_a_kept_connection_breaks() {
    let world = World::any_port().await;
    let (heard, mut hears) = mpsc::channel(16);
    // Each connection answers once, and breaks with its second request.
    let port = program(move |mut stream| {
        let heard = heard.clone();
        async move {
            let Some(asked) = head(&mut stream).await else { return };
            heard.send(asked.lines().next().unwrap().to_owned()).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.ok();
            let Some(asked) = head(&mut stream).await else { return };
            heard.send(format!("lost {}", asked.lines().next().unwrap())).await.unwrap();
        }
    })
    .await;
    let ask = async |method: Method, path: &str| {
        answer(token(world.to(&world.host_of(port), method, path), &world.anna)).await
    };
    assert_eq!(ask(Method::GET, "/1").await.text, "ok");
    assert_eq!(ask(Method::GET, "/2").await.text, "ok");
    // What changes something may have been done.
    ask(Method::POST, "/3").await.problem("no_answer");
    let mut all = Vec::new();
    while let Ok(one) = hears.try_recv() {
        all.push(one);
    }
    let line = |line: &str| format!("{line} HTTP/1.1");
    assert_eq!(all, [line("GET /1"), line("lost GET /2"), line("GET /2"), line("lost POST /3")]);
}

#[tokio::test]
async fn an_upload_that_nobody_takes_stops_no_other_of_its_connection() {
    let world = World::any_port().await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf_port = deaf.local_addr().unwrap().port();
    let mut sender = http2(&world).await;
    let (counted, mut count) = mpsc::channel(100_000);
    let endless = stream::unfold(counted, async |counted| {
        counted.send(()).await.ok()?;
        let chunk = Frame::data(Bytes::from(vec![0; 64 << 10]));
        Some((Ok::<_, std::io::Error>(chunk), counted))
    });
    let stuck = two(&world, deaf_port, Method::POST);
    let stuck = stuck.body(body(endless)).unwrap();
    let _stuck = tokio::spawn(sender.send_request(stuck));
    let (_deaf, _) = within(deaf.accept()).await.unwrap();
    // All of it that may wait does.
    while let Ok(Some(())) = tokio::time::timeout(Duration::from_secs(1), count.recv()).await {}
    let chunks = (0..128).map(|_| Ok(Frame::data(Bytes::from(vec![1; 64 << 10]))));
    let request = two(&world, world.program, Method::POST);
    let request = request.body(body(stream::iter(chunks))).unwrap();
    let answer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(
        within(answer.into_body().collect()).await.unwrap().to_bytes(),
        (8 << 20).to_string()
    );
}
