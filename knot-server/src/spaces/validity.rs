//! Whether spaces can be made from a template, as far as can be judged without an engine: one
//! judgement for a file that is applied, a merge, and a start.

use knot_core::model::{Broken, ParameterKind, Template};
use regex::Regex;

use super::render;

/// The largest size of a compiled pattern, in bytes.
const PATTERN: usize = 1 << 20;

/// Every rule that a template breaks, those of its expressions and patterns included.
pub(crate) fn broken(template: &Template) -> Vec<Broken> {
    let mut broken = template.broken();
    broken.extend(render::broken(template));
    for (name, parameter) in template.declared() {
        if let Err(why) = pattern(&parameter.pattern) {
            broken.push(Broken { field: format!("parameters/{name}/pattern"), why });
        } else if let Some(default) = &parameter.default
            && parameter.kind == ParameterKind::Text
            && let Err(why) = matches(&parameter.pattern, default)
        {
            broken.push(Broken { field: format!("parameters/{name}/default"), why });
        }
    }
    broken
}

/// Looks whether a whole text matches a pattern; the empty pattern matches all.
///
/// # Errors
/// In words for whoever gave the text.
pub(crate) fn matches(text: &str, value: &str) -> Result<(), String> {
    match pattern(text)? {
        Some(regex) if !regex.is_match(value) => Err(format!("it has to match the pattern {text}")),
        _ => Ok(()),
    }
}

fn pattern(text: &str) -> Result<Option<Regex>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(PATTERN).build();
    whole.map(Some).map_err(|_| format!("`{text}` is no regular expression that can be used here"))
}
