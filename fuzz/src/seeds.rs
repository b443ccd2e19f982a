//! Inputs to begin with, made by the code that writes such bytes: what a fuzzer would take days to find.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use knot_core::{
    agent::{
        Answer, Attach, Attached, Command, Enrol, Enrolled, Exit, FromAgent, FromTerminal, Heard,
        Hello, Make, Open, Refusal, Run, ServerAddress, Target, TerminalInfo, TerminalSize,
        ToAgent, ToTerminal, Welcome,
    },
    clock::Millis,
    doc::{Document, Layering, wall},
    generation::Generation,
    id::{Author, ChangeHash, DocId, Kind, ServerId},
    membership::{self, Input, Membership, Output, Root},
    net::join::JoinToken,
    replica::Token,
    schema::Scalar,
    store::{Grave, Record},
    sync::{self, Buckets, DocChanges, ItemKey, Items, Message, Nodes, Prefix, Want},
    wire,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{input_of, server};

/// Writes the corpora of all targets into a folder, one folder for each.
///
/// # Errors
/// A file cannot be written.
pub fn write(corpus: &Path) -> io::Result<()> {
    for (target, seeds) in [
        ("agent_frame", agent_frames()),
        ("causality_token", causality_tokens()),
        ("change", histories()),
        ("join_token", join_tokens()),
        ("membership", datagrams()),
        ("message", messages()),
        ("stored", stored()),
    ] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (n, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{n:02}")), seed)?;
        }
        println!("{}: {} seeds", folder.display(), seeds.len());
    }
    Ok(())
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    wire::encode(value).expect("a seed can be encoded")
}

/// Each as an item, and all of them once more as a stream of frames.
fn with_frames(mut items: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    for item in &items {
        stream
            .extend_from_slice(&u32::try_from(item.len()).expect("seeds are short").to_be_bytes());
        stream.extend_from_slice(item);
    }
    items.push(stream);
    items
}

const DOC: DocId = DocId { kind: Kind::new("template"), uuid: Uuid::from_u128(7) };
const SERVER: ServerId = ServerId(Uuid::from_u128(1));
const AUTHOR: Author = Author::Server(SERVER);

fn edit(document: &mut Document, actor: u8, puts: &[(&str, Scalar)]) -> Bytes {
    let puts = puts.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let held = document.edit(puts, AUTHOR, Millis(1_795_357_504_123), || [actor; 16]);
    held.expect("a seed is within the limits").expect("a seed changes something").bytes
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

/// Documents as their changes: one edit, several, concurrent ones, and two of one actor and number.
fn histories() -> Vec<Vec<u8>> {
    let mut one = Document::default();
    let first = edit(&mut one, 1, &[("name", text("shell")), ("memory", Scalar::Int(1 << 30))]);
    let mut two = Document::default();
    two.receive(vec![wall::inspect(&first).expect("an own change is sound")]);
    let left = edit(&mut one, 1, &[("name", text("left")), ("volumes/cache", text("/cache"))]);
    let right = edit(&mut two, 2, &[("name", text("right")), ("volumes/cache", Scalar::Null)]);
    let mut fork = Document::default();
    fork.receive(vec![wall::inspect(&first).expect("an own change is sound")]);
    let other = edit(&mut fork, 2, &[("description", text("another future of one actor"))]);
    one.receive(vec![wall::inspect(&right).expect("an own change is sound")]);
    let settled = edit(&mut one, 1, &[("name", text("both")), ("admin", Scalar::Bool(true))]);
    let mut stack = Document::new(Layering { full: 2, loose: 1 });
    let numbers = 0..7_i64;
    let layers = numbers
        .map(|n| edit(&mut stack, 3, &[("memory", Scalar::Int(n)), ("name", text("layer"))]))
        .collect();
    [
        layers,
        vec![first.clone()],
        vec![first.clone(), left.clone(), right.clone(), settled.clone()],
        vec![settled, right.clone(), left, first.clone()],
        vec![first, right, other],
    ]
    .iter()
    .map(|changes| input_of(changes))
    .collect()
}

/// What is kept of layers at rest, and changes above them; and single rows.
fn stored() -> Vec<Vec<u8>> {
    let mut document = Document::new(Layering { full: 2, loose: 1 });
    let mut seeds = Vec::new();
    for n in 0..5_i64 {
        let change = edit(&mut document, 3, &[("memory", Scalar::Int(n)), ("name", text("rest"))]);
        let Some((_, base)) = document.compact().base else { continue };
        let length = u16::try_from(base.len()).expect("a seed is small").to_le_bytes();
        seeds.push([&length[..], &base, &input_of(&[change])].concat());
    }
    let grave = Grave { doc: DOC, by: AUTHOR, at: Millis(1) };
    let schema = knot_core::model::schema();
    seeds.push(encoded(&grave));
    seeds.push(encoded(&document.view(DOC.kind, &schema)));
    seeds.push(encoded(&document.heads()));
    seeds
}

fn messages() -> Vec<Vec<u8>> {
    let key = ItemKey::document(DOC);
    let hash = ChangeHash([9; 32]);
    let grave = Grave { doc: DOC, by: AUTHOR, at: Millis(1) };
    let record = Record {
        subject: DOC,
        server: SERVER,
        run: 3,
        n: 4,
        value: Some(Bytes::from_static(&[0xa0])),
    };
    let mut document = Document::default();
    let change = edit(&mut document, 1, &[("name", text("shell"))]);
    let messages = [
        Message::Root { count: 12, sum: [1, 2, 3, 4] },
        Message::Nodes(Nodes::new(7, 1, [(Prefix::ROOT, vec![2; 16])])),
        Message::Nodes(Nodes::new(7, 2, [(Prefix::ROOT, vec![2; 256])])),
        Message::Items(Buckets::new([(Prefix::ROOT, vec![(key, 5)])])),
        Message::Offer(Items::new(&[(key, 5), (ItemKey::record(DOC, SERVER), 6)])),
        Message::Pull { number: 1, wants: vec![Want { key, have: vec![hash] }] },
        Message::Pulled { number: 1, rest: vec![key] },
        Message::IHave(Items::new(&[(key, 5)])),
        Message::Graft(vec![Want { key, have: vec![hash, hash] }]),
        Message::Prune,
        Message::News(sync::Answer {
            changes: vec![DocChanges { doc: DOC, changes: vec![change] }],
            graves: vec![grave],
            records: vec![record.clone()],
            hops: Some(1),
        }),
        Message::Presence(vec![record]),
    ];
    with_frames(messages.iter().map(encoded).collect())
}

/// What two servers say to the one that [`crate::listener`] is, while they find each other, lose what
/// goes one way between two of them, and call it down: some of each message.
fn datagrams() -> Vec<Vec<u8>> {
    let root = Root { count: 12, sum: [1, 2, 3, 4] };
    let mut servers = [1, 2, 3].map(|n| Membership::new(server(n), 1, [n as u8; 32]));
    let mut seeds: BTreeMap<u8, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut give = |n: usize, input: Input, now: u64, lost: Option<(u128, u128)>| {
        let now = Duration::from_millis(now);
        let sent = |from, outputs: Vec<_>| outputs.into_iter().map(move |output| (from, output));
        let mut waiting: VecDeque<_> =
            sent(server(n as u128), servers[n - 1].handle(now, input)).collect();
        while let Some((from, output)) = waiting.pop_front() {
            let Output::Send(to, packet) = output else { continue };
            if lost.is_some_and(|(a, b)| (server(a), server(b)) == (from, to)) {
                continue;
            }
            if to == server(1) {
                seeds
                    .entry(packet[MESSAGE])
                    .or_default()
                    .insert(membership::encode(root, &packet).to_vec());
            }
            let at = usize::try_from(to.0.as_u128()).expect("three servers");
            let outputs = servers[at - 1].receive(now, from, &packet).unwrap_or_default();
            waiting.extend(sent(to, outputs));
        }
    };
    let all = [1, 2, 3].map(server);
    (1..4).for_each(|n| give(n, Input::Belong(all.into()), 0, None));
    for n in [2, 1, 3] {
        for peer in all.into_iter().filter(|peer| *peer != server(n as u128)) {
            give(n, Input::Linked { peer, run: 1 }, 0, None);
        }
    }
    for step in 0..160 {
        let lost = [(2, 3), (1, 3), (2, 1), (3, 1)][step / 40];
        (1..4).for_each(|n| give(n, Input::Due, step as u64 * 100, Some(lost)));
    }
    give(2, Input::Unreached { peer: server(1), run: 1 }, 16_000, None);
    (1..40).for_each(|step| give(1, Input::Due, 16_000 + step * 100, None));
    assert_eq!(seeds.len(), 10, "a message is missing");
    seeds.into_values().flat_map(|seeds| seeds.into_iter().take(6)).collect()
}

/// Where a packet has its message: behind two names and an incarnation.
const MESSAGE: usize = 58;

fn agent_frames() -> Vec<Vec<u8>> {
    let size = TerminalSize { columns: 80, rows: 24 };
    let generation = Generation { term: 1, n: 2 };
    let address = SocketAddr::from(([192, 0, 2, 1], 7_300));
    let server = ServerAddress {
        id: SERVER.0,
        zone: "a".to_owned(),
        address,
        keys: vec![Default::default()],
    };
    let data = Bytes::from_static(b"ls\n");
    let here = Target::Tcp { host: "localhost".to_owned(), port: 80 };
    let mut items = vec![
        encoded(&Hello { space: DOC.uuid, generation, version: "0.1.0".to_owned() }),
        encoded(&Welcome { servers: vec![server], ..Welcome::default() }),
        encoded(&Enrol { generation, key: Default::default() }),
        encoded(&Enrolled::Yes),
        encoded(&Open::Run(Run {
            command: Command::Program(vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()]),
            environment: [("LEVEL".to_owned(), "3".to_owned())].into(),
            directory: Some("/work".to_owned()),
            terminal: Some(size),
            modes: vec![(53, 0)],
        })),
        encoded(&Open::Connect(here.clone())),
        encoded(&Open::Listen { listener: SERVER.0, at: Target::Unix(String::new()) }),
        encoded(&Open::Take { listener: SERVER.0, connection: 1 }),
        encoded(&Open::Datagrams(53)),
        encoded(&Answer::Listening(here)),
        encoded(&Answer::Refused { refusal: Refusal::NotListening, why: "no".to_owned() }),
        encoded(&Heard { connection: 1, host: "127.0.0.1".to_owned(), port: 4_000 }),
    ];
    let attach = Attach {
        terminal: SERVER.0,
        make: Some(Make { name: "build".to_owned(), ..Make::default() }),
        viewer: SERVER.0,
        size,
        from: Some(9),
        sent: 3,
    };
    let info = TerminalInfo {
        id: SERVER.0,
        name: "build".to_owned(),
        command: "shell".to_owned(),
        size,
        viewers: 2,
        since: Default::default(),
    };
    items.extend([
        encoded(&Open::Terminals),
        encoded(&Open::Attach(attach)),
        encoded(&Open::Rename { terminal: SERVER.0, name: "a".to_owned() }),
        encoded(&Open::End(SERVER.0)),
        encoded(&vec![info]),
        encoded(&Attached { from: None, head: 9, taken: 3, size, leads: true }),
        encoded(&ToTerminal::Input { offset: 3, bytes: data.clone() }),
        encoded(&ToTerminal::Resize(size)),
    ]);
    let from_terminal = [
        FromTerminal::Snapshot { at: 9, length: 3 },
        FromTerminal::Output(data.clone()),
        FromTerminal::Taken(3),
        FromTerminal::Size(size),
        FromTerminal::Leads(false),
        FromTerminal::Ended(Exit::Code(0)),
        FromTerminal::Stopping,
        FromTerminal::Replaced,
    ];
    items.extend(from_terminal.iter().map(encoded));
    let to_agent = [
        ToAgent::Input(data.clone()),
        ToAgent::EndOfInput,
        ToAgent::Resize(size),
        ToAgent::Signal(15),
    ];
    items.extend(to_agent.iter().map(encoded));
    let from_agent = [
        FromAgent::Output(data.clone()),
        FromAgent::ErrorOutput(data),
        FromAgent::Exit(Exit::Code(3)),
        FromAgent::Exit(Exit::Signal(9)),
        FromAgent::Failed("no such program".to_owned()),
    ];
    items.extend(from_agent.iter().map(encoded));
    with_frames(items)
}

fn causality_tokens() -> Vec<Vec<u8>> {
    let mut token = Token::new();
    let empty = token.to_text();
    token.add(DOC, &[ChangeHash([9; 32]), ChangeHash([8; 32])]);
    let one = token.to_text();
    for n in 0..32 {
        token.add(DocId { uuid: Uuid::from_u128(n), ..DOC }, &[ChangeHash([7; 32])]);
    }
    [empty, one, token.to_text()].map(String::into_bytes).to_vec()
}

/// What is in a join token, whose parts are private.
#[derive(Serialize)]
struct JoinTokenParts {
    authority: [u8; 32],
    server: Uuid,
    secret: [u8; 32],
}

fn join_tokens() -> Vec<Vec<u8>> {
    let parts = JoinTokenParts { authority: [1; 32], server: SERVER.0, secret: [2; 32] };
    let token = format!("knot1.{}", BASE64_URL_SAFE_NO_PAD.encode(encoded(&parts)));
    assert!(token.parse::<JoinToken>().is_ok(), "the parts of a token have changed");
    [token.as_str(), "knot1.", " knot1.oA\n"].map(|text| text.as_bytes().to_vec()).to_vec()
}
