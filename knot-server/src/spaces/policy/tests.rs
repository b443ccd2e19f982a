use knot_core::model::Hours;

use super::*;

const HOUR: i64 = 3_600_000;
/// Monday, 2026-11-23, midnight UTC.
const MONDAY: i64 = 1_795_392_000_000;

/// A home that acts as it is told, on a space whose state follows at once.
struct Home {
    space: Space,
    status: SpaceStatus,
    template: Template,
    report: Option<Report>,
    /// What was done, and when.
    done: Vec<(i64, &'static str)>,
}

fn office(starts: bool) -> Template {
    let hours = Hours { from: 8 * 60, to: 18 * 60 };
    let schedule = ["mon", "tue"].map(|day| (day.to_owned(), hours)).into();
    Template { schedule, schedule_starts: starts, ..Template::default() }
}

impl Home {
    fn new(template: Template) -> Self {
        let (space, status) = Default::default();
        Self { space, status, template, report: None, done: Vec::new() }
    }

    /// Acts until there is nothing to do at this hour, counted from Monday's midnight.
    fn at(&mut self, hour: i64) -> Option<i64> {
        let now = Millis(MONDAY + hour * HOUR);
        for _ in 0..5 {
            let act = decide(&World {
                space: &self.space,
                status: &self.status,
                template: Some(&self.template),
                zone: "UTC",
                report: self.report.as_ref(),
                now,
            });
            match act {
                Act::Wait(next) => return next.map(|next| (next.0 - MONDAY) / HOUR),
                Act::Mark(mark) => self.status.schedule = mark,
                Act::Stop(_, mark) => {
                    self.done.push((hour, "stop"));
                    self.space.desired = Desired::Stopped;
                    self.status.state = Observed::Stopped;
                    self.status.schedule = mark;
                }
                Act::Start(_, mark) => {
                    self.done.push((hour, "start"));
                    self.status.schedule = mark;
                    self.start(hour);
                }
            }
        }
        panic!("it never rests at {hour}: {:?}", self.done)
    }

    fn start(&mut self, hour: i64) {
        self.space.desired = Desired::Running;
        self.status.state = Observed::Running;
        self.status.started = Millis(MONDAY + hour * HOUR);
    }
}

#[test]
fn a_schedule_starts_and_stops_once_at_each_edge() {
    let mut home = Home::new(office(true));
    let mut hour = -1;
    while let Some(next) = home.at(hour).filter(|next| *next < 7 * 24) {
        // Looking again in between changes nothing.
        home.at(next - 1);
        hour = next;
    }
    assert_eq!(home.done, [(8, "start"), (18, "stop"), (32, "start"), (42, "stop")]);
}

#[test]
fn a_space_started_out_of_hours_runs_until_the_next_edge() {
    let mut home = Home::new(office(false));
    home.at(0);
    home.start(2);
    for hour in 2..18 {
        home.at(hour);
        assert_eq!(home.done, [], "{hour}");
    }
    home.at(18);
    assert_eq!(home.done, [(18, "stop")]);
    home.start(20);
    for hour in 20..42 {
        home.at(hour);
    }
    assert_eq!(home.done.len(), 1, "a start by hand holds beyond Tuesday's beginning");
    home.at(42);
    assert_eq!(home.done.len(), 2);
}

#[test]
fn a_home_that_was_away_acts_on_the_last_edge_alone() {
    // Away from Monday noon to Monday night: the stop is made up for.
    let mut home = Home::new(office(true));
    home.at(0);
    home.at(8);
    home.at(22);
    assert_eq!(home.done, [(8, "start"), (22, "stop")]);
    // Away over a whole day: nothing is started only to be stopped.
    home.at(50);
    assert_eq!(home.done.len(), 2);
    // Back within hours whose beginning it has missed.
    home.at(7 * 24 + 10);
    assert_eq!(home.done.last(), Some(&(7 * 24 + 10, "start")));
}

#[test]
fn what_was_started_after_a_missed_stop_is_not_stopped() {
    let mut home = Home::new(office(false));
    home.at(10);
    home.start(19);
    home.at(22);
    assert_eq!(home.done, []);
}

#[test]
fn another_schedule_is_followed_from_when_it_is_seen() {
    let mut home = Home::new(office(false));
    home.start(0);
    home.at(10);
    let hours = Hours { from: 8 * 60, to: 9 * 60 };
    home.template.schedule.insert("mon".to_owned(), hours);
    home.at(12);
    assert_eq!(home.done, [], "nine o'clock was before anybody said so");
    home.template.schedule.clear();
    home.at(13);
    assert_eq!(home.status.schedule, None);
}

#[test]
fn a_space_runs_for_as_long_as_it_may() {
    let mut home = Home::new(Template { max_uptime: Some(7_200), ..Template::default() });
    home.start(1);
    assert_eq!(home.at(1), Some(3));
    home.at(2);
    assert_eq!(home.done, []);
    home.at(3);
    assert_eq!(home.done, [(3, "stop")]);
    assert_eq!(home.at(9), None);
}

#[test]
fn a_space_that_nobody_uses_is_stopped_and_one_that_says_nothing_is_not() {
    let mut home = Home::new(Template { idle_stop: Some(600), ..Template::default() });
    home.start(0);
    home.at(5);
    home.report = Some(Report { idle: 599, ..Report::default() });
    home.at(6);
    assert_eq!(home.done, []);
    home.report = Some(Report { idle: 600, ..Report::default() });
    home.at(7);
    home.at(8);
    assert_eq!(home.done, [(7, "stop")]);
}
