//! Parameters: what a template asks the maker of a space for.
//!
//! A declaration stands in the template as one entry for each part, `<name>/<part>`, so that two
//! people who change two parts of one parameter both get their change.

use std::collections::BTreeMap;

use super::Template;
use crate::{
    model::words,
    schema::{FieldValue as _, Scalar},
};

/// The longest value, in bytes.
const LONGEST: usize = 16 << 10;

words! {
    /// What values a parameter takes.
    pub enum ParameterKind {
        /// Any text, or what its pattern matches.
        #[default]
        Text = "text",
        /// A number.
        Number = "number",
        /// `true` or `false`.
        Bool = "bool",
        /// One of some texts.
        Choice = "choice",
        /// A text that is sealed, and never shown again.
        Secret = "secret",
    }
}

/// A parameter as its template declares it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameter {
    /// What values it takes.
    pub kind: ParameterKind,
    /// For people.
    pub description: String,
    /// The value of a space whose maker gives none.
    pub default: Option<String>,
    /// What a choice is made from.
    pub choices: Vec<String>,
    /// The regular expression that a whole text matches; empty for any.
    pub pattern: String,
    /// The least number.
    pub least: Option<f64>,
    /// The largest number.
    pub most: Option<f64>,
    /// Whether a value has to be given where there is no default.
    pub required: bool,
}

impl Parameter {
    /// The parts that an entry can have.
    pub(super) const PARTS: [&'static str; 8] =
        ["type", "description", "default", "choices", "pattern", "least", "most", "required"];

    /// The entries of [`Template::parameters`](struct@Template) that declare it.
    pub fn entries(&self, name: &str) -> Vec<(String, String)> {
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let choices = match self.choices.to_scalar() {
            Scalar::Text(text) => filled(&text),
            _ => None,
        };
        let parts = [
            ("type", Some(self.kind.to_string())),
            ("description", filled(&self.description)),
            ("default", self.default.clone()),
            ("choices", choices),
            ("pattern", filled(&self.pattern)),
            ("least", self.least.map(|number| number.to_string())),
            ("most", self.most.map(|number| number.to_string())),
            ("required", self.required.then(|| "true".to_owned())),
        ];
        let entries = parts.into_iter();
        entries.filter_map(|(part, value)| Some((format!("{name}/{part}"), value?))).collect()
    }

    /// Looks whether a value is one that it takes, its pattern left out.
    ///
    /// # Errors
    /// What it takes, in words for whoever gave the value.
    pub fn accepts(&self, value: &str) -> Result<(), String> {
        if value.len() > LONGEST {
            return Err(format!("a value has at most {LONGEST} bytes"));
        }
        if value.contains('\0') {
            return Err("a value has no zero bytes".to_owned());
        }
        match self.kind {
            ParameterKind::Text | ParameterKind::Secret => Ok(()),
            ParameterKind::Bool if matches!(value, "true" | "false") => Ok(()),
            ParameterKind::Bool => Err("it has to be true or false".to_owned()),
            ParameterKind::Choice if self.choices.iter().any(|choice| choice == value) => Ok(()),
            ParameterKind::Choice => {
                Err(format!("it has to be one of {}", self.choices.join(", ")))
            }
            ParameterKind::Number => self.accepts_number(value),
        }
    }

    fn accepts_number(&self, value: &str) -> Result<(), String> {
        let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
        let number = number.ok_or_else(|| "it has to be a number, such as 3 or 0.5".to_owned())?;
        match (self.least, self.most) {
            (Some(least), _) if number < least => Err(format!("it has to be at least {least}")),
            (_, Some(most)) if number > most => Err(format!("it has to be at most {most}")),
            _ => Ok(()),
        }
    }
}

impl Template {
    /// The parameters by name. What is left of one that was removed while others changed it has no
    /// type, and is none.
    pub fn declared(&self) -> BTreeMap<String, Parameter> {
        let mut parameters: BTreeMap<String, Parameter> = self
            .parameters
            .iter()
            .filter_map(|(key, word)| {
                let name = key.strip_suffix("/type")?;
                let kind = ParameterKind::from_word(word)?;
                Some((name.to_owned(), Parameter { kind, ..Parameter::default() }))
            })
            .collect();
        for (key, value) in &self.parameters {
            let Some((name, part)) = key.rsplit_once('/') else { continue };
            let Some(parameter) = parameters.get_mut(name) else { continue };
            match part {
                "description" => parameter.description.clone_from(value),
                "default" => parameter.default = Some(value.clone()),
                "choices" => {
                    let list = Vec::from_scalar(&Scalar::Text(value.clone()));
                    parameter.choices = list.unwrap_or_default();
                }
                "pattern" => parameter.pattern.clone_from(value),
                "least" => parameter.least = value.parse().ok(),
                "most" => parameter.most = value.parse().ok(),
                "required" => parameter.required = value == "true",
                _ => {}
            }
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_read_back_from_its_entries() {
        let number = Parameter {
            kind: ParameterKind::Number,
            description: "how many".to_owned(),
            default: Some("2".to_owned()),
            least: Some(1.0),
            most: Some(2.5),
            required: true,
            ..Parameter::default()
        };
        let choice = Parameter {
            kind: ParameterKind::Choice,
            choices: vec!["a".to_owned(), "b\nc".to_owned()],
            ..Parameter::default()
        };
        let all = [("count", &number), ("which", &choice)];
        let parameters = all.iter().flat_map(|(name, one)| one.entries(name)).collect();
        let template = Template { parameters, ..Template::default() };
        let declared = template.declared();
        assert_eq!((declared.get("count"), declared.get("which")), (Some(&number), Some(&choice)));
    }

    #[test]
    fn values_are_of_the_type_and_within_bounds() {
        let of = |kind| Parameter { kind, ..Parameter::default() };
        let number = Parameter { least: Some(1.0), most: Some(4.0), ..of(ParameterKind::Number) };
        for (value, taken) in [("1", true), ("4.0", true), ("0", false), ("5", false), ("x", false)]
        {
            assert_eq!(number.accepts(value).is_ok(), taken, "{value}");
        }
        assert!(of(ParameterKind::Bool).accepts("yes").is_err());
        let choice = Parameter { choices: vec!["a".to_owned()], ..of(ParameterKind::Choice) };
        assert!(choice.accepts("a").is_ok() && choice.accepts("b").is_err());
        assert!(of(ParameterKind::Text).accepts("a\0").is_err());
    }

    #[test]
    fn what_is_left_of_a_removed_one_is_none() {
        let parameters = [("gone/default".to_owned(), "1".to_owned())].into();
        assert!(Template { parameters, ..Template::default() }.declared().is_empty());
    }
}
