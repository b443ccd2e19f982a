//! Any sequence of output, viewers and losses: each viewer sees what the terminal shows, and each byte
//! that is typed arrives once.

use proptest::{
    collection::vec,
    prelude::*,
    sample::{self, select},
};

use super::*;

const SIZE: TerminalSize = TerminalSize { columns: 20, rows: 6 };
/// Small, so that viewers fall out of it.
const LOG: usize = 16 << 10;

fn id(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n) + 1)
}

/// A viewer, and what it makes of what it is sent.
struct Seer {
    id: Uuid,
    size: TerminalSize,
    stream: Option<u64>,
    screen: Option<Screen>,
    /// How many bytes it has; `None` until a snapshot is whole.
    has: Option<u64>,
    /// Where the output goes on after the snapshot.
    at: u64,
    /// How much of what comes is a snapshot.
    drawing: u64,
    /// How much it has typed, and knows to be taken.
    typed: u64,
    taken: u64,
    leads: bool,
}

struct World {
    state: State,
    now: Instant,
    seers: Vec<Seer>,
    size: TerminalSize,
    /// All output, with which to compare.
    written: Vec<u8>,
    /// What the command was given.
    given: Vec<u8>,
    /// What it is about to write.
    cut: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let seer = |n| Seer {
            id: id(n),
            size: TerminalSize { columns: 20 + u16::from(n), rows: 6 },
            stream: None,
            screen: None,
            has: None,
            at: 0,
            drawing: 0,
            typed: 0,
            taken: 0,
            leads: false,
        };
        Self {
            state: State::with_log(SIZE, LOG),
            now: Instant::now(),
            seers: (0..3).map(seer).collect(),
            size: SIZE,
            written: Vec::new(),
            given: Vec::new(),
            cut: Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let bytes = [std::mem::take(&mut self.cut).as_slice(), bytes].concat();
        self.written.extend_from_slice(&bytes);
        self.state.output(&bytes, self.now);
    }

    fn attach(&mut self, n: usize, again: bool) {
        let seer = &mut self.seers[n];
        let from = seer.has.filter(|_| again && seer.screen.is_some());
        let attach = Attach {
            terminal: Uuid::nil(),
            make: None,
            viewer: seer.id,
            size: seer.size,
            from,
            sent: seer.taken,
        };
        let (stream, attached) = self.state.attach(&attach, self.now).unwrap();
        seer.stream = Some(stream);
        seer.drawing = 0;
        seer.has = attached.from;
        if from.is_none() {
            seer.screen = Some(Screen::new(attached.size, 0));
        } else if let Some(screen) = &mut seer.screen {
            assert!(attached.from.is_none_or(|at| Some(at) == from), "nothing comes twice");
            screen.resize(attached.size);
        }
        assert!(attached.taken >= seer.taken && attached.taken <= seer.typed);
        seer.taken = attached.taken;
        seer.leads = attached.leads;
        // What was not taken is typed again.
        let (from, to) = (seer.taken, seer.typed);
        self.type_range(n, from, to);
    }

    fn type_range(&mut self, n: usize, from: u64, to: u64) {
        let seer = &self.seers[n];
        let Some(stream) = seer.stream else { return };
        let bytes: Vec<u8> = (from..to).map(|at| typed(n, at)).collect();
        let new = self.state.input(seer.id, stream, from, bytes.into()).unwrap();
        self.given.extend_from_slice(&new);
    }

    /// A viewer takes so many frames; whether there was anything at all.
    fn take(&mut self, n: usize, frames: usize) -> bool {
        let seer = &mut self.seers[n];
        let Some(stream) = seer.stream else { return false };
        let mut any = false;
        for _ in 0..frames {
            let screen = seer.screen.as_mut().unwrap();
            let frame = match self.state.next(seer.id, stream, self.now) {
                Next::Send(frame) => frame,
                Next::Wait => return any,
                Next::Finish(frame) => panic!("{frame:?}"),
            };
            any = true;
            match frame {
                FromTerminal::Snapshot { at, length } => {
                    assert_eq!(seer.drawing, 0);
                    (seer.has, seer.at, seer.drawing) = (None, at, length);
                }
                FromTerminal::Output(bytes) if seer.drawing > 0 => {
                    seer.drawing -= bytes.len() as u64;
                    seer.has = (seer.drawing == 0).then_some(seer.at);
                    screen.feed(&bytes);
                }
                FromTerminal::Output(bytes) => {
                    let has = seer.has.expect("a snapshot or a place in the log");
                    let start = usize::try_from(has).unwrap();
                    assert_eq!(bytes, self.written[start..start + bytes.len()], "contiguous");
                    seer.has = Some(has + bytes.len() as u64);
                    screen.feed(&bytes);
                }
                FromTerminal::Taken(taken) => seer.taken = taken,
                FromTerminal::Size(size) => screen.resize(size),
                FromTerminal::Leads(leads) => seer.leads = leads,
                frame => panic!("{frame:?}"),
            }
        }
        any
    }

    fn lose(&mut self, n: usize) {
        if let Some(stream) = self.seers[n].stream.take() {
            self.state.detach(self.seers[n].id, stream);
        }
    }

    /// A program draws when the size has changed: sizes that nothing is drawn in between of cut off what
    /// stands at the margin, and a viewer that comes just then cannot know what that was.
    fn settle(&mut self) {
        if self.size != self.state.size() {
            self.size = self.state.size();
            self.write(b"\r");
        }
    }

    fn check_all(&mut self) {
        for n in 0..self.seers.len() {
            if self.seers[n].stream.is_none() {
                self.attach(n, true);
                self.settle();
            }
        }
        self.write(b"");
        while (0..self.seers.len()).any(|n| self.take(n, 10_000)) {}
        let wanted = self.state.screen.contents();
        for seer in &mut self.seers {
            assert_eq!(seer.has, Some(self.written.len() as u64));
            assert_eq!(seer.taken, seer.typed);
            let screen = seer.screen.as_mut().unwrap();
            // Who was given rows above the screen has the same screen.
            assert_eq!(screen.contents(), wanted, "viewer {}", seer.id);
        }
        assert_eq!(self.seers.iter().filter(|seer| seer.leads).count(), 1, "one leads");
        for n in 0..self.seers.len() {
            let mine: Vec<u8> =
                self.given.iter().copied().filter(|byte| whose(*byte) == n).collect();
            let wanted: Vec<u8> = (0..self.seers[n].typed).map(|at| typed(n, at)).collect();
            assert_eq!(mine, wanted, "each byte once and in order");
        }
    }
}

/// The byte that a viewer types at an offset: says whose it is.
fn typed(n: usize, at: u64) -> u8 {
    u8::try_from(n).unwrap() << 6 | (at % 61).to_le_bytes()[0]
}

fn whose(byte: u8) -> usize {
    usize::from(byte >> 6)
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    /// Written in two parts, and other things happen in between.
    WriteCut(Vec<u8>, usize),
    Attach(usize, bool),
    Lose(usize),
    Take(usize, usize),
    Type(usize, u64),
    /// Typed, and the stream is lost before anything else.
    TypeIntoNothing(usize, u64),
    Resize(usize, TerminalSize),
    Wait(u64),
}

fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ]{1,30}".prop_map(String::into_bytes),
        2 => select(vec!["\r\n", "\r", "\n", "\t", "\x08"]).prop_map(|text| text.as_bytes().to_vec()),
        2 => (1..8u8, 1..22u8).prop_map(|(row, column)| format!("\x1b[{row};{column}H").into_bytes()),
        3 => select(vec![
            "\x1b[1;31m", "\x1b[0m", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[?25h", "\x1b[2J",
            "\x1b(0", "\x1b(B", "\x0e", "\x0f", "\x1b)0", "\x1b[?2004h", "\x1b[?1000h", "\x1b[?1006h",
            "\x1b[?1004h", "\x1b]2;title\x07", "\x1b[H\x1b[J", "\x1b[?1h", "\x1b=", "日本", "\x1b[3 q",
            "\x1b[6n", "\x1b]11;?\x07", "\x1b[c", "\x1b[2;4r", "\x1b[r", "\x1b[L", "\x1b[M", "\x1bM",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        3 => select(vec![
            "\x1bH", "\x1b[g", "\x1b[3g", "\x1b[I", "\x1b[Z", "\x1b[4h", "\x1b[4l", "\x1b[20h", "\x1b[20l", "\x1b[?7l",
            "\x1b[?7h", "\x1b7", "\x1b8", "\x1b[s", "\x1b[u", "\x1b[?6h", "\x1b[?6l", "\x1b*0", "\x1bn", "\x1b[>5u",
            "\x1b[<u", "\x1b[=3;2u", "\x1b[>4;2m", "\x1b]4;1;rgb:11/22/33;7;#fff\x1b\\", "\x1b]104;1\x07",
            "\x1b]11;red\x07", "\x1b]111\x07", "\x1b[?5h", "\x1b[?12l", "\x1b[?66h", "\x1b[!p", "\x1bc", "\x1b[?47h",
            "\x1b[?47l", "\x1b[?1047h", "\x1b[?1047l", "\x1b[?1048h", "\x1b[?1048l", "\x1b[4:3;58;5;1m", "\x1b[D",
            "\x1b[P", "\x1b[@", "\x1b[S", "\x1b[T", "\x1bD", "\x1bE", "\x1b[7m", "e\u{301}",
        ]).prop_map(|text| text.as_bytes().to_vec()),
    ];
    vec(piece, 1..12).prop_map(|pieces| pieces.concat())
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..3usize;
    let size = (10..30u16, 3..9u16).prop_map(|(columns, rows)| TerminalSize { columns, rows });
    prop_oneof![
        6 => output().prop_map(Step::Write),
        2 => (output(), any::<sample::Index>()).prop_map(|(bytes, at)| {
            let at = at.index(bytes.len());
            Step::WriteCut(bytes, at)
        }),
        1 => (4_000..30_000usize).prop_map(|length| Step::Write(vec![b'x'; length])),
        3 => (who.clone(), any::<bool>()).prop_map(|(n, again)| Step::Attach(n, again)),
        2 => who.clone().prop_map(Step::Lose),
        5 => (who.clone(), 1..6usize).prop_map(|(n, frames)| Step::Take(n, frames)),
        3 => (who.clone(), 1..40u64).prop_map(|(n, count)| Step::Type(n, count)),
        2 => (who.clone(), 1..40u64).prop_map(|(n, count)| Step::TypeIntoNothing(n, count)),
        2 => (who, size).prop_map(|(n, size)| Step::Resize(n, size)),
        1 => (0..20_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_viewer_sees_what_the_terminal_shows(steps in vec(step(), 1..60)) {
        let mut world = World::new();
        world.attach(0, false);
        for step in steps {
            match step {
                Step::Write(bytes) => world.write(&bytes),
                Step::WriteCut(bytes, at) => {
                    world.write(&bytes[..at]);
                    world.cut = bytes[at..].to_vec();
                }
                Step::Attach(n, again) => world.attach(n, again),
                Step::Lose(n) => world.lose(n),
                Step::Take(n, frames) => { world.take(n, frames); }
                Step::Type(n, count) => {
                    let from = world.seers[n].typed;
                    world.seers[n].typed += count;
                    world.type_range(n, from, from + count);
                }
                Step::TypeIntoNothing(n, count) => {
                    world.lose(n);
                    world.seers[n].typed += count;
                }
                Step::Resize(n, size) => {
                    let seer = &mut world.seers[n];
                    seer.size = size;
                    if let Some(stream) = seer.stream {
                        world.state.resize(seer.id, stream, size);
                    }
                }
                Step::Wait(millis) => world.now += Duration::from_millis(millis),
            }
            world.settle();
        }
        world.check_all();
    }
}

#[test]
fn one_that_takes_nothing_holds_the_terminal_up_for_a_while_only() {
    let mut world = World::new();
    assert_eq!(world.state.read(world.now), Read::Now, "nobody looks");
    world.attach(0, false);
    world.take(0, 10);
    let full = vec![b'x'; usize::try_from(AHEAD).unwrap()];
    world.write(&full);
    assert_eq!(world.state.read(world.now), Read::Until(world.now + STUCK));
    world.now += STUCK;
    assert_eq!(world.state.read(world.now), Read::Now, "stuck");
    world.take(0, 3);
    assert_eq!(world.state.read(world.now), Read::Now, "it was drawn anew, and has it all");

    // One that is fast is what the terminal goes by, however slow another is.
    world.attach(1, false);
    world.take(1, 10_000);
    for _ in 0..20 {
        world.write(&full);
        assert!(matches!(world.state.read(world.now), Read::Until(_)));
        world.take(1, 10_000);
        assert_eq!(world.state.read(world.now), Read::Now);
    }
    world.check_all_but_leading();
}

/// No time passes here: whatever is waited for in vain would never come.
#[test]
fn a_viewer_that_takes_nothing_costs_another_nothing() {
    let mut world = World::new();
    world.attach(0, false);
    world.attach(1, false);
    world.take(1, 10_000);
    let chunk = vec![b'x'; MAX_CHUNK];
    let mut seen = 0;
    for _ in 0..500 {
        assert_eq!(world.state.read(world.now), Read::Now, "after {seen} bytes");
        world.write(&chunk);
        assert!(world.take(1, 10_000));
        seen = world.seers[1].has.unwrap();
        assert_eq!(seen, world.written.len() as u64, "it has all of it");
    }
    let before = world.seers[0].has.unwrap();
    world.check_all_but_leading();
    assert!(before < 1_000 && world.seers[0].drawing == 0, "it is drawn the screen as it is");
}

impl World {
    fn check_all_but_leading(&mut self) {
        self.lose(2);
        while (0..2).any(|n| self.take(n, 10_000)) {}
        let wanted = self.state.screen.contents();
        for seer in self.seers.iter_mut().take(2) {
            assert_eq!(seer.screen.as_mut().unwrap().contents(), wanted);
        }
    }
}

#[test]
fn who_typed_last_leads_and_decides_the_size() {
    let mut world = World::new();
    world.attach(0, false);
    world.attach(1, false);
    world.take(0, 10);
    world.take(1, 10);
    assert!(world.seers[0].leads && !world.seers[1].leads);
    assert_eq!(world.state.size(), world.seers[0].size);
    world.seers[1].typed = 1;
    world.type_range(1, 0, 1);
    world.take(0, 10);
    world.take(1, 10);
    assert!(!world.seers[0].leads && world.seers[1].leads);
    assert_eq!(world.state.size(), world.seers[1].size);
    world.lose(1);
    world.take(0, 10);
    assert!(world.seers[0].leads, "somebody leads");
}

#[test]
fn a_stream_that_was_replaced_is_nobodys() {
    let mut world = World::new();
    world.attach(0, false);
    let old = world.seers[0].stream.unwrap();
    world.attach(0, true);
    let next = world.state.next(id(0), old, world.now);
    assert_eq!(next, Next::Finish(FromTerminal::Replaced));
    let typed = world.state.input(id(0), old, 0, Bytes::from_static(b"x"));
    assert_eq!(typed, Err(Nonsense));
    world.state.detach(id(0), old);
    assert_eq!(world.state.viewers(), 1);
}

#[test]
fn the_end_comes_last_and_again() {
    let mut world = World::new();
    world.attach(0, false);
    world.write(b"bye");
    world.state.end(Last::Exit(Exit::Code(3)));
    let stream = world.seers[0].stream.unwrap();
    let mut frames = Vec::new();
    loop {
        match world.state.next(id(0), stream, world.now) {
            Next::Send(frame) => frames.push(frame),
            Next::Finish(frame) => break assert_eq!(frame, FromTerminal::Ended(Exit::Code(3))),
            Next::Wait => panic!("{frames:?}"),
        }
    }
    assert!(frames.contains(&FromTerminal::Output(Bytes::from_static(b"bye"))), "{frames:?}");
    world.lose(0);
    world.attach(1, false);
    let stream = world.seers[1].stream.unwrap();
    let ends = (0..10).any(|_| {
        matches!(world.state.next(id(1), stream, world.now), Next::Finish(FromTerminal::Ended(_)))
    });
    assert!(ends);
}
