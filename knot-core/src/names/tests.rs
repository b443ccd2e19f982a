use proptest::prelude::*;

use super::*;

fn named(id: u128, name: &str, life: Life) -> Named<u8> {
    Named { id: Uuid::from_u128(id), scope: 0, name: name.to_owned(), life }
}

fn living(id: u128, name: &str) -> Named<u8> {
    named(id, name, Life::Living)
}

fn id(id: u128) -> Uuid {
    Uuid::from_u128(id)
}

fn several(name: &str, ids: &[u128]) -> Result<Uuid, Unclear> {
    Err(Unclear::Several { name: name.to_owned(), ids: ids.iter().copied().map(id).collect() })
}

#[test]
fn the_older_keeps_the_name_and_the_younger_gets_digits() {
    let names = Names::new([living(0xabcd_ef01, "web"), living(1, "web"), living(2, "api")]);
    assert_eq!((names.of(id(1)), names.of(id(0xabcd_ef01))), (Some("web"), Some("web-ef01")));
    assert_eq!(names.find(&0, "web", For::Reading).ok(), Some(id(1)));
    assert_eq!(names.find(&0, "web", For::Writing), several("web", &[1, 0xabcd_ef01]));
    assert_eq!(names.find(&0, "web-ef01", For::Writing), Ok(id(0xabcd_ef01)));
    assert_eq!(names.find(&0, "api", For::Writing), Ok(id(2)));
    assert_eq!(names.find(&0, "db", For::Writing), Err(Unclear::Nobody("db".to_owned())));
    assert_eq!(names.find(&1, "web", For::Reading).ok(), None, "another scope");
}

#[test]
fn a_derived_name_that_is_taken_gets_more_digits() {
    let names = Names::new([living(1, "web"), living(0x1_1234, "web"), living(0x2_1234, "web")]);
    assert_eq!(names.of(id(0x1_1234)), Some("web-1234"));
    assert_eq!(names.of(id(0x2_1234)), Some("web-21234"));
    let names = Names::new([living(1, "web"), living(0x1_1234, "web"), living(3, "web-1234")]);
    assert_eq!(names.of(id(0x1_1234)), Some("web-11234"));
    assert_eq!(names.find(&0, "web-1234", For::Reading).ok(), Some(id(3)));
    assert_eq!(names.find(&0, "web-1234", For::Writing), several("web-1234", &[3, 0x1_1234]));
}

/// Schedule name-retry.
#[test]
fn name_retry() {
    let (older, younger) = (living(1, "dev"), living(2, "dev"));
    let clash = Names::new([older.clone(), younger.clone()]);
    assert_eq!(clash.of(id(2)), Some("dev-0002"));
    let after = Names::new([Named { life: Life::Dead, ..older }, younger]);
    assert_eq!(after.of(id(2)), Some("dev"));
    assert_eq!(
        after.find(&0, "dev", For::Writing),
        several("dev", &[1, 2]),
        "the retry of DELETE dev"
    );
    assert_eq!(after.find(&0, "dev", For::Using), Ok(id(2)));
    // What it was called while both lived still means it.
    assert_eq!(after.find(&0, "dev-0002", For::Writing), Ok(id(2)));
}

#[test]
fn a_name_in_several_scopes_says_too_little() {
    let other = |id, name, life| Named { scope: 1, ..named(id, name, life) };
    let one = |two| Names::new([living(1, "dev"), living(3, "api"), two]);
    let both = one(other(2, "dev", Life::Living));
    for purpose in [For::Reading, For::Using, For::Writing] {
        assert_eq!(both.find_anywhere("dev", purpose), several("dev", &[1, 2]));
        assert_eq!(both.find_anywhere("api", purpose), Ok(id(3)));
    }
    let dead = one(other(2, "dev", Life::Dead));
    assert_eq!(dead.find_anywhere("dev", For::Reading), Ok(id(1)));
    assert_eq!(dead.find_anywhere("dev", For::Using), Ok(id(1)));
    assert_eq!(dead.find_anywhere("dev", For::Writing), several("dev", &[1, 2]));
    assert_eq!(dead.find(&0, "dev", For::Writing), Ok(id(1)));
    assert_eq!(dead.find_anywhere("db", For::Reading), Err(Unclear::Nobody("db".to_owned())));
}

#[test]
fn a_name_that_only_the_dead_had_means_nothing() {
    let names = Names::new([named(1, "dev", Life::Dead), named(2, "dev", Life::Dead)]);
    assert_eq!(names.find(&0, "dev", For::Writing), Err(Unclear::Nobody("dev".to_owned())));
    assert!(!names.is_taken(&0, "dev"));
}

fn things() -> impl Strategy<Value = Vec<Named<u8>>> {
    let name = prop_oneof![Just("web"), Just("web-0001"), Just("web-10001"), Just("api")];
    let life = prop_oneof![3 => Just(Life::Living), 1 => Just(Life::Dead)];
    let ends = prop_oneof![Just(1_u128), Just(0x1_0001), Just(0x2_0001), 0_u128..20];
    let id = (ends, 0_u128..4).prop_map(|(end, upper)| Uuid::from_u128(end + (upper << 24)));
    let one = (id, 0_u8..2, name, life).prop_map(|(id, scope, name, life)| Named {
        id,
        scope,
        name: name.to_owned(),
        life,
    });
    prop::collection::vec(one, 0..12).prop_map(|mut all| {
        all.sort_by_key(|one| one.id);
        all.dedup_by_key(|one| one.id);
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_server_derives_the_same(
        (things, shuffled) in things().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
    ) {
        prop_assert_eq!(Names::new(things), Names::new(shuffled));
    }

    #[test]
    fn each_living_thing_answers_to_one_name_of_its_own(things in things()) {
        let names = Names::new(things.clone());
        for one in &things {
            let shown = names.of(one.id);
            if one.life == Life::Dead {
                prop_assert_eq!(shown, None);
                continue;
            }
            let shown = shown.unwrap();
            prop_assert_eq!(names.find(&one.scope, shown, For::Reading).ok(), Some(one.id));
            let oldest = things
                .iter()
                .filter(|other| other.life == Life::Living && other.scope == one.scope)
                .find(|other| other.name == one.name);
            if oldest == Some(one) {
                prop_assert_eq!(shown, &one.name);
            } else {
                let digits = shown.strip_prefix(&format!("{}-", one.name)).unwrap();
                prop_assert!(digits.len() >= 4 && one.id.simple().to_string().ends_with(digits));
            }
        }
    }

    #[test]
    fn the_dead_change_nothing_that_is_shown(things in things()) {
        let mut alive = things.clone();
        alive.retain(|one| one.life == Life::Living);
        let (all, alive) = (Names::new(things), Names::new(alive));
        prop_assert_eq!(all.shown, alive.shown);
        prop_assert_eq!(all.answers, alive.answers);
    }

    #[test]
    fn a_write_by_name_is_taken_only_where_one_has_had_it(
        things in things(),
        name in prop_oneof![Just("web"), Just("web-0001"), Just("web-10001"), Just("web-20001")],
    ) {
        let names = Names::new(things.clone());
        let had = |one: &Named<u8>| {
            let digits = one.id.simple().to_string();
            let derived = (4..=32).any(|count| {
                name == format!("{}-{}", one.name, &digits[digits.len() - count..])
            });
            one.scope == 0 && (one.name == name || derived)
        };
        let ids: Vec<_> = things.iter().filter(|one| had(one)).map(|one| one.id).collect();
        match names.find(&0, name, For::Writing) {
            Ok(id) => prop_assert_eq!(ids, vec![id]),
            Err(Unclear::Several { ids: refused, .. }) => {
                prop_assert!(refused.len() > 1);
                prop_assert_eq!(ids, refused);
            }
            Err(Unclear::Nobody(_)) => {}
        }
    }
}
