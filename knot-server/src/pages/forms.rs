//! What forms ask for: the parameters of a template, and a server.

use crate::api::types::TemplateParameter;

/// A parameter of a template in a form.
#[derive(Clone, Debug)]
pub struct ParameterField {
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// How a value is given.
    pub input: Input,
    /// The value that the space has; empty for none, and for a secret.
    pub value: String,
    /// Whether the space has a value.
    pub given: bool,
    /// What a space without a value gets.
    pub default: Option<String>,
    /// Whether there has to be a value.
    pub required: bool,
    /// What values are taken, in words; may be empty.
    pub hint: String,
}

/// How the value of a parameter is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Any text.
    Text,
    /// A number.
    Number,
    /// A text that is not shown.
    Secret,
    /// One of these.
    Choice(Vec<String>),
    /// The template has no such parameter any more: the value can be taken away.
    Gone,
}

impl ParameterField {
    /// The field for a parameter, and the value that a space has for it.
    pub fn new(parameter: TemplateParameter, value: Option<&str>) -> Self {
        let TemplateParameter {
            name,
            kind,
            description,
            default,
            choices,
            pattern,
            least,
            most,
            required,
        } = parameter;
        let (input, hint) = match &*kind {
            "number" => (Input::Number, bounds(least, most)),
            "bool" => (Input::Choice(vec!["true".to_owned(), "false".to_owned()]), String::new()),
            "choice" => (Input::Choice(choices), String::new()),
            "secret" => (Input::Secret, matching(pattern)),
            _ => (Input::Text, matching(pattern)),
        };
        let secret = input == Input::Secret;
        Self {
            name,
            description,
            value: value.filter(|_| !secret).unwrap_or_default().to_owned(),
            given: value.is_some(),
            // A secret's default is in the template for whoever may read that, and in no form.
            default: default.map(|default| if secret { "a secret".to_owned() } else { default }),
            required,
            hint,
            input,
        }
    }

    /// A value of a space for which its template has no parameter any more.
    #[must_use]
    pub fn gone(name: String, value: String) -> Self {
        Self {
            name,
            description: String::new(),
            input: Input::Gone,
            value,
            given: true,
            default: None,
            required: false,
            hint: String::new(),
        }
    }

    /// Whether the form has to have a value: there is none to fall back to.
    pub(super) fn must(&self) -> bool {
        self.required && self.default.is_none()
    }

    /// What it means to give no value.
    pub(super) fn without(&self) -> String {
        match &self.default {
            Some(default) if default.is_empty() => "Default: empty".to_owned(),
            Some(default) => format!("Default: {default}"),
            None if self.required => "Choose one".to_owned(),
            None => "None".to_owned(),
        }
    }

    pub(super) fn is_number(&self) -> bool {
        self.input == Input::Number
    }

    pub(super) fn is_secret(&self) -> bool {
        self.input == Input::Secret
    }

    pub(super) fn is_gone(&self) -> bool {
        self.input == Input::Gone
    }

    /// Whether the space has this choice.
    pub(super) fn has(&self, choice: &str) -> bool {
        self.given && self.value == choice
    }

    /// Whether the space has what is no choice any more.
    pub(super) fn has_another(&self) -> bool {
        self.given && !self.choices().is_some_and(|choices| choices.contains(&self.value))
    }

    /// What is chosen from, where that is how a value is given.
    pub(super) fn choices(&self) -> Option<&[String]> {
        match &self.input {
            Input::Choice(choices) => Some(choices),
            _ => None,
        }
    }
}

fn bounds(least: Option<f64>, most: Option<f64>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("A number from {least} to {most}."),
        (Some(least), None) => format!("A number, {least} or more."),
        (None, Some(most)) => format!("A number, {most} or less."),
        (None, None) => "A number.".to_owned(),
    }
}

fn matching(pattern: Option<String>) -> String {
    pattern.map(|pattern| format!("Has to match {pattern}")).unwrap_or_default()
}

/// A server in a form.
#[derive(Clone, Debug)]
pub struct ServerChoice {
    /// The server's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its zone; may be empty.
    pub zone: String,
}
