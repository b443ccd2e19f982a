//! The `knot` program, run as its users run it, against a small server that speaks the API's contract.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::server::{Script, World, space};

#[path = "cli/exec.rs"]
mod exec;
#[path = "cli/others.rs"]
mod others;
#[path = "support/screen.rs"]
mod screen;
#[path = "cli/server.rs"]
mod server;
#[path = "cli/terminal.rs"]
mod terminal;

const TOKEN: &str = "good-token";

/// The program, with nothing of this machine's environment but the server's address and a config folder.
fn knot(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_knot"));
    command
        .args(arguments)
        .env_clear()
        .env("XDG_CONFIG_HOME", world.config.path())
        .env("KNOT_URL", &world.address)
        .env("KNOT_TOKEN", TOKEN)
        .stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    read(&output)
}

fn read(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn run_with_input(mut command: Command, input: &str) -> (i32, String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    read(&child.wait_with_output().unwrap())
}

#[test]
fn signing_in_stores_a_private_token_that_later_commands_use() {
    let world = World::start(Script::default());
    let file = world.config.path().join("knot/config.toml");
    let mut login = knot(&world, &["login", &world.address, "--user", "anna", "--password-stdin"]);
    login.env_remove("KNOT_TOKEN").env_remove("KNOT_URL");
    let (status, output, errors) = run_with_input(login, "pass word\n");
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(output, format!("Signed in to http://{} as anna\n", world.address));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let mut whoami = knot(&world, &["whoami"]);
    whoami.env_remove("KNOT_TOKEN").env_remove("KNOT_URL");
    assert_eq!(run(whoami).1, format!("anna at http://{}\n", world.address));

    let mut logout = knot(&world, &["logout"]);
    logout.env_remove("KNOT_TOKEN").env_remove("KNOT_URL");
    assert_eq!(run(logout).0, 0);
    let mut whoami = knot(&world, &["whoami"]);
    whoami.env_remove("KNOT_TOKEN").env_remove("KNOT_URL");
    let (status, _, errors) = run(whoami);
    assert_eq!(status, 3);
    assert!(errors.starts_with("knot: not signed in at http://"), "{errors}");
}

#[test]
fn a_stored_token_is_not_sent_to_another_server() {
    let world = World::start(Script::default());
    let other = World::start(Script::default());
    let mut login = knot(&world, &["login", &world.address, "--token", TOKEN]);
    login.env_remove("KNOT_TOKEN");
    assert_eq!(run(login).0, 0);
    let mut whoami = knot(&world, &["whoami", "--url", &other.address]);
    whoami.env_remove("KNOT_TOKEN").env_remove("KNOT_URL");
    assert_eq!(run(whoami).0, 3);
    assert_eq!(other.requests(), Vec::<String>::new());
}

#[test]
fn a_wrong_password_or_token_ends_with_3() {
    let world = World::start(Script::default());
    let login = knot(&world, &["login", &world.address, "--user", "anna", "--password-stdin"]);
    let (status, _, errors) = run_with_input(login, "wrong\n");
    assert_eq!(status, 3);
    assert!(errors.contains("the name or the password is wrong"), "{errors}");

    let mut whoami = knot(&world, &["whoami"]);
    whoami.env("KNOT_TOKEN", "old-token");
    let (status, _, errors) = run(whoami);
    assert_eq!(status, 3);
    let hint = format!(
        "knot: the token is not valid; sign in with: knot login http://{}\n",
        world.address
    );
    assert_eq!(errors, hint);
}

#[test]
fn without_a_server_or_a_terminal_it_says_what_to_do() {
    let world = World::start(Script::default());
    let mut bare = knot(&world, &["space", "ls"]);
    bare.env_remove("KNOT_TOKEN").env_remove("KNOT_URL");
    let (status, _, errors) = run(bare);
    assert_eq!(status, 3);
    assert!(errors.contains("knot login URL"), "{errors}");

    let (status, _, errors) = run(knot(&world, &["space", "terminal", "dev"]));
    assert_eq!(status, 2);
    assert!(errors.contains("knot space exec dev"), "{errors}");
}

#[test]
fn each_refusal_has_its_exit_code_and_one_line() {
    let world = World::start(Script::default());
    for (arguments, wanted, words) in [
        (vec!["space", "show", "nowhere"], 4, "no space is called nowhere"),
        (vec!["space", "create", "taken", "--template", "t"], 5, "a space is called taken already"),
        (vec!["space", "show", "twice"], 5, "two spaces are called twice"),
        (vec!["space", "show", "broken"], 1, "the database is full"),
        (vec!["space", "show", "page"], 1, "is not a knot server"),
        (vec!["space", "show", "gateway"], 6, "reaches no server"),
        (vec!["space", "show", "moved"], 1, "use the address of"),
        (vec!["space", "show", ".."], 2, "is no name"),
        (vec!["space", "create", "dev"], 2, "--template <NAME>"),
        (vec!["space", "start", "dev", "--timeout", "soon"], 2, "is no duration"),
    ] {
        let (status, output, errors) = run(knot(&world, &arguments));
        assert_eq!((status, output.as_str()), (wanted, ""), "{arguments:?}: {errors}");
        assert!(errors.starts_with("knot: ") && errors.contains(words), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    }
}

#[test]
fn a_server_that_is_not_there_ends_with_6() {
    let world = World::start(Script::default());
    // It is had by a socket that does not listen, and so by nobody else.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = taken.local_addr().unwrap();
    let (status, _, errors) = run(knot(&world, &["whoami", "--url", &port.to_string()]));
    assert_eq!(status, 6);
    let wanted =
        format!("knot: http://{port} cannot be reached: connection refused; check the address");
    assert!(errors.starts_with(&wanted), "{errors}");
}

#[test]
fn a_server_without_tls_is_told_apart() {
    let world = World::start(Script::default());
    let (status, _, errors) =
        run(knot(&world, &["whoami", "--url", &format!("https://{}", world.address)]));
    assert_eq!(status, 6);
    assert!(errors.contains("does not speak TLS"), "{errors}");
}

#[test]
fn a_program_reads_json_and_problem_json() {
    let world = World::start(Script::default());
    let (status, output, _) = run(knot(&world, &["space", "ls", "--json"]));
    assert_eq!(status, 0);
    let spaces: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(spaces["spaces"][0]["name"], "dev");
    assert_eq!(spaces["spaces"][0]["later_field"], 1, "a field of a later version is passed on");

    let (status, output, errors) = run(knot(&world, &["--json", "space", "show", "nowhere"]));
    assert_eq!((status, output.as_str()), (4, ""));
    let problem: Value = serde_json::from_str(errors.lines().last().unwrap()).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&json!("not_found"), &json!(404)));

    let (_, _, errors) = run(knot(&world, &["space", "show", "--json"]));
    let problem: Value = serde_json::from_str(errors.lines().last().unwrap()).unwrap();
    assert_eq!(problem["code"], "usage");
}

#[test]
fn a_person_reads_aligned_tables_without_colour() {
    let world = World::start(Script::default());
    let (_, output, _) = run(knot(&world, &["space", "ls"]));
    let lines: Vec<&str> = output.lines().collect();
    assert!(!output.contains('\u{1b}'), "{output:?}");
    let column = lines[0].find("HOME").unwrap();
    assert!(lines[1][column..].starts_with("alpha"), "{output}");
    for command in [["volume", "ls"], ["server", "ls"], ["template", "ls"]] {
        let (status, output, errors) = run(knot(&world, &command));
        assert_eq!((status, errors.as_str()), (0, ""), "{command:?}");
        assert!(output.starts_with("NAME"), "{output}");
    }
}

#[test]
fn what_was_set_aside_is_listed_with_its_cause_and_adopted() {
    let world = World::start(Script::default());
    let (_, output, _) = run(knot(&world, &["volume", "ls"]));
    let aside = output.lines().find(|line| line.contains("set aside")).unwrap();
    assert!(aside.contains("knot-54") && aside.ends_with("another took its place"), "{output}");
    for which in [&[][..], &["--engine-id", "knot-54"]] {
        let command = [&["volume", "adopt", "dev:home"], which].concat();
        let (status, output, errors) = run(knot(&world, &command));
        assert_eq!((status, errors.as_str()), (0, ""));
        assert_eq!(output, "home is again what was set aside, on alpha\n");
    }
    assert_eq!(run(knot(&world, &["volume", "adopt", "other"])).0, 4);
}

#[test]
fn a_template_file_is_applied_and_given_back() {
    let world = World::start(Script::default());
    let (status, output, errors) =
        run_with_input(knot(&world, &["template", "apply", "-"]), "name: rust\n");
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(output, "rust is created, revision abc123\n");
    assert_eq!(run(knot(&world, &["template", "show", "rust", "--yaml"])).1, "name: rust\n");
    let (status, _, errors) = run(knot(&world, &["template", "apply", "/nowhere/t.yaml"]));
    assert_eq!(
        (status, errors.as_str()),
        (1, "knot: /nowhere/t.yaml cannot be read: no such file or directory\n")
    );
}

#[test]
fn the_newest_causality_token_is_sent_with_the_next_command() {
    let world = World::start(Script::default());
    for _ in 0..2 {
        assert_eq!(run(knot(&world, &["whoami", "--one-server"])).0, 0);
    }
    let tokens = world.causality_tokens();
    assert_eq!(tokens, [None, Some("seen-1".to_owned())]);
}

#[test]
fn a_server_that_cannot_catch_up_refuses_one_command_only() {
    let world = World::start(Script::default());
    run(knot(&world, &["whoami"]));
    assert_eq!(run(knot(&world, &["space", "show", "behind"])).0, 1);
    run(knot(&world, &["whoami"]));
    assert_eq!(world.causality_tokens().last().unwrap(), &None);
}

#[test]
fn a_start_is_over_when_the_space_runs() {
    let world = World::start(Script::states(&[
        space("stopped", "stopped", "1.2"),
        space("running", "stopped", "1.2"),
        space("running", "provisioning", "1.3"),
        space("running", "running", "1.3"),
    ]));
    let (status, output, errors) = run(knot(&world, &["space", "start", "dev"]));
    assert_eq!(status, 0, "{errors}");
    assert!(output.starts_with("dev is running on alpha, generation 1.3 (after "), "{output}");
    assert!(
        errors.contains("dev: stopped, waiting for alpha (")
            && errors.contains("dev: provisioning ("),
        "{errors}"
    );
}

#[test]
fn a_restart_is_not_over_while_the_old_generation_runs() {
    let world = World::start(Script::states(&[
        space("running", "running", "1.9"),
        space("running", "running", "1.9"),
        space("running", "stopping", "1.9"),
        space("running", "running", "1.10"),
    ]));
    let (status, output, errors) = run(knot(&world, &["space", "restart", "dev", "--json"]));
    assert_eq!((status, errors.as_str()), (0, ""));
    let space: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(space["generation"], "1.10");
}

#[test]
fn a_templates_outdated_spaces_are_listed_and_updated_in_waves() {
    let states = || {
        Script::states(&[
            space("running", "running", "1.1"),
            space("running", "running", "1.1"),
            space("running", "stopping", "1.1"),
            space("running", "running", "1.2"),
        ])
    };
    let world = World::start(states());
    let (status, output, _) = run(knot(&world, &["template", "outdated", "rust"]));
    assert_eq!(status, 0);
    assert!(output.contains("dev") && output.contains("alpha"), "{output}");
    let (status, output, errors) = run(knot(&world, &["template", "update", "rust", "--json"]));
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<Value>(&output).unwrap(), json!({ "updated": ["dev"] }));
    let asked =
        world.requests().iter().filter(|one| one.as_str() == "POST /spaces/11/restart").count();
    assert_eq!(asked, 1);

    let mut failed = space("running", "failed", "1.2");
    failed["cause"] = json!("no room");
    let world = World::start(Script::states(&[
        space("running", "running", "1.1"),
        space("running", "running", "1.1"),
        failed,
    ]));
    let (status, _, errors) = run(knot(&world, &["template", "update", "rust", "--wave", "5"]));
    assert_eq!(status, 1);
    assert!(errors.contains("0 of 1 were updated") && errors.contains("no room"), "{errors}");
}

#[test]
fn a_difference_is_shown_line_by_line() {
    let world = World::start(Script::default());
    let (status, output, _) = run(knot(&world, &["template", "diff", "rust", "abcdef"]));
    assert_eq!(status, 0);
    let wanted = "image:\n  -rust:1\n  +rust:2\nstartup_script:\n  @@ -1,1 +1,1 @@\n  -a\n  +b\n";
    assert_eq!(output, wanted);
}

#[test]
fn a_secret_comes_from_standard_input_and_members_are_told() {
    let world = World::start(Script::default());
    let set = knot(&world, &["variable", "set", "key", "--secret", "--zone", "eu"]);
    let (status, output, errors) = run_with_input(set, "hunter2\n");
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(output, "key for eu is set; the next start of a space takes it\n");
    let (status, output, _) = run(knot(&world, &["group", "add", "science", "anna"]));
    assert_eq!((status, output.as_str()), (0, "science has anna\n"));
}

#[test]
fn a_wait_goes_on_through_lost_connections() {
    let mut script = Script::states(&[
        space("stopped", "stopped", "1.2"),
        space("running", "provisioning", "1.3"),
        space("running", "starting", "1.3"),
        space("running", "running", "1.3"),
    ]);
    script.events_for_each_connection = Some(1);
    let world = World::start(script);
    let (status, _, errors) = run(knot(&world, &["space", "start", "dev"]));
    assert_eq!(status, 0, "{errors}");
    let connections =
        world.requests().iter().filter(|request| request.as_str() == "GET /events").count();
    assert!(connections > 1, "{connections}");
}

#[test]
fn a_failed_start_prints_the_cause_and_ends_with_1() {
    let mut failed = space("running", "failed", "1.3");
    failed["cause"] = json!("the image x:1 is not there: correct the template");
    let world = World::start(Script::states(&[space("stopped", "stopped", "1.2"), failed]));
    let (status, output, errors) = run(knot(&world, &["space", "start", "dev"]));
    assert_eq!((status, output.as_str()), (1, ""));
    let last = errors.lines().last().unwrap();
    assert_eq!(last, "knot: dev failed to start: the image x:1 is not there: correct the template");
}

#[test]
fn what_goes_into_a_space_that_failed_says_its_cause_and_starts_nothing() {
    let mut failed = space("running", "failed", "1.3");
    failed["cause"] = json!("the image x:1 is not there: correct the template");
    let world = World::start(Script::states(&[failed]));
    let (status, output, errors) = run(knot(&world, &["port-forward", "dev", "0:80"]));
    assert_eq!((status, output.as_str()), (1, ""));
    let words = "knot: dev failed: the image x:1 is not there: correct the template; start it again with \
                 `knot space start dev`\n";
    assert_eq!(errors, words);
    assert!(world.requests().iter().all(|request| !request.ends_with("/start")));
}

#[test]
fn a_wait_that_is_too_long_ends_with_7() {
    let world = World::start(Script::states(&[
        space("stopped", "stopped", "1.2"),
        space("running", "provisioning", "1.3"),
    ]));
    let (status, _, errors) = run(knot(&world, &["space", "start", "dev", "--timeout", "1s"]));
    assert_eq!(status, 7);
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with("knot: dev did not start within 1s (provisioning)"), "{errors}");
}

#[test]
fn without_waiting_one_request_is_enough() {
    let world = World::start(Script::states(&[space("running", "stopped", "1.2")]));
    let started = knot(&world, &["space", "start", "dev", "--wait=false", "--one-server"]);
    let (status, output, errors) = run(started);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(output, "dev is to be running; it is stopped on alpha\n");
    assert_eq!(world.requests(), ["POST /spaces/dev/start"]);
}

#[test]
fn a_deletion_is_over_when_nothing_is_left() {
    let mut script =
        Script::states(&[space("running", "running", "1.2"), space("running", "deleting", "1.2")]);
    script.ends_deleted = true;
    let world = World::start(script);
    let (status, output, errors) = run(knot(&world, &["space", "delete", "dev"]));
    assert_eq!(status, 0, "{errors}");
    assert!(output.starts_with("dev is deleted (after "), "{output}");
}

#[test]
fn help_names_the_exit_codes() {
    let world = World::start(Script::default());
    let (status, output, _) = run(knot(&world, &["--help"]));
    assert_eq!(status, 0);
    assert!(output.contains("6  the server cannot be reached"), "{output}");
    assert_eq!(
        run(knot(&world, &["--version"])).1,
        format!("knot {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(run(knot(&world, &["space"])).0, 2);
}

#[test]
fn output_that_nobody_reads_is_no_panic() {
    let world = World::start(Script::default());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut list = knot(&world, &["space", "ls"]);
    list.stdout(writer);
    let (status, _, errors) = run(list);
    assert_eq!((status, errors.as_str()), (141, ""));
}
