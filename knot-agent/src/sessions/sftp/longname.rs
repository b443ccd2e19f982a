//! A file as `ls -l` shows it, which clients print as it comes; times are UTC.

use knot_core::clock::Millis;

use russh_sftp::protocol::FileAttributes;

/// Half a year: what is older is shown with its year, as `ls` does.
const RECENT: i64 = 182 * 24 * 60 * 60;

/// The line for a file.
pub(super) fn line(name: &str, attributes: &FileAttributes, links: u64) -> String {
    let mode = mode(attributes.permissions.unwrap_or_default());
    let (user, group) = (attributes.uid.unwrap_or_default(), attributes.gid.unwrap_or_default());
    let size = attributes.size.unwrap_or_default();
    let when = when(i64::from(attributes.mtime.unwrap_or_default()), Millis::now().0 / 1_000);
    format!("{mode} {links:4} {user:<8} {group:<8} {size:8} {when} {name}")
}

fn mode(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn when(time: i64, now: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = date(time.div_euclid(86_400));
    let month = usize::try_from(month).ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    let month = month.copied().unwrap_or("???");
    if (now - RECENT..=now + 86_400).contains(&time) {
        let second = time.rem_euclid(86_400);
        format!("{month} {day:2} {:02}:{:02}", second / 3_600, second % 3_600 / 60)
    } else {
        format!("{month} {day:2}  {year}")
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar: the year is taken to begin in
/// March, so that a leap day is its last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_dates_are_those_of_ls() {
        assert_eq!(mode(0o100_644), "-rw-r--r--");
        assert_eq!(mode(0o041_777), "drwxrwxrwt");
        assert_eq!(mode(0o104_755), "-rwsr-xr-x");
        assert_eq!(mode(0o120_777), "lrwxrwxrwx");
        for (day, expected) in [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_453, (2025, 12, 31)),
            (20_454, (2026, 1, 1)),
        ] {
            assert_eq!(date(day), expected, "{day}");
        }
        assert_eq!(when(0, 1_000), "Jan  1 00:00");
        assert_eq!(when(951_782_400, 1_800_000_000), "Feb 29  2000");
    }
}
