//! The template file: YAML, the one form in which templates are written and exported.
//!
//! A file says all of a template: what it leaves out is empty. A mistake is answered with line,
//! column and field, whether it is of form or breaks a rule. The rules are those of
//! [`knot_core::model::Template::broken`] and of the expressions in it, which a start asks too.

mod convert;
mod fields;
mod form;
mod places;
mod schema;

pub(crate) use convert::Password;
use knot_core::model::{Broken, Template};
pub(crate) use schema::schema;
use serde_saphyr::Location;

use self::{form::Form, places::Node};
use crate::{
    api::problem::{Code, Place, Problem},
    spaces::validity,
};

/// A template file, read.
pub(crate) struct Read {
    /// The template; where the file has a registry's password, an empty one stands for it.
    pub(crate) template: Template,
    /// The registry's password.
    pub(crate) password: Option<Password>,
    text: String,
}

/// Reads a template file.
///
/// # Errors
/// The first mistake in it, with its place.
pub(crate) fn parse(text: &str) -> Result<Read, Problem> {
    let options = || serde_saphyr::options! { with_snippet: false };
    let form: Form = serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let error = error.without_snippet();
        let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        problem(text, error.location(), &plain(&message))
    })?;
    let read = |template, password| Read { template, password, text: text.to_owned() };
    match convert::template(form) {
        Ok((template, password)) => {
            let read = read(template, password);
            read.refuse(validity::broken(&read.template))?;
            Ok(read)
        }
        Err(convert::Unreadable(field, why)) => {
            let read = read(Template::default(), None);
            read.refuse(vec![Broken { field, why }]).map(|()| read)
        }
    }
}

impl Read {
    /// Refuses the file for the mistake that stands first in it, if there is any.
    ///
    /// # Errors
    /// That mistake, with its place.
    pub(crate) fn refuse(&self, broken: Vec<Broken>) -> Result<(), Problem> {
        if broken.is_empty() {
            return Ok(());
        }
        let options = serde_saphyr::options! { with_snippet: false };
        let places: Option<Node> = serde_saphyr::from_str_with_options(&self.text, options).ok();
        let place = |one: &Broken| places.as_ref().and_then(|places| places.place(&one.field));
        let order = |one: &Broken| place(one).map(|place| (place.line(), place.column()));
        let Some(first) = broken.iter().min_by_key(|one| order(one)) else { return Ok(()) };
        Err(problem(&self.text, place(first), &first.why))
    }
}

/// Writes a template as the file that makes it.
///
/// # Errors
/// YAML cannot say it: not seen, for what documents can hold.
pub(crate) fn write(template: &Template) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&convert::form(template))
}

/// A template as its file has it, as JSON.
pub(crate) fn json(template: &Template) -> serde_json::Value {
    serde_json::to_value(convert::form(template)).unwrap_or_default()
}

/// Processors, from thousandths of one.
#[expect(clippy::cast_precision_loss, reason = "a number of processors is small")]
pub(crate) fn cpus(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

/// What is answered to a mistake at a place of the file.
fn problem(text: &str, place: Option<Location>, why: &str) -> Problem {
    let place = place.filter(|place| place.line() > 0).map(|place| {
        let (line, column) = (place.line(), place.column());
        Place { line, column, field: field_at(text, line) }
    });
    let detail = match &place {
        Some(Place { line, column, field: Some(field) }) => {
            format!("line {line}, column {column}, in `{field}`: {why}")
        }
        Some(Place { line, column, field: None }) => format!("line {line}, column {column}: {why}"),
        None => why.to_owned(),
    };
    Problem { place, ..Problem::new(Code::InvalidTemplate, detail) }
}

/// A parser's message in words for people; its place is told apart.
fn plain(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    match message {
        "expected mapping start" => "lines of `name: value` are wanted here".to_owned(),
        "expected string scalar" => "one text or number is wanted here".to_owned(),
        "null is not allowed here" => {
            "a value is missing here: write \"\" for an empty one".to_owned()
        }
        other => other.to_owned(),
    }
}

/// The field at the top level that a line belongs to.
fn field_at(text: &str, line: u64) -> Option<String> {
    let lines = usize::try_from(line).ok()?;
    text.lines()
        .take(lines)
        .filter(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()))
        .filter_map(|line| line.split_once(':'))
        .map(|(key, _)| key.trim().to_owned())
        .last()
}

#[cfg(test)]
mod tests;
