//! Two texts compared line by line, as a unified diff.

use std::fmt::Write as _;

/// Lines around a difference that are shown too.
const AROUND: usize = 3;
/// Longer texts, in lines, are shown as wholly different where they differ.
const LONGEST: usize = 1_500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    Old,
    New,
}

/// The unified diff of two texts; empty where they are equal.
pub(super) fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let lines = compare(&old, &new);
    let mut text = String::new();
    let (mut at_old, mut at_new) = (1, 1);
    let mut index = 0;
    while index < lines.len() {
        let Some(ahead) = lines.iter().skip(index).position(|(side, _)| *side != Side::Both) else {
            break;
        };
        let start = (index + ahead).saturating_sub(AROUND).max(index);
        (at_old, at_new) = (at_old + start - index, at_new + start - index);
        let end = end_of_hunk(&lines, index + ahead);
        let hunk = lines.get(start..end).unwrap_or_default();
        let count = |other: Side| hunk.iter().filter(|(side, _)| *side != other).count();
        let (olds, news) = (count(Side::New), count(Side::Old));
        let _ = writeln!(text, "@@ -{at_old},{olds} +{at_new},{news} @@");
        for (side, line) in hunk {
            let sign = match side {
                Side::Both => ' ',
                Side::Old => '-',
                Side::New => '+',
            };
            let _ = writeln!(text, "{sign}{line}");
        }
        (at_old, at_new, index) = (at_old + olds, at_new + news, end);
    }
    text
}

/// The end of the hunk that begins with the difference at `from`: where enough equal lines follow.
fn end_of_hunk(lines: &[(Side, &str)], from: usize) -> usize {
    let (mut end, mut equal) = (from, 0);
    for (index, (side, _)) in lines.iter().enumerate().skip(from) {
        if *side == Side::Both {
            equal += 1;
            if equal > 2 * AROUND {
                break;
            }
        } else {
            (end, equal) = (index + 1, 0);
        }
    }
    (end + AROUND).min(lines.len())
}

/// All lines of both, by their longest common subsequence.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Side, &'a str)> {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (same, old) = old.split_at(front);
    let new = new.get(front..).unwrap_or_default();
    let back = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, tail) = old.split_at(old.len() - back);
    let new = new.get(..new.len() - back).unwrap_or_default();
    let mut lines: Vec<_> = same.iter().map(|line| (Side::Both, *line)).collect();
    if old.len() > LONGEST || new.len() > LONGEST {
        lines.extend(old.iter().map(|line| (Side::Old, *line)));
        lines.extend(new.iter().map(|line| (Side::New, *line)));
    } else {
        common(old, new, &mut lines);
    }
    lines.extend(tail.iter().map(|line| (Side::Both, *line)));
    lines
}

fn common<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<(Side, &'a str)>) {
    // `longest[i][j]` is the length for what is left from i and j on.
    let width = new.len() + 1;
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    let at = |longest: &[u32], i: usize, j: usize| {
        longest.get(i * width + j).copied().unwrap_or_default()
    };
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            let value = match a == b {
                true => at(&longest, i + 1, j + 1) + 1,
                false => at(&longest, i + 1, j).max(at(&longest, i, j + 1)),
            };
            if let Some(cell) = longest.get_mut(i * width + j) {
                *cell = value;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    loop {
        match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) if a == b => {
                lines.push((Side::Both, a));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none() || at(&longest, i + 1, j) >= at(&longest, i, j + 1) => {
                lines.push((Side::Old, a));
                i += 1;
            }
            (_, Some(b)) => {
                lines.push((Side::New, b));
                j += 1;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shown_with_what_is_around_them() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("\n10\n", "\nten\n").replace("\n20\n", "\n20\n21\n");
        let wanted = "@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n@@ -18,3 +18,4 @@\n 18\n 19\n 20\n+21\n";
        assert_eq!(diff(&old, &new), wanted);
        assert_eq!(diff(&old, &old), "");
        assert_eq!(diff("", "a\n"), "@@ -1,0 +1,1 @@\n+a\n");
    }
}
