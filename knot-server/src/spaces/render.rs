//! Filling the expressions of a template in: `${{ .space.name }}` becomes the space's name.
//!
//! An expression is one of minijinja's, without statements, subscripts or arithmetic, so that what
//! it costs is bounded by its length and that of the values. Names are strict: one that is not known
//! is an error with its field, when a template is saved where it can be known then, else the start's
//! stated cause. No error quotes a value: it may be a secret.

mod expression;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use knot_core::model::{Broken, Template};

use self::expression::{Piece, pieces};
pub(crate) use self::names::{Named, Names};

/// The most bytes that one text may come to.
const LONGEST: usize = 256 << 10;
/// The most bytes that all texts of a template may come to.
const TOTAL: usize = 1 << 20;

/// What can be named, apart from variables and parameters.
const KNOWN: [&str; 17] = [
    "space.id",
    "space.name",
    "space.first_boot",
    "template.id",
    "template.name",
    "user.id",
    "user.name",
    "user.username",
    "user.timezone",
    "server.id",
    "server.name",
    "server.zone",
    "server.url",
    "server.agent_endpoint",
    "space.owner",
    "space.zone",
    "template.platform",
];

/// Every expression that cannot be read, or names what there cannot be.
pub(crate) fn broken(template: &Template) -> Vec<Broken> {
    let declared = template.declared();
    let mut broken = Vec::new();
    each(template, |field, text| {
        let judged = pieces(text).and_then(|pieces| {
            for piece in pieces {
                let Piece::Expression(expression) = piece else { continue };
                for name in expression.names() {
                    check_name(name, &|parameter| declared.contains_key(parameter))?;
                }
            }
            Ok(())
        });
        if let Err(why) = judged {
            broken.push(Broken { field: field.to_owned(), why });
        }
    });
    broken
}

/// The variables that a template names, each with the first field that does.
pub(crate) fn variables(template: &Template) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    each(template, |field, text| {
        for name in names_in(text) {
            if let Some(variable) = name.strip_prefix("var.") {
                found.entry(variable.to_owned()).or_insert_with(|| field.to_owned());
            }
        }
    });
    found
}

/// All names in a text; none where it cannot be read.
pub(crate) fn names_in(text: &str) -> BTreeSet<String> {
    let pieces = pieces(text).unwrap_or_default();
    let expressions = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Expression(expression) => Some(expression),
        Piece::Plain(_) => None,
    });
    expressions.flat_map(|expression| expression.names().clone()).collect()
}

/// The template with its expressions filled in.
///
/// # Errors
/// The field, and why it cannot be filled in, or what is wrong with what came of it.
pub(crate) fn render(template: &Template, names: &Names) -> Result<Template, Broken> {
    let mut filler = Filler { names, left: TOTAL, secret: BTreeSet::new() };
    let mut filled = template.clone();
    filled.image = filler.text("image", &template.image)?;
    filled.registry_user = filler.text("registry_user", &template.registry_user)?;
    filled.network = filler.text("network", &template.network)?;
    filled.job = filler.text("job", &template.job)?;
    filled.startup_script = filler.text("startup_script", &template.startup_script)?;
    filled.shutdown_script = filler.text("shutdown_script", &template.shutdown_script)?;
    for word in &mut filled.command {
        *word = filler.text("command", word)?;
    }
    for (name, value) in &mut filled.environment {
        *value = filler.text(&format!("environment/{name}"), value)?;
    }
    for (name, path) in &mut filled.volumes {
        *path = filler.text(&format!("volumes/{name}"), path)?;
    }
    filled.mounts.clear();
    for (path, source) in &template.mounts {
        let field = format!("mounts/{path}");
        let at = filler.text(&field, path)?;
        filled.mounts.insert(at, filler.text(&field, source)?);
    }
    match filled.broken().into_iter().next() {
        None => Ok(filled),
        Some(broken) if filler.quotes_secret(&broken) => Err(Broken {
            why: "what its expressions come to breaks a rule for it (a secret is part of it, so it is not shown)"
                .to_owned(),
            ..broken
        }),
        Some(broken) => Err(broken),
    }
}

/// One text that is no field of the template's, such as a password, with its expressions filled in.
///
/// # Errors
/// As [`render`].
pub(crate) fn text(field: &str, text: &str, names: &Names) -> Result<String, Broken> {
    Filler { names, left: TOTAL, secret: BTreeSet::new() }.text(field, text)
}

struct Filler<'a> {
    names: &'a Names,
    left: usize,
    /// The fields that a secret is part of.
    secret: BTreeSet<String>,
}

impl Filler<'_> {
    fn text(&mut self, field: &str, text: &str) -> Result<String, Broken> {
        let wrong = |why: String| Broken { field: field.to_owned(), why };
        let mut filled = String::new();
        for piece in pieces(text).map_err(wrong)? {
            match piece {
                Piece::Plain(plain) => filled.push_str(plain),
                Piece::Expression(expression) => {
                    for name in expression.names() {
                        match self.names.get(name) {
                            Some(named) if named.secret => {
                                self.secret.insert(field.to_owned());
                            }
                            Some(_) => {}
                            None => return Err(wrong(self.names.missing(name))),
                        }
                    }
                    filled.push_str(&expression.eval(self.names).map_err(wrong)?);
                }
            }
            if filled.len() > LONGEST {
                return Err(wrong(format!("it comes to more than {LONGEST} bytes")));
            }
        }
        self.left = self.left.checked_sub(filled.len()).ok_or_else(|| {
            wrong(format!("with it the template comes to more than {TOTAL} bytes"))
        })?;
        Ok(filled)
    }

    /// A broken rule's words quote what is wrong; those of a map may quote another entry.
    fn quotes_secret(&self, broken: &Broken) -> bool {
        let map = |field: &str| field.split('/').next().map(str::to_owned);
        self.secret.iter().any(|field| map(field) == map(&broken.field))
            || (broken.field.starts_with("mounts/") && !self.secret.is_empty())
    }
}

/// Whether there can be something of this name, and what is meant instead where not.
fn check_name(name: &str, declares: &dyn Fn(&str) -> bool) -> Result<(), String> {
    match name.split_once('.') {
        Some(("var", variable)) if !variable.contains('.') => Ok(()),
        Some(("param", parameter)) if declares(parameter) => Ok(()),
        Some(("param", parameter)) => Err(format!(
            "`.param.{parameter}` names a parameter that this template does not declare"
        )),
        _ if KNOWN.contains(&name) => Ok(()),
        _ => Err(format!(
            "`.{name}` is no name here: .var.NAME, .param.NAME, .{} are",
            KNOWN.join(", .")
        )),
    }
}

/// Calls `with` with every text of a template that may hold expressions.
fn each(template: &Template, mut with: impl FnMut(&str, &str)) {
    with("image", &template.image);
    with("registry_user", &template.registry_user);
    with("network", &template.network);
    with("job", &template.job);
    with("startup_script", &template.startup_script);
    with("shutdown_script", &template.shutdown_script);
    template.command.iter().for_each(|word| with("command", word));
    for (name, value) in &template.environment {
        with(&format!("environment/{name}"), value);
    }
    for (name, path) in &template.volumes {
        with(&format!("volumes/{name}"), path);
    }
    for (path, source) in &template.mounts {
        let field = format!("mounts/{path}");
        with(&field, path);
        with(&field, source);
    }
}

#[cfg(test)]
mod tests;
