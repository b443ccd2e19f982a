//! What people and programs read: aligned tables, and JSON as the server sent it.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::failure::Failure;

/// Who reads the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A program: JSON.
    Program,
    /// A person: tables and sentences, with colour on a terminal that shows it.
    Person {
        /// Whether to write colours.
        colour: bool,
    },
}

impl Reader {
    /// The reader of standard output.
    pub(crate) fn find(json: bool) -> Self {
        if json {
            return Self::Program;
        }
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::Person { colour: io::stdout().is_terminal() && !dumb && !refused }
    }

    /// Writes the JSON for a program, the text for a person.
    pub(crate) fn show(
        self,
        json: &Value,
        text: impl FnOnce(bool) -> String,
    ) -> Result<(), Failure> {
        match self {
            Self::Program => print(&format!("{json:#}\n")),
            Self::Person { colour } => print(&text(colour)),
        }
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// The text with no character that a terminal would act on.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// A count of bytes for people: in the largest unit that shows it whole, or of which there are ten.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let shows = |unit: u64| count >= 10 * unit || (count >= unit && count.is_multiple_of(unit));
    match UNITS.iter().find(|(_, unit)| shows(*unit)) {
        Some((name, unit)) => format!("{} {name}", count / unit),
        None => format!("{count} B"),
    }
}

/// A colour with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// As it should be.
    Good,
    /// On its way, or worth a look.
    Busy,
    /// Needs someone.
    Bad,
    /// Of little weight.
    Faint,
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// A cell with a colour.
    pub(crate) fn coloured(text: impl Into<String>, colour: Option<Colour>) -> Self {
        Self { text: text.into(), colour }
    }

    fn write(&self, width: usize, colour: bool, to: &mut String) {
        let text = clean(&self.text);
        let text = if text.is_empty() { "-".to_owned() } else { text };
        let padding = width.saturating_sub(text.chars().count());
        match (colour, self.colour) {
            (true, Some(meaning)) => {
                let code = match meaning {
                    Colour::Good => "32",
                    Colour::Busy => "33",
                    Colour::Bad => "31",
                    Colour::Faint => "2",
                };
                to.push_str(&format!("\u{1b}[{code}m{text}\u{1b}[0m"));
            }
            _ => to.push_str(&text),
        }
        to.extend(std::iter::repeat_n(' ', padding));
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), colour: None }
    }
}

/// Rows under a heading, two spaces between columns.
pub(crate) fn table<const N: usize>(
    heading: [&str; N],
    rows: Vec<[Cell; N]>,
    colour: bool,
) -> String {
    let heading = heading.map(|title| Cell::coloured(title, Some(Colour::Faint)));
    lines(std::iter::once(heading).chain(rows).map(Vec::from).collect(), colour)
}

/// Names and values, one pair to a line; pairs without a value are left out.
pub(crate) fn details(pairs: Vec<(&str, Cell)>, colour: bool) -> String {
    let rows = pairs
        .into_iter()
        .filter(|(_, value)| !value.text.is_empty())
        .map(|(name, value)| vec![Cell::coloured(format!("{name}:"), Some(Colour::Faint)), value]);
    lines(rows.collect(), colour)
}

fn lines(rows: Vec<Vec<Cell>>, colour: bool) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.text.chars().count().max(1);
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let last = row.len().saturating_sub(1);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            cell.write(if column == last { 0 } else { width + 2 }, colour, &mut text);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_is_not_padded() {
        let rows = vec![["a".into(), "running".into()], ["longer".into(), "".into()]];
        assert_eq!(
            table(["NAME", "STATE"], rows, false),
            "NAME    STATE\na       running\nlonger  -\n"
        );
    }

    #[test]
    fn a_size_is_whole_or_has_two_digits() {
        assert_eq!(
            [bytes(10_239), bytes(10_240), bytes(20 << 30)],
            ["10239 B", "10 KiB", "20 GiB"]
        );
        assert_eq!(
            [bytes(0), bytes(1 << 30), bytes(3 << 29), bytes((1 << 30) + 1)],
            ["0 B", "1 GiB", "1536 MiB", "1024 MiB"]
        );
    }

    #[test]
    fn colour_does_not_change_the_alignment() {
        let rows = vec![[Cell::coloured("ok", Some(Colour::Good)), "x".into()]];
        let text = table(["STATE", "Y"], rows, true);
        assert!(text.ends_with("\u{1b}[32mok\u{1b}[0m     x\n"), "{text:?}");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let text = details(vec![("name", "a\u{1b}[2J\nb".into()), ("left out", "".into())], false);
        assert_eq!(text, "name:  a [2J b\n");
    }
}
