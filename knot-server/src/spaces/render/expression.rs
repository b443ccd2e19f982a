//! One expression: what stands between `${{` and `}}`.

use std::{cell::OnceCell, collections::BTreeSet};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::Names;

/// The longest expression, in bytes.
const LONGEST: usize = 500;
/// How many of minijinja's instructions an expression may take.
const FUEL: u64 = 10_000;

/// A part of a text.
pub(super) enum Piece<'a> {
    Plain(&'a str),
    Expression(Expression),
}

/// An expression that can be read.
pub(super) struct Expression {
    source: String,
    names: BTreeSet<String>,
}

/// Takes a text apart.
///
/// # Errors
/// Why an expression in it cannot be read.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        let (source, after) = after
            .split_once("}}")
            .ok_or_else(|| "an expression that begins with ${{ does not end with }}".to_owned())?;
        pieces.push(Piece::Plain(before));
        pieces.push(Piece::Expression(Expression::read(source)?));
        rest = after;
    }
    pieces.push(Piece::Plain(rest));
    Ok(pieces)
}

impl Expression {
    fn read(source: &str) -> Result<Self, String> {
        let shown = || format!("`${{{{{}}}}}`", source.chars().take(80).collect::<String>());
        if source.len() > LONGEST {
            return Err(format!("an expression has at most {LONGEST} bytes: {} has more", shown()));
        }
        let wrong = |why: &str| {
            let shown = shown();
            format!(
                "{shown} is no expression that is read here: {why}; write it like ${{{{ .space.name }}}}"
            )
        };
        let source = plain(source).map_err(wrong)?;
        with_environment(|environment| {
            let expression = environment
                .compile_expression(&source)
                .map_err(|error| wrong(error.detail().unwrap_or("it cannot be understood")))?;
            let names = expression.undeclared_variables(true).into_iter().collect();
            Ok(Self { source: source.clone(), names })
        })
    }

    /// The names in it, such as `space.name`.
    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// What it comes to.
    pub(super) fn eval(&self, names: &Names) -> Result<String, String> {
        with_environment(|environment| {
            let value = environment
                .compile_expression(&self.source)
                .and_then(|expression| expression.eval(names.value()))
                .map_err(|error| match error.kind() {
                    ErrorKind::OutOfFuel => "an expression takes too long".to_owned(),
                    // The error's own words may quote a value.
                    _ => "an expression cannot be worked out: are its filters those that the book lists?".to_owned(),
                })?;
            Ok(value.to_string())
        })
    }
}

/// The expression without the dots that its names begin with. What could cost more than the texts in
/// it are long is refused.
fn plain(source: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(source.len());
    let mut quote = None;
    let mut before = ' ';
    for c in source.trim().chars() {
        if let Some(end) = quote {
            match c {
                '\\' => return Err("a text in it has a backslash"),
                c if c == end => quote = None,
                _ => {}
            }
            plain.push(c);
            before = c;
            continue;
        }
        match c {
            '"' | '\'' => {
                quote = Some(c);
                plain.push(c);
            }
            // A dot at a name's beginning: `.space.name`.
            '.' if !(before.is_ascii_alphanumeric() || before == '_') => {}
            c if c.is_ascii_alphanumeric() || "_. |(),~=!<>\n\t".contains(c) => plain.push(c),
            _ => return Err("it has a sign that no expression here has"),
        }
        before = c;
    }
    match (quote, plain.trim().is_empty()) {
        (Some(_), _) => Err("a text in it does not end"),
        (None, true) => Err("it is empty"),
        (None, false) => Ok(plain),
    }
}

fn with_environment<T>(with: impl FnOnce(&Environment<'static>) -> T) -> T {
    thread_local! {
        static ENVIRONMENT: OnceCell<Environment<'static>> = const { OnceCell::new() };
    }
    ENVIRONMENT.with(|cell| with(cell.get_or_init(environment)))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("upper", |text: String| text.to_uppercase());
    environment.add_filter("lower", |text: String| text.to_lowercase());
    environment.add_filter("trim", |text: String| text.trim().to_owned());
    environment.add_filter("json", |text: String| json(&text));
    environment.add_filter("quote", |text: String| json(&text));
    environment.add_filter(
        "default",
        |value: Value, other: Value| {
            if value.is_true() { value } else { other }
        },
    );
    environment
}

fn json(text: &str) -> Result<String, Error> {
    serde_json::to_string(text)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "no JSON can be made of it"))
}
