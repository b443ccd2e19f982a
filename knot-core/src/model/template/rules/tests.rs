//! What is sound and what is not.

use super::*;
use crate::model::Hours;

fn plain() -> Template {
    Template {
        name: "a".to_owned(),
        platform: "docker".to_owned(),
        image: "debian:bookworm".to_owned(),
        ..Template::default()
    }
}

fn text(name: &str) -> String {
    name.to_owned()
}

#[test]
fn a_sound_template_breaks_nothing() {
    let full = Template {
        environment: [(text("A"), text("${{ .var.a }} b"))].into(),
        volumes: [(text("data"), text("/data/${{ .space.name }}"))].into(),
        mounts: [(text("/srv"), text("/srv/data:ro"))].into(),
        capabilities: [text("NET_ADMIN")].into(),
        zones: [text("!eu")].into(),
        schedule: [(text("mon"), Hours { from: 0, to: 60 })].into(),
        memory: Some(6 << 20),
        ..plain()
    };
    assert_eq!(full.broken(), []);
    let local = Template { platform: text("local"), image: String::new(), ..plain() };
    assert_eq!(local.broken(), []);
    let job =
        Template { platform: text("nomad"), image: String::new(), job: text("job {}"), ..plain() };
    assert_eq!(job.broken(), []);
}

#[test]
fn each_broken_rule_is_told_with_its_key() {
    let parameter = |part: &str, value: &str| Template {
        parameters: [(text("size/type"), text("number")), (format!("size/{part}"), text(value))]
            .into(),
        ..plain()
    };
    for (template, field) in [
        (Template { name: text("A"), ..plain() }, "name"),
        (Template { platform: text("cloud"), ..plain() }, "platform"),
        (Template { image: String::new(), ..plain() }, "image"),
        (Template { image: text("a b"), ..plain() }, "image"),
        (Template { platform: text("local"), ..plain() }, "image"),
        (Template { registry_user: text("u"), ..plain() }, "registry_user"),
        (Template { job: text("x"), ..plain() }, "job"),
        (Template { memory: Some(1), ..plain() }, "memory"),
        (Template { millicpus: Some(1), ..plain() }, "millicpus"),
        (Template { command: vec![text("${{ x")], ..plain() }, "command"),
        (Template { environment: [(text("A-B"), text(""))].into(), ..plain() }, "environment/A-B"),
        (Template { volumes: [(text("a"), text("rel"))].into(), ..plain() }, "volumes/a"),
        (Template { mounts: [(text("/a"), text("rel"))].into(), ..plain() }, "mounts//a"),
        (Template { without: [text("flying")].into(), ..plain() }, "without/flying"),
        (Template { idle_stop: Some(0), ..plain() }, "idle_stop"),
        (Template { links: Some(0), ..plain() }, "links"),
        (Template { links: Some(9), ..plain() }, "links"),
        (Template { health: text("http://"), ..plain() }, "health"),
        (Template { health_interval: Some(3_601), ..plain() }, "health_interval"),
        (Template { health_timeout: Some(301), ..plain() }, "health_timeout"),
        (Template { health_failures: Some(101), ..plain() }, "health_failures"),
        (parameter("default", "x"), "parameters/size/default"),
        (parameter("choices", "x\n"), "parameters/size/choices"),
        (parameter("colour", "x"), "parameters/size/colour"),
    ] {
        let broken = template.broken();
        assert_eq!(broken.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(), [field]);
    }
}

#[test]
fn a_check_is_one_that_the_agent_can_ask() {
    let of = |check: &str| Template { health: text(check), ..plain() }.broken();
    for check in ["tcp:80", "http://localhost:80/", "https://localhost/x", "exec:true"] {
        assert_eq!(of(check), [], "{check}");
    }
    for check in ["tcp:", "tcp:0", "http://", "exec: ", "ftp://x", "http://a b", "http://far/"] {
        let [broken] = of(check).try_into().unwrap();
        assert!(broken.why.contains(check) && broken.why.contains("tcp:PORT"), "{broken}");
    }
}

#[test]
fn a_script_is_as_long_as_the_agent_takes_it() {
    let longest = text(&"x".repeat(32 << 10));
    let fits =
        Template { startup_script: longest.clone(), shutdown_script: longest.clone(), ..plain() };
    assert_eq!(fits.broken(), []);
    let longer = longest + "x";
    let startup = Template { startup_script: longer.clone(), ..plain() };
    let shutdown = Template { shutdown_script: longer, ..plain() };
    for (template, field) in [(startup, "startup_script"), (shutdown, "shutdown_script")] {
        let [broken] = template.broken().try_into().unwrap();
        assert_eq!(broken.field, field);
        assert!(broken.why.contains("more than 32768 bytes"), "{broken}");
    }
}

#[test]
fn what_two_sound_edits_merge_to_may_be_broken() {
    let merged =
        Template { volumes: [(text("a"), text("/x")), (text("b"), text("/x"))].into(), ..plain() };
    assert_eq!(merged.broken().len(), 1);
}

#[test]
fn zones_are_named_or_excluded() {
    let of = |zones: &[&str]| Template {
        zones: zones.iter().map(|zone| text(zone)).collect(),
        ..plain()
    };
    for (zones, zone, allowed) in [
        (&[][..], "eu", true),
        (&["eu"], "eu", true),
        (&["eu"], "us", false),
        (&["!eu"], "eu", false),
        (&["!eu"], "us", true),
        (&["eu", "!us"], "asia", false),
    ] {
        assert_eq!(of(zones).allows_zone(zone), allowed, "{zones:?} {zone}");
    }
}
