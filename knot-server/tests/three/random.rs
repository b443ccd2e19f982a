//! All of it at once: a random program of requests through random servers, while servers are killed
//! and cut off; then everything is healed, and everything must have come to an end.
//!
//! The seed is printed; `KNOT_THREE_SEED` sets it, and `KNOT_THREE_SECONDS` how long the program is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    wait::eventually,
    world::{World, agents_below, path},
};

/// How long the program is by default.
const SECONDS: u64 = 25;
/// How many spaces there are at most.
const SPACES: usize = 6;

/// A sequence that a seed gives (splitmix64, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Looks all the time whether two copies of one space run.
struct Monitor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Vec<String>)>,
}

impl Monitor {
    fn start(world: &World) -> Self {
        let folder = path(world.folder.path()).to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut looks, mut seen) = (0, Vec::new());
            while !told.load(Ordering::Relaxed) {
                looks += 1;
                // One look is not of one moment: what both have was there at once.
                let twice: BTreeSet<_> =
                    agents_below(&folder).intersection(&agents_below(&folder)).cloned().collect();
                let mut by_space: BTreeMap<_, Vec<_>> = BTreeMap::new();
                for copy in twice {
                    by_space.entry(copy.1.clone()).or_default().push(copy);
                }
                let double = by_space.into_values().filter(|copies| copies.len() > 1);
                seen.extend(double.map(|copies| format!("{copies:?}")));
                std::thread::park_timeout(Duration::from_millis(50));
            }
            (looks, seen)
        });
        Self { stop, thread }
    }

    /// How often it looked, and what it has seen.
    fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    made: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// Those of which a deletion was asked for, and no answer came: it may have been done.
    perhaps: BTreeSet<String>,
    requests: u32,
    refused: BTreeMap<String, u32>,
}

#[test]
fn spaces_are_used_through_three_servers_while_these_are_killed_and_cut_off() {
    let seed = setting("KNOT_THREE_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        u64::try_from(now.as_millis()).unwrap()
    });
    println!("KNOT_THREE_SEED={seed}");
    let mut dice = Dice(seed);
    let mut world = World::start();
    let monitor = Monitor::start(&world);
    let mut known = Acknowledged::default();
    let length = Duration::from_secs(setting("KNOT_THREE_SECONDS").unwrap_or(SECONDS));
    let began = Instant::now();
    let mut faults = 0;
    while began.elapsed() < length {
        if dice.below(8) == 0 {
            faults += 1;
            fault(&mut world, &mut dice);
        } else {
            request(&world, &mut dice, &mut known);
        }
        let pause = Duration::from_millis(u64::try_from(dice.below(120)).unwrap());
        std::thread::park_timeout(pause);
    }
    world.heal();
    for n in 0..3 {
        if !world.servers[n].is_up() {
            world.run(n);
        }
    }
    world.until_healed();
    let healed = Instant::now();
    let spaces = eventually("every space has an end", || ended(&world, seed));
    let took = healed.elapsed();
    let (looks, double) = monitor.end();
    assert_eq!(double, Vec::<String>::new(), "two copies ran at once (seed {seed})");

    let listed: BTreeSet<_> = spaces.keys().cloned().collect();
    let accounted = &(&listed | &known.deleted) | &known.perhaps;
    let lost: Vec<_> = known.made.difference(&accounted).collect();
    assert!(lost.is_empty(), "acknowledged and lost (seed {seed}): {lost:?}");
    let back: Vec<_> = known.deleted.intersection(&listed).collect();
    assert!(back.is_empty(), "deleted and back (seed {seed}): {back:?}");
    println!(
        "{} requests, {} refused {:?}, {faults} faults, {} spaces left, level {:.1} s after healing, {looks} looks",
        known.requests,
        known.refused.values().sum::<u32>(),
        known.refused,
        spaces.len(),
        took.as_secs_f64()
    );
}

fn fault(world: &mut World, dice: &mut Dice) {
    let n = dice.below(3);
    match dice.below(5) {
        0 if world.servers.iter().filter(|server| server.is_up()).count() > 1 => world.kill(n),
        0 | 1 => {
            if let Some(down) = (0..3).find(|n| !world.servers[*n].is_up()) {
                world.run(down);
            }
        }
        2 => {
            world.set_cut(n, (n + 1) % 3, true);
            world.set_cut(n, (n + 2) % 3, true);
        }
        3 => world.set_cut(n, (n + 1) % 3, true),
        _ => world.heal(),
    }
}

/// One request through a server that is up. It may be refused, for a reason.
fn request(world: &World, dice: &mut Dice, known: &mut Acknowledged) {
    let up: Vec<_> = (0..3).filter(|n| world.servers[*n].is_up()).collect();
    let Some(n) = up.get(dice.below(up.len().max(1))).copied() else { return };
    let dead = &known.deleted | &known.perhaps;
    let living: Vec<_> = known.made.difference(&dead).cloned().collect();
    let make = living.is_empty() || (living.len() < SPACES && dice.below(4) == 0);
    let (id, asked) = if make {
        let name = format!("s{}", known.made.len());
        let start = dice.below(2) == 0;
        let wanted = json!({"name": name, "template": "shell", "start": start});
        (String::new(), world.try_ask(n, Method::POST, "/spaces", Some(wanted)))
    } else {
        let id = living[dice.below(living.len())].clone();
        let post = |action: &str, body| {
            world.try_ask(n, Method::POST, &format!("/spaces/{id}/{action}"), Some(body))
        };
        let asked = match dice.below(12) {
            0..=3 => post("start", Value::Null),
            4..=6 => post("stop", Value::Null),
            7 | 8 => post("restart", Value::Null),
            9 => {
                let asked = world.try_ask(n, Method::DELETE, &format!("/spaces/{id}"), None);
                match &asked {
                    Some(answer) if answer.status.is_success() => known.deleted.insert(id.clone()),
                    Some(_) => false,
                    None => known.perhaps.insert(id.clone()),
                };
                asked
            }
            _ => {
                let to = world.servers[dice.below(3)].name.clone();
                post("move", json!({"server": to, "volumes": "empty"}))
            }
        };
        (id, asked)
    };
    known.requests += 1;
    let Some(answer) = asked else { return };
    if answer.status.is_success() {
        if id.is_empty() {
            known.made.insert(answer.body["id"].as_str().unwrap().to_owned());
        }
        return;
    }
    let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
    // A reason, and none that is our own fault.
    assert!(
        !code.is_empty() && code != "internal" && code != "not_written",
        "{}: {}",
        answer.status,
        answer.body
    );
    *known.refused.entry(code).or_default() += 1;
}

/// All spaces by id, once all servers say the same of them and each has come to an end.
fn ended(world: &World, seed: u64) -> Option<BTreeMap<String, Value>> {
    let lists: Vec<BTreeMap<String, Value>> =
        (0..3).map(|n| list(world, n)).collect::<Option<_>>()?;
    let brief = |list: &BTreeMap<String, Value>| -> Vec<Value> {
        let fields =
            ["id", "name", "desired", "observed", "home", "term", "generation", "moving_to"];
        list.values()
            .map(|space| fields.iter().map(|field| space[field].clone()).collect())
            .collect()
    };
    if lists.iter().any(|list| brief(list) != brief(&lists[0])) {
        return None;
    }
    for space in lists[0].values() {
        let state = space["observed"].as_str()?;
        let over = match space["desired"].as_str()? {
            "running" => state == "running" || (state == "failed" && space["cause"].is_string()),
            _ => ["created", "stopped"].contains(&state),
        };
        if !over || !space["moving_to"].is_null() {
            return None;
        }
    }
    let running: BTreeSet<_> = lists[0]
        .values()
        .filter(|space| space["observed"] == "running")
        .map(|space| {
            let field = |name: &str| space[name].as_str().unwrap().to_owned();
            (field("home_id"), field("id"), field("generation"))
        })
        .collect();
    if world.all_copies() != running {
        return None;
    }
    println!("seed {seed}: {} of {} spaces run", running.len(), lists[0].len());
    lists.into_iter().next()
}

fn list(world: &World, n: usize) -> Option<BTreeMap<String, Value>> {
    let answer = world.try_ask(n, Method::GET, "/spaces", None)?;
    let spaces = answer.body["spaces"].as_array()?.iter();
    Some(spaces.map(|space| (space["id"].as_str().unwrap().to_owned(), space.clone())).collect())
}
