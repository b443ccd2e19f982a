//! Syslog messages, as RFC 5424 has them and as RFC 3164 found them.

use super::line::clean;

/// The severities, by number.
const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"];
/// What RFC 5424 writes for nothing.
const NIL: &str = "-";

/// The line that a message makes: severity, program and text. What is no syslog is a plain line.
pub(super) fn read(message: &[u8]) -> String {
    let text = clean(octets(message));
    let Some((priority, rest)) = priority(&text) else { return text };
    let severity = severity(priority % 8);
    let (program, said) = structured(rest).unwrap_or_else(|| traditional(rest));
    match program {
        "" => format!("{severity} {said}"),
        program => format!("{severity} {program}: {said}"),
    }
}

/// The word for a severity.
pub(super) fn severity(number: u8) -> &'static str {
    SEVERITIES.get(usize::from(number)).copied().unwrap_or("debug")
}

/// The message without the count that RFC 6587 may have before it.
fn octets(message: &[u8]) -> &[u8] {
    let digits = message.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match message.get(digits..) {
        Some([b' ', rest @ ..]) if (1..=5).contains(&digits) && rest.starts_with(b"<") => rest,
        _ => message,
    }
}

fn priority(text: &str) -> Option<(u8, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    let number = number.parse().ok().filter(|number| *number <= 191)?;
    Some((number, rest))
}

/// Program and text of RFC 5424: `1 time host program process id [data] text`.
fn structured(text: &str) -> Option<(&str, &str)> {
    let mut words = text.strip_prefix("1 ")?.splitn(6, ' ');
    let (_time, _host, program) = (words.next()?, words.next()?, words.next()?);
    let (_process, _id, rest) = (words.next()?, words.next()?, words.next()?);
    let said = match rest.strip_prefix(NIL) {
        Some(said) => said,
        None => after_data(rest)?,
    };
    let said = said.trim_start().trim_start_matches('\u{feff}');
    Some((if program == NIL { "" } else { program }, said))
}

/// What follows the structured data: elements in brackets, within which quotes hold any bracket.
fn after_data(text: &str) -> Option<&str> {
    let (mut inside, mut quoted, mut escaped) = (false, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if inside => quoted = !quoted,
            '[' if !inside => inside = true,
            ']' if inside && !quoted => inside = false,
            _ if !inside => return text.get(at..),
            _ => {}
        }
    }
    (!inside).then_some("")
}

/// Program and text of RFC 3164: `Mmm dd hh:mm:ss host program[process]: text`, of which programs leave out
/// what they like.
fn traditional(text: &str) -> (&str, &str) {
    let is_time = |text: &str| {
        let bytes = text.as_bytes();
        bytes.get(3) == Some(&b' ') && bytes.get(9) == Some(&b':') && bytes.get(12) == Some(&b':')
    };
    let rest = match text.get(16..) {
        Some(rest) if is_time(text) => rest,
        _ => text,
    };
    // The local library leaves out the host.
    let tagged = |text: &'_ str| -> Option<(usize, usize)> {
        let (tag, _) = text.split_once(": ")?;
        (!tag.contains(' ')).then_some((tag.find('[').unwrap_or(tag.len()), tag.len() + 2))
    };
    let (skipped, found) = match tagged(rest) {
        Some(found) => (0, Some(found)),
        None => {
            let host = rest.find(' ').map_or(0, |at| at + 1);
            (host, rest.get(host..).and_then(tagged))
        }
    };
    let Some((program, said)) = found else { return ("", rest) };
    let part = |from: usize, to: usize| rest.get(from..to).unwrap_or_default();
    (part(skipped, skipped + program), part(skipped + said, rest.len()))
}
