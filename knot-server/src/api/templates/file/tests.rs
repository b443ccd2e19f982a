//! What files say, how mistakes are told, and that a file that was written is read as it was.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FULL: &str = "\
name: rust-dev
description: Rust, with a cache
platform: docker
image: rust:1.95
command: [sh, -c, \"echo 'a b'; sleep 1\"]
environment:
  CARGO_HOME: /cache
  LEVEL: 3
volumes:
  cache: /cache
network: lab
memory: 512m
cpus: 0.5
";

const MORE: &str = "\
name: full
platform: docker
image: reg.example/${{ .param.flavour }}:1
registry: {user: me, password: sealed}
ports:
  web: 8080/http
  ssh: 22/tcp/2222
mounts:
  /srv: /srv/data:ro
volumes:
  cache: /cache
  data: {path: '/data/${{ .space.name }}', size: 2g, keep: true}
capabilities: [NET_ADMIN, -NET_RAW]
devices: [/dev/kvm]
parameters:
  flavour: {type: choice, choices: [small, large], default: small, description: how big}
  count: {type: number, least: 1, most: 4, default: 2}
  key: {type: secret, required: true}
  note: {pattern: '[a-z]*'}
startup_script: |
  echo one
  echo two
groups: [dev]
zones: ['!eu']
features: {ssh: false}
health: {check: 'tcp:8080', interval: 30s, timeout: 5s, failures: 3, restarts: 2}
idle_stop: 90m
schedule: {mon: 08:00-18:00, fri: 22:00-06:00, start: true}
max_uptime: 2d
links: 3
start_on_connect: true
retired: true
";

fn read(text: &str) -> Template {
    parse(text).map_err(|problem| problem.detail).unwrap().template
}

#[test]
fn a_file_says_all_of_a_template() {
    let template = read(FULL);
    assert_eq!(template.name, "rust-dev");
    assert_eq!(template.command, ["sh", "-c", "echo 'a b'; sleep 1"]);
    assert_eq!(template.environment.get("LEVEL").map(String::as_str), Some("3"));
    assert_eq!(template.volumes.get("cache").map(String::as_str), Some("/cache"));
    assert_eq!((template.memory, template.millicpus), (Some(512 << 20), Some(500)));
    assert_eq!(template.network, "lab");
    let more = parse(MORE).map_err(|problem| problem.detail).unwrap();
    assert!(more.password == Some(Password::Unchanged));
    let more = more.template;
    assert_eq!(more.ports["ssh"].published, Some(2222));
    assert_eq!(more.volume_sizes["data"], 2 << 30);
    assert!(more.volume_keeps.contains("data") && !more.volume_keeps.contains("cache"));
    assert_eq!(more.declared()["count"].most, Some(4.0));
    assert_eq!(more.without.iter().collect::<Vec<_>>(), ["ssh"]);
    assert_eq!((more.idle_stop, more.max_uptime), (Some(90 * 60), Some(2 * 24 * 60 * 60)));
    assert_eq!(more.links, Some(3));
    assert_eq!(more.schedule["fri"].to_string(), "22:00-06:00");
    assert!(more.schedule_starts && more.start_on_connect && more.retired);
}

#[test]
fn what_is_exported_makes_the_same_template() {
    let odd = Template {
        name: "odd".to_owned(),
        description: "line\nbreak: \"quoted\" # no comment".to_owned(),
        platform: "docker".to_owned(),
        image: "1:2".to_owned(),
        command: ["", "- x", "true", "1", "a\nb", "~"].map(str::to_owned).to_vec(),
        environment: [("A", "null"), ("B", "yes"), ("C", ""), ("D", " x "), ("E", "0x1F")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        memory: Some((6 << 20) + 1),
        millicpus: Some(1_250),
        ..Template::default()
    };
    for template in [odd, read(FULL), read(MORE), read("name: a\nplatform: local\n")] {
        let text = write(&template).unwrap();
        assert_eq!(read(&text), template, "{text}");
    }
}

/// Texts that YAML reads as something else unless they are quoted, and others.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[a-z\n:#'\"{}\\[\\],&*!|>%@`-]{0,8}",
        prop::sample::select(vec![
            "null", "~", "yes", "true", "0x1F", "1e3", "1:30", "", " ", "=", "<<"
        ])
        .prop_map(str::to_owned),
    ]
    .prop_filter("expressions are judged", |text| !text.contains("${{"))
}

fn map<T: std::fmt::Debug>(
    values: impl Strategy<Value = T>,
) -> impl Strategy<Value = BTreeMap<String, T>> {
    prop::collection::btree_map("[a-z][a-z0-9]{0,5}", values, 0..3)
}

prop_compose! {
    fn parameters()(
        kinds in map((0_usize..4, word(), word(), any::<bool>(), -5_i32..5))
    ) -> BTreeMap<String, String> {
        use knot_core::model::{Parameter, ParameterKind as Kind};
        let mut all = BTreeMap::new();
        for (name, (kind, description, text, required, number)) in kinds {
            let base = Parameter { description, required, ..Parameter::default() };
            let one = match kind {
                0 => Parameter { default: Some(text), ..base },
                1 => Parameter {
                    kind: Kind::Number,
                    default: Some(number.to_string()),
                    least: Some(f64::from(number) - 0.5),
                    ..base
                },
                2 => Parameter {
                    kind: Kind::Choice,
                    choices: vec![text.clone(), format!("{text}x")],
                    default: Some(text),
                    ..base
                },
                _ => Parameter { kind: Kind::Secret, ..base },
            };
            all.extend(one.entries(&name));
        }
        all
    }
}

prop_compose! {
    fn sound()(
        (name, description, job, startup_script) in ("[a-z][a-z0-9]{0,8}", word(), word(), word()),
        command in prop::collection::vec(word(), 0..4),
        environment in map(word()),
        (volumes, sizes, keep) in (
            prop::collection::btree_set("[a-z]{1,4}", 0..3), any::<Option<u32>>(), any::<bool>(),
        ),
        parameters in parameters(),
        (memory, millicpus) in (
            prop::option::of((6_u64 << 20)..(1 << 50)), prop::option::of(10_u64..1_024_000),
        ),
        (idle_stop, max_uptime, health_interval) in (
            prop::option::of(60_u64..1_000_000), prop::option::of(60_u64..1_000_000),
            prop::option::of(1_u64..=3_600),
        ),
        without in prop::collection::btree_set(prop::sample::select(vec!["ssh", "exec"]), 0..3),
        (from, to, starts) in (0_u16..1440, 0_u16..=1440, any::<bool>()),
        (retired, start_on_connect, start_on_visit) in (any::<bool>(), any::<bool>(), any::<bool>()),
    ) -> Template {
        let nomad = !job.is_empty();
        let first = volumes.iter().next().cloned();
        Template {
            name,
            description,
            platform: if nomad { "nomad" } else { "docker" }.to_owned(),
            image: "a/b:1".to_owned(),
            job,
            startup_script,
            command,
            environment,
            volume_sizes: first.clone().zip(sizes.map(|size| u64::from(size) + 1)).into_iter().collect(),
            volume_keeps: first.filter(|_| keep).into_iter().collect(),
            volumes: volumes.into_iter().map(|name| (name.clone(), format!("/v/{name}"))).collect(),
            parameters,
            memory,
            millicpus,
            idle_stop,
            max_uptime,
            health_interval,
            without: without.into_iter().map(str::to_owned).collect(),
            schedule: [("tue".to_owned(), knot_core::model::Hours { from, to })].into(),
            schedule_starts: starts,
            retired,
            start_on_connect,
            start_on_visit,
            ..Template::default()
        }
    }
}

proptest! {
    #[test]
    fn any_sound_template_is_read_as_it_was_written(template in sound()) {
        prop_assume!(validity::broken(&template).is_empty());
        let text = write(&template).unwrap();
        let read = parse(&text).map_err(|problem| TestCaseError::fail(format!("{}\n{text}", problem.detail)))?;
        prop_assert_eq!(read.template, template, "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z:\n \\-{}\\[\\]\"$.0-9]{0,200}") {
        if let Err(problem) = parse(&text) {
            prop_assert_eq!(problem.code, Code::InvalidTemplate);
        }
    }
}

#[test]
fn a_command_may_be_one_text() {
    let text = "name: a\nplatform: local\ncommand: sh -c 'echo \"a b\"'\n";
    assert_eq!(read(text).command, ["sh", "-c", "echo \"a b\""]);
}

#[test]
fn a_mistake_has_line_column_and_field() {
    let base = "name: a\nplatform: docker\nimage: x\n";
    for (text, line, field, word) in [
        (format!("{base}colour: red\n"), 4, "colour", "colour"),
        (format!("{base}cpus: many\n"), 4, "cpus", "many"),
        (format!("{base}cpus: 0\n"), 4, "cpus", "processors"),
        (format!("{base}memory: lots\n"), 4, "memory", "lots"),
        (format!("{base}memory: 1k\n"), 4, "memory", "too little"),
        (format!("{base}command: {{a: b}}\n"), 4, "command", ""),
        (format!("{base}command: sh -c 'x\n"), 4, "command", "quote"),
        (format!("{base}environment:\n  GOOD: 1\n  BAD-NAME: 2\n"), 6, "environment", "BAD-NAME"),
        (format!("{base}environment:\n  KNOT_X: 1\n"), 5, "environment", "KNOT_"),
        (format!("{base}environment: [a]\n"), 4, "environment", ""),
        (format!("{base}volumes:\n  data: relative\n"), 5, "volumes", "relative"),
        (format!("{base}volumes:\n  a: /x\n  b: /x\n"), 6, "volumes", "both"),
        ("name: A\nplatform: local\n".to_owned(), 1, "name", "name"),
        (format!("{base}ports:\n  web: many\n"), 5, "ports", "many"),
        (format!("{base}volumes:\n  a: {{path: rel}}\n"), 5, "volumes", "rel"),
        (format!("{base}volumes:\n  a: {{path: /x, colour: red}}\n"), 5, "volumes", "colour"),
        (format!("{base}parameters:\n  size: {{type: many}}\n"), 5, "parameters", "many"),
        (
            format!("{base}parameters:\n  size:\n    type: number\n    default: x\n"),
            7,
            "parameters",
            "number",
        ),
        (format!("{base}parameters:\n  size: {{pattern: '('}}\n"), 5, "parameters", "expression"),
        (format!("{base}capabilities:\n  - NET_ADMIN\n  - low\n"), 6, "capabilities", "low"),
        (format!("{base}idle_stop: soon\n"), 4, "idle_stop", "soon"),
        (format!("{base}idle_stop: 0s\n"), 4, "idle_stop", "second"),
        (format!("{base}health:\n  check: ping\n"), 5, "health", "ping"),
        (format!("{base}schedule:\n  mon: 8-9\n"), 5, "schedule", "from"),
        (format!("{base}features: {{flying: true}}\n"), 4, "features", "flying"),
        (format!("{base}registry: {{user: a}}\n"), 4, "registry", "password"),
        (format!("{base}network: ${{{{ .space.nam }}}}\n"), 4, "network", ".space.nam"),
        (format!("{base}network: ${{{{ .param.x }}}}\n"), 4, "network", "declare"),
        ("name: a\nplatform: local\nmounts:\n  /a: /b\n".to_owned(), 4, "mounts", "local"),
        ("name: a\nplatform: docker\nimage: Not An Image\n".to_owned(), 3, "image", "Not"),
        ("name: a\nplatform: cloud\n".to_owned(), 2, "platform", "cloud"),
        ("name: a\nplatform: docker\n".to_owned(), 2, "platform", "image"),
        ("name: a\nplatform: local\nimage: x\n".to_owned(), 3, "image", "local"),
    ] {
        let Err(problem) = parse(&text) else { panic!("{text}") };
        let place = problem.place.clone().unwrap_or_default();
        let told = (place.line, place.field.as_deref());
        assert_eq!(told, (line, Some(field)), "{text}: {}", problem.detail);
        assert!(place.column > 0 && problem.detail.contains(word), "{}", problem.detail);
    }
    assert!(parse("platform: local\n").err().unwrap().detail.contains("name"));
    for text in ["", "- a\n", "{", "name: a\nname: b\nplatform: local\n"] {
        assert_eq!(parse(text).err().unwrap().code, Code::InvalidTemplate, "{text}");
    }
}
