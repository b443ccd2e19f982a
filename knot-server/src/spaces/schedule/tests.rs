use proptest::prelude::*;

use super::*;

const WEEK: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

fn at(text: &str) -> Millis {
    Millis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn schedule(hours: &[(&str, &str)], zone: &str) -> Schedule {
    let hours = hours.iter().map(|(day, text)| ((*day).to_owned(), text.parse().unwrap()));
    Schedule::new(&hours.collect(), zone).unwrap()
}

/// All edges in order, found one after the other.
fn walk(schedule: &Schedule, from: Millis, to: Millis) -> Vec<Edge> {
    let first = schedule.around(from).1;
    std::iter::successors(first, |edge| schedule.around(edge.at).1)
        .take_while(|edge| edge.at <= to)
        .collect()
}

#[test]
fn office_hours_keep_to_the_owners_clock_when_it_changes() {
    let all: Vec<_> = WEEK.iter().map(|day| (*day, "08:00-18:00")).collect();
    let schedule = schedule(&all, "Europe/Berlin");
    let edges = walk(&schedule, at("2026-03-28T00:00:00Z"), at("2026-03-30T00:00:00Z"));
    let wanted = [
        ("2026-03-28T07:00:00Z", true),
        ("2026-03-28T17:00:00Z", false),
        ("2026-03-29T06:00:00Z", true),
        ("2026-03-29T16:00:00Z", false),
    ];
    assert_eq!(edges, wanted.map(|(text, begins)| Edge { at: at(text), begins }));
}

#[test]
fn a_night_ends_on_the_next_day_and_a_whole_week_never() {
    let night = schedule(&[("fri", "22:00-06:00")], "UTC");
    let edges = walk(&night, at("2026-11-16T00:00:00Z"), at("2026-11-23T00:00:00Z"));
    let wanted = [("2026-11-20T22:00:00Z", true), ("2026-11-21T06:00:00Z", false)];
    assert_eq!(edges, wanted.map(|(text, begins)| Edge { at: at(text), begins }));
    let always: Vec<_> = WEEK.iter().map(|day| (*day, "00:00-24:00")).collect();
    let always = schedule_of(&always);
    assert_eq!(always.around(at("2026-11-16T00:00:00Z")), (None, None));
}

fn schedule_of(hours: &[(&str, &str)]) -> Schedule {
    schedule(hours, "America/New_York")
}

#[test]
fn hours_within_the_hour_that_a_clock_change_leaves_out_are_kept() {
    // From 02:00 to 03:00 there was no time on that day.
    for hours in ["02:15-02:45", "02:30-03:00", "02:00-03:00", "01:30-02:30", "02:59-03:01"] {
        let schedule = schedule(&[("sun", hours)], "Europe/Berlin");
        let edges = walk(&schedule, at("2026-03-28T12:00:00Z"), at("2026-03-29T12:00:00Z"));
        assert!(matches!(&*edges, [one, two] if one.begins && !two.begins), "{hours}: {edges:?}");
    }
    // From 02:00 to 03:00 there were two.
    let schedule = schedule(&[("sun", "02:15-02:45")], "Europe/Berlin");
    let edges = walk(&schedule, at("2026-10-24T12:00:00Z"), at("2026-10-25T12:00:00Z"));
    let wanted = [("2026-10-25T00:15:00Z", true), ("2026-10-25T01:45:00Z", false)];
    assert_eq!(edges, wanted.map(|(text, begins)| Edge { at: at(text), begins }));
}

#[test]
fn an_unknown_zone_is_utc_and_no_hours_are_no_schedule() {
    assert!(Schedule::new(&BTreeMap::new(), "UTC").is_none());
    let hours = [("mon".to_owned(), Hours { from: 0, to: 60 })].into();
    let nowhere = Schedule::new(&hours, "Nowhere/None").unwrap();
    assert_eq!(
        nowhere.around(at("2026-11-22T00:00:00Z")).1.unwrap().at,
        at("2026-11-23T00:00:00Z")
    );
}

fn zone() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Santiago",
        "Africa/Casablanca",
        "Asia/Kolkata",
        "Pacific/Chatham",
        "UTC",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the zone and the day of a clock change: each day's hours begin once and end once, in
    /// turn, and are as long as they are written, or up to two hours longer.
    #[test]
    fn no_edge_is_left_out_or_comes_twice(
        zone in zone(), day in 0_usize..7, from in 0_u16..1_440, long in 1_u16..1_440, week in 0_i64..52,
    ) {
        let hours = Hours { from, to: if from + long > 1_440 { from + long - 1_440 } else { from + long } };
        let rule = [(WEEK[day].to_owned(), hours)].into();
        let schedule = Schedule::new(&rule, zone).unwrap();
        let begin = Millis(at("2026-01-01T00:00:00Z").0 + week * 7 * DAY);
        let edges = walk(&schedule, begin, Millis(begin.0 + 28 * DAY));
        prop_assert!((7..=9).contains(&edges.len()), "{edges:?}");
        for pair in edges.windows(2) {
            prop_assert!(pair[0].at < pair[1].at && pair[0].begins != pair[1].begins, "{edges:?}");
            if pair[0].begins {
                let minutes = (pair[1].at.0 - pair[0].at.0) / MINUTE;
                let wanted = i64::from(long);
                prop_assert!((wanted - 60..=wanted + 120).contains(&minutes), "{minutes} of {wanted}");
            }
        }
    }

    /// The last edge before any moment is the one that was the next before it.
    #[test]
    fn looking_back_finds_what_looking_ahead_had_found(
        zone in zone(), from in 0_u16..1_440, to in 0_u16..=1_440, offset in 0_i64..365 * 1_440,
    ) {
        let rule = ["tue", "wed", "sat"].map(|day| (day.to_owned(), Hours { from, to })).into();
        let schedule = Schedule::new(&rule, zone).unwrap();
        let now = Millis(at("2026-01-01T00:00:00Z").0 + offset * MINUTE);
        let (last, next) = schedule.around(now);
        if let Some(next) = next {
            prop_assert_eq!(schedule.around(next.at).0, Some(next));
            prop_assert_eq!(schedule.around(Millis(next.at.0 - 1)).0, last);
        }
    }
}
