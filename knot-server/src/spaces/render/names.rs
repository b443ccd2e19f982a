//! What expressions can name, and the values of it.

use std::collections::BTreeMap;

use minijinja::Value;

/// A value that can be named.
#[derive(Clone)]
pub(crate) struct Named {
    /// The value.
    pub(crate) value: String,
    /// Whether it is true or false, and no text.
    pub(crate) truth: bool,
    /// Whether it is never to be shown.
    pub(crate) secret: bool,
}

impl Named {
    /// A text that all may see.
    pub(crate) fn text(value: impl Into<String>) -> Self {
        Self { value: value.into(), truth: false, secret: false }
    }

    /// A text that nobody may see.
    pub(crate) fn secret(value: impl Into<String>) -> Self {
        Self { secret: true, ..Self::text(value) }
    }

    /// True or false.
    pub(crate) fn truth(value: bool) -> Self {
        Self { truth: true, ..Self::text(value.to_string()) }
    }
}

/// All that a template's expressions can name, as `space.name`.
#[derive(Clone, Default)]
pub(crate) struct Names {
    named: BTreeMap<String, Named>,
    /// Why something that could be named has no value.
    missing: BTreeMap<String, String>,
}

impl Names {
    /// Gives a name its value.
    pub(crate) fn put(&mut self, name: impl Into<String>, named: Named) {
        self.named.insert(name.into(), named);
    }

    /// Says why a name has none.
    pub(crate) fn lacks(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.missing.insert(name.into(), why.into());
    }

    pub(super) fn get(&self, name: &str) -> Option<&Named> {
        self.named.get(name)
    }

    /// Why there is nothing of this name.
    pub(super) fn missing(&self, name: &str) -> String {
        let why = self.missing.get(name).cloned();
        why.unwrap_or_else(|| format!("`.{name}` names nothing that there is"))
    }

    /// All of it, as expressions are worked out with.
    pub(super) fn value(&self) -> Value {
        let mut roots: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for (name, named) in &self.named {
            let Some((root, rest)) = name.split_once('.') else { continue };
            let value = match named.truth {
                true => Value::from(named.value == "true"),
                false => Value::from(named.value.clone()),
            };
            roots.entry(root.to_owned()).or_default().insert(rest.to_owned(), value);
        }
        let roots = roots.into_iter().map(|(root, named)| (root, Value::from_object(named)));
        Value::from_object(roots.collect::<BTreeMap<String, Value>>())
    }
}
