//! Durations and dates, as far as the command line needs them.
//!
//! No clock is read: how old something is comes from the server's own `Date`, so a wrong clock here misleads nobody.

use std::time::Duration;

/// Reads `90`, `90s`, `5m`, `1h30m`. At most a year.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write it like 30s, 5m or 1h30m");
    let mut seconds = 0u64;
    let mut number = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        seconds =
            count.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        number.clear();
    }
    if !number.is_empty() {
        let count: u64 = number.parse().map_err(|_| wrong())?;
        seconds = seconds.checked_add(count).ok_or_else(wrong)?;
    }
    match seconds {
        _ if text.is_empty() => Err(wrong()),
        1..=31_536_000 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is not between a second and a year")),
    }
}

/// Writes a duration as `12s`, `1m05s`, `2h07m` or `3d04h`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long before `now` (seconds since 1970) the RFC 3339 time `then` was, roughly: `5s`, `12m`, `3h`, `4d`.
/// The time itself where either is not known.
pub(crate) fn age(then: &str, now: Option<i64>) -> String {
    let (Some(then_at), Some(now)) = (parse_rfc3339(then), now) else { return then.to_owned() };
    let seconds = now.saturating_sub(then_at).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Seconds since 1970 of an RFC 3339 time such as `2026-11-22T14:39:05.123Z` or `…+01:00`.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let at = days(number(0..4)?, number(5..7)?, number(8..10)?)? * 86_400
        + number(11..13)? * 3600
        + number(14..16)? * 60
        + number(17..19)?;
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    if zone.eq_ignore_ascii_case("z") {
        return Some(at);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let part = |range: std::ops::Range<usize>| zone.get(range)?.parse::<i64>().ok();
    Some(at - sign * (part(1..3)? * 3600 + part(4..6)? * 60))
}

/// Seconds since 1970 of an HTTP date such as `Sun, 22 Nov 2026 14:39:05 GMT`.
pub(crate) fn parse_http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let name = text.get(8..11)?;
    let month = i64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let day = days(number(12..16)?, month, number(5..7)?)?;
    Some(day * 86_400 + number(17..19)? * 3600 + number(20..22)? * 60 + number(23..25)?)
}

/// Days since 1970 of a date, counted from a March so that the leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap + (month * 153 + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        for wrong in ["", "m", "5x", "0", "-1s", "99999999999h", "5 m"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format_duration(Duration::from_millis(900)), "0s");
        assert_eq!(format_duration(Duration::from_secs(65)), "1m05s");
        assert_eq!(format_duration(Duration::from_secs(7620)), "2h07m");
    }

    #[test]
    fn dates_of_both_kinds_agree() {
        let at = Some(1_795_358_345);
        assert_eq!(parse_rfc3339("2026-11-22T14:39:05Z"), at);
        assert_eq!(parse_rfc3339("2026-11-22T14:39:05.123456Z"), at);
        assert_eq!(parse_rfc3339("2026-11-22T15:39:05+01:00"), at);
        assert_eq!(parse_http_date("Sun, 22 Nov 2026 14:39:05 GMT"), at);
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339("2024-02-29T00:00:00Z"), Some(1_709_164_800));
        for wrong in ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-22T14:39:05"] {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_age_is_rough_and_never_negative() {
        assert_eq!(age("2026-11-22T14:39:05Z", Some(1_795_358_345 + 200)), "3m");
        assert_eq!(age("2026-11-22T14:39:05Z", Some(1_795_358_345 - 5)), "0s");
        assert_eq!(age("2026-11-22T14:39:05Z", None), "2026-11-22T14:39:05Z");
    }
}
