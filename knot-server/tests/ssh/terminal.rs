//! Terminals: size, modes, signals, and the client's shell on one.

use rustix::process::{Pid, Signal, kill_process};

use crate::{client::Client, person::Person, screen::resize};

#[test]
fn a_terminal_has_the_size_modes_and_kind_of_the_clients() {
    let Some(client) = Client::start() else { return };
    let script = "stty size; stty -a | grep -o 'erase = ^.'; echo $TERM; \
        trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut person = Person::at(&mut client.ssh(&["-tt", "dev@gate", script]));
    let seen = person.sees("ready");
    assert!(seen.contains("33 101"), "{seen}");
    assert!(seen.contains("erase = ^H"), "{seen}");
    assert!(seen.contains("xterm-256color"), "{seen}");
    resize(&person.line, 77, 22);
    // It is not the client's controlling terminal: nobody else tells it.
    let pid = Pid::from_raw(i32::try_from(person.child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::WINCH).unwrap();
    person.sees("22 77");
    assert_eq!(person.child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_login_shell_hears_keys_and_ends_with_its_status() {
    let Some(client) = Client::start() else { return };
    let mut person = Person::at(&mut client.ssh(&["dev@gate"]));
    person.types("echo \"shell$0-$((40 + 2))\"\n");
    let seen = person.sees("-42");
    // What a shell is called that reads its login files.
    assert!(seen.contains("shell-"), "{seen}");
    // Said by what runs in the foreground by then: an interrupt that comes before is the shell's own.
    person.types("sh -c 'echo started-$((1 + 2)); sleep 1000'\n");
    person.sees("started-3");
    person.types("\u{3}");
    person.types("echo interrupted-$?\n");
    person.sees("interrupted-130");
    person.types("exit 5\n");
    assert_eq!(person.child.wait().unwrap().code(), Some(5));
}
