//! `knot space terminal` on a person's terminal, while the servers that it goes through are killed.

use serde_json::json;

use crate::{TEMPLATE, person::Person, world::World};

/// What turns a shell into one that says back what it hears, byte by byte.
const ECHO: &str = "stty raw -echo; printf 'rea''dy\\n'; exec cat\r";
/// How many lines are typed at a time.
const LINES: usize = 250;

fn lines(round: usize) -> String {
    (round * LINES..(round + 1) * LINES).map(|n| format!("{n:06}\n")).collect()
}

/// What is in a text of escape sequences that set the window's title, and the text without them.
fn without_titles(text: &str) -> (Vec<String>, String) {
    let (mut titles, mut rest) = (Vec::new(), text.replace("\x1b[22;2t", ""));
    while let Some(begin) = rest.find("\x1b]2;") {
        let end = begin + rest[begin..].find('\x07').unwrap();
        titles.push(rest[begin + 4..end].to_owned());
        rest.replace_range(begin..=end, "");
    }
    (titles, rest)
}

#[test]
fn the_terminal_of_a_command_goes_on_through_another_server_and_says_so_quietly() {
    let mut world = World::start();
    world.apply(0, TEMPLATE);
    let space = world.running("dev", 2);
    (0..2).for_each(|n| world.until_known(n, &space));
    let mut person = Person::at(world.client(0).args(["space", "terminal", "dev"]));
    person.types(ECHO);
    let seen = person.sees("ready\n");
    let (_, mut seen) = seen.split_once("ready\n").map(|(a, b)| (a, b.to_owned())).unwrap();
    person.types(&lines(0));
    seen.push_str(&person.sees(&format!("{:06}\n", LINES - 1)));

    // Whichever it goes through by now, it is among them.
    for (round, n) in [(1, 0), (2, 1), (3, 2)] {
        world.kill(n);
        // Typed while nothing may be connected.
        person.types(&lines(round));
        seen.push_str(&person.sees(&format!("{:06}\n", (round + 1) * LINES - 1)));
        world.run(n);
    }

    let (titles, seen) = without_titles(&seen);
    let wanted: String = (0..4).map(lines).collect();
    let differs = seen.bytes().zip(wanted.bytes()).position(|(seen, wanted)| seen != wanted);
    assert_eq!((differs, seen.len()), (None, wanted.len()), "{seen:?}");
    let others: Vec<_> = (0..3).map(|n| format!("http://{}", world.http(n))).collect();
    for title in &titles {
        let address = title.strip_prefix("dev goes on through ").unwrap();
        assert!(others.iter().any(|other| other == address), "{title}");
    }
    assert!(!titles.is_empty() && titles[0] != format!("dev goes on through {}", others[0]));

    person.types("\r~.");
    let end = person.sees("it went on through http://");
    assert!(
        end.contains("\x1b[23;2t") && end.contains("knot: the terminal of dev goes on"),
        "{end}"
    );
    assert_eq!(person.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_new_terminal_starts_a_stopped_space_where_its_template_says_so() {
    let world = World::start();
    for (name, starts) in [("lazy", true), ("strict", false)] {
        world.apply(0, &format!("name: {name}\nplatform: local\nstart_on_connect: {starts}\n"));
        world.post(0, "/spaces", json!({ "name": name, "template": name })).ok();
    }
    let desired = |space| world.get(0, &format!("/spaces/{space}")).ok()["desired"].clone();
    let mut refused = Person::at(world.client(0).args(["space", "terminal", "strict"]));
    refused.sees("knot space start strict");
    assert_eq!(refused.child.wait().unwrap().code(), Some(125));
    assert_eq!(desired("strict"), "stopped");

    let mut person = Person::at(world.client(0).args(["space", "terminal", "lazy"]));
    person.sees("lazy: ");
    // The shell says it, not the line that is typed.
    person.types("echo rea''dy\r");
    person.sees("ready\r\n");
    // Whoever was in it when it was stopped does not have it back by that.
    world.stop_space(0, "lazy").ok();
    person.sees("the terminal of lazy ended");
    assert_eq!(person.child.wait().unwrap().code(), Some(125));
    assert_eq!(desired("lazy"), "stopped");
}
