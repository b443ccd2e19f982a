//! What expressions come to, what is refused, and that nothing secret is quoted.

use proptest::prelude::*;

use super::*;

fn names() -> Names {
    let mut names = Names::default();
    names.put("space.name", Named::text("dev"));
    names.put("space.first_boot", Named::truth(false));
    names.put("user.timezone", Named::text(""));
    names.put("var.token", Named::secret("hunter 2"));
    names.lacks("var.gone", "there is no variable gone");
    names
}

fn template(image: &str) -> Template {
    Template {
        name: "a".to_owned(),
        platform: "docker".to_owned(),
        image: image.to_owned(),
        ..Template::default()
    }
}

#[test]
fn expressions_come_to_values() {
    for (source, result) in [
        ("plain", "plain"),
        ("a-${{ .space.name }}-b", "a-dev-b"),
        ("${{space.name}}", "dev"),
        ("${{ .space.name | upper }}${{ 'x' ~ .space.name }}", "DEVxdev"),
        ("${{ .user.timezone | default('UTC') }}", "UTC"),
        ("${{ 'first' if .space.first_boot else 'again' }}", "again"),
        ("${{ .space.name | json }}", "\"dev\""),
        ("${{ '1.5' }}", "1.5"),
        ("$ {{ left }} as it is", "$ {{ left }} as it is"),
    ] {
        assert_eq!(text("f", source, &names()).unwrap(), result, "{source}");
    }
}

#[test]
fn every_field_that_may_hold_expressions_is_filled_in() {
    let name = || "/x/${{ .space.name }}".to_owned();
    let filled = Template {
        command: vec![name()],
        environment: [("A".to_owned(), name())].into(),
        volumes: [("v".to_owned(), name())].into(),
        mounts: [("/y/${{ .space.name }}".to_owned(), name())].into(),
        startup_script: name(),
        shutdown_script: name(),
        network: "${{ .space.name }}".to_owned(),
        ..template("r/${{ .space.name }}:1")
    };
    let filled = render(&filled, &names()).unwrap();
    assert_eq!((filled.image.as_str(), filled.network.as_str()), ("r/dev:1", "dev"));
    assert_eq!(filled.mounts, [("/y/dev".to_owned(), "/x/dev".to_owned())].into());
    let texts = [&filled.command[0], &filled.environment["A"], &filled.volumes["v"]];
    let scripts = [&filled.startup_script, &filled.shutdown_script];
    assert!(texts.into_iter().chain(scripts).all(|text| text == "/x/dev"));
}

#[test]
fn what_cannot_be_known_is_an_error_with_its_field() {
    for (source, word) in [
        ("${{ .space.nam }}", ".space.nam"),
        ("${{ .param.size }}", "does not declare"),
        ("${{ space }}", ".space"),
        ("${{ .space.name", "does not end"),
        ("${{ }}", "empty"),
        ("${{ .space.name | }}", "no expression"),
        ("${{ 'a' * 1000000000 }}", "sign"),
        ("${{ .space['name'] }}", "sign"),
        ("${{ 'a }}", "does not end"),
    ] {
        let broken = broken(&template(source));
        assert_eq!(broken.len(), 1, "{source}");
        assert_eq!(broken[0].field, "image");
        assert!(broken[0].why.contains(word), "{source}: {}", broken[0].why);
    }
    let found = render(&template("${{ .var.gone }}"), &names()).unwrap_err();
    assert_eq!(found.to_string(), "in `image`: there is no variable gone");
    assert!(render(&template("${{ .space.name | nonsense }}"), &names()).is_err());
    assert_eq!(
        variables(&template("${{ .var.a }}")),
        [("a".to_owned(), "image".to_owned())].into()
    );
}

#[test]
fn no_error_quotes_a_secret() {
    let found = render(&template("${{ .var.token }}"), &names()).unwrap_err();
    assert!(!found.to_string().contains("hunter"), "{found}");
}

#[test]
fn output_is_bounded() {
    let mut names = names();
    names.put("var.long", Named::text("x".repeat(60_000)));
    let long = "${{ .var.long ~ .var.long }}".repeat(3);
    assert!(text("f", &long, &names).unwrap_err().why.contains("more than"));
    assert!(
        broken(&template(&format!("${{{{ '{}' }}}}", "x".repeat(600))))[0].why.contains("at most")
    );
    let deep = format!("${{{{ {}1{} }}}}", "(".repeat(200), ")".repeat(200));
    assert!(text("f", &deep, &names).is_ok() || !broken(&template(&deep)).is_empty());
}

proptest! {
    #[test]
    fn any_text_is_judged_and_filled_in_without_failing(
        inner in "[a-z.|()',~!=<> _0-9]{0,60}",
        around in "[^$]{0,20}",
    ) {
        let source = format!("{around}${{{{{inner}}}}}{around}");
        let sound = broken(&template(&source)).is_empty();
        if let Ok(filled) = text("f", &source, &names()) {
            prop_assert!(filled.contains(&around));
        } else if sound && names_in(&source).iter().all(|name| names().get(name).is_some()) {
            // Only an unknown filter or test is found when it is worked out.
            prop_assert!(inner.contains('|') || inner.contains('(') || inner.contains("is") || inner.contains(['<', '>', '~', '=']));
        }
    }

    #[test]
    fn a_text_without_expressions_stays(plain in "[^$]{0,100}") {
        prop_assert_eq!(text("f", &plain, &names()).unwrap(), plain);
    }
}
