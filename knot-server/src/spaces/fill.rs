//! What a start takes from a template: its current revision, with all that the space, its owner, its
//! home and the variables say filled in.

use std::{collections::BTreeMap, ops::Deref};

use knot_core::{
    generation::Generation,
    id::{Id, ServerId},
    model::{Broken, Parameter, ParameterKind, Server, Space, Template, User, Variable},
    replica::{Doc, Replica, Token},
    secrets::{Keyring, Place, Sealed},
};

use super::{
    drivers::RegistryAuth,
    render::{self, Named, Names},
    validity,
};

/// How many variables a start may wait for.
const WAITED_FOR: usize = knot_core::replica::MAX_DOCUMENTS;

/// A template as a start uses it.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// The template's id.
    pub(crate) id: Id<Template>,
    /// The current revision's fields, or those filled in.
    pub(crate) template: Template,
    /// The revision that they are of: that of the fields before they were filled in.
    pub(crate) revision: String,
    /// Who the image's registry is asked as, once filled in.
    pub(crate) registry: Option<RegistryAuth>,
}

impl Chosen {
    /// A template as it stands.
    pub(crate) fn new(id: Id<Template>, template: Template) -> Self {
        Self { id, revision: template.revision(), template, registry: None }
    }

    /// The revision that a start from it runs.
    pub(crate) fn revision(&self) -> String {
        self.revision.clone()
    }
}

impl Deref for Chosen {
    type Target = Template;

    fn deref(&self) -> &Template {
        &self.template
    }
}

/// Fills a template in for one start of a space on this server.
///
/// # Errors
/// The field that cannot be filled in, and why.
pub(crate) fn fill(
    keyring: &Keyring,
    space: &Doc<Space>,
    chosen: &Chosen,
    generation: Generation,
) -> Result<Chosen, Broken> {
    let template = &chosen.template;
    let password = password(keyring, chosen)?;
    let mut used = render::variables(template);
    if let Some(password) = &password {
        let named = render::names_in(password).into_iter();
        let variables = named.filter_map(|name| name.strip_prefix("var.").map(str::to_owned));
        used.extend(variables.map(|name| (name, "registry_password".to_owned())));
    }
    let replica = keyring.replica();
    let mut names = surroundings(replica, space, chosen, generation);
    let home = replica.get(Id::<Server>::from_uuid(replica.me().0));
    let zone = home.map(|server| server.zone.clone()).unwrap_or_default();
    variables(keyring, &used, &zone, &mut names);
    parameters(keyring, space, template, &mut names)?;
    let filled = render::render(template, &names)?;
    let registry = password.map(|password| {
        let password = render::text("registry_password", &password, &names)?;
        Ok(RegistryAuth { user: filled.registry_user.clone(), password })
    });
    Ok(Chosen { template: filled, registry: registry.transpose()?, ..chosen.clone() })
}

/// What is known of the variables that a template names, for a start's home to wait for.
pub(crate) fn seen(replica: &Replica, template: &Template) -> String {
    let used = render::variables(template);
    let mut token = Token::new();
    let variables = replica.list::<Variable>();
    let named = variables.iter().filter(|one| used.contains_key(&one.name)).take(WAITED_FOR);
    named.for_each(|one| token.add(one.id().into(), one.heads()));
    if token.is_empty() { String::new() } else { token.to_text() }
}

/// The variable of this name that counts in a zone: one that names the zone before one for all, the
/// one with the smaller id before another.
pub(crate) fn variable<'a>(
    variables: &'a [Doc<Variable>],
    name: &str,
    zone: &str,
) -> Option<&'a Doc<Variable>> {
    let rank = |one: &Doc<Variable>| (!one.zones.contains(zone), one.id());
    let of_name = variables.iter().filter(|one| one.name == name);
    let for_zone = of_name.filter(|one| one.zones.is_empty() || one.zones.contains(zone));
    for_zone.min_by_key(|one| rank(one))
}

/// Looks whether a value is one that a parameter takes.
///
/// # Errors
/// What it takes.
pub(crate) fn accepts(parameter: &Parameter, value: &str) -> Result<(), String> {
    parameter.accepts(value)?;
    match parameter.kind {
        ParameterKind::Text | ParameterKind::Secret => validity::matches(&parameter.pattern, value),
        _ => Ok(()),
    }
}

fn password(keyring: &Keyring, chosen: &Chosen) -> Result<Option<String>, Broken> {
    let Some(sealed) = &chosen.registry_password else { return Ok(None) };
    let place = Place { doc: chosen.id.into(), field: "registry_password" };
    open(keyring, place, sealed).map(Some)
}

fn open(keyring: &Keyring, place: Place<'_>, sealed: &Sealed) -> Result<String, Broken> {
    let opened = keyring.open(place, sealed);
    let plain = opened.map_err(|error| Broken {
        field: place.field.to_owned(),
        why: crate::causes::with_causes(&error),
    })?;
    Ok(plain.expose_text().unwrap_or_default().to_owned())
}

/// Space, template, user and server.
fn surroundings(
    replica: &Replica,
    space: &Doc<Space>,
    chosen: &Chosen,
    generation: Generation,
) -> Names {
    let mut names = Names::default();
    let ServerId(me) = replica.me();
    let server = replica.get(Id::<Server>::from_uuid(me));
    let server = server.as_deref().cloned().unwrap_or_default();
    let owner = replica.get::<User>(space.owner);
    let owner = owner.as_deref().cloned().unwrap_or_default();
    let zone = if owner.time_zone.is_empty() { "UTC".to_owned() } else { owner.time_zone };
    for (name, value) in [
        ("space.id", space.id().to_string()),
        ("space.name", space.name.clone()),
        ("space.owner", owner.name.clone()),
        ("space.zone", server.zone.clone()),
        ("template.id", chosen.id.to_string()),
        ("template.name", chosen.name.clone()),
        ("template.platform", chosen.platform.clone()),
        ("user.id", space.owner.to_string()),
        ("user.name", owner.name.clone()),
        ("user.username", owner.name),
        ("user.timezone", zone),
        ("server.id", me.to_string()),
        ("server.name", server.name),
        ("server.zone", server.zone),
        ("server.url", server.http),
        ("server.agent_endpoint", server.quic),
    ] {
        names.put(name, Named::text(value));
    }
    names.put("space.first_boot", Named::truth(generation.n <= 1));
    names
}

fn variables(keyring: &Keyring, used: &BTreeMap<String, String>, zone: &str, names: &mut Names) {
    let all = if used.is_empty() { Vec::new() } else { keyring.replica().list::<Variable>() };
    for name in used.keys() {
        let key = format!("var.{name}");
        let Some(variable) = variable(&all, name, zone) else {
            let place = if zone.is_empty() { String::new() } else { format!(" for zone {zone}") };
            names.lacks(
                key,
                format!(
                    "there is no variable {name}{place}: an admin makes it with `knot variable set {name}`"
                ),
            );
            continue;
        };
        match &variable.secret {
            None => names.put(key, Named::text(variable.value.clone())),
            Some(sealed) => {
                let place = Place { doc: variable.id().into(), field: "secret" };
                match open(keyring, place, sealed) {
                    Ok(value) => names.put(key, Named::secret(value)),
                    Err(broken) => names.lacks(key, format!("variable {name}: {}", broken.why)),
                }
            }
        }
    }
}

/// The values of all parameters: as given, or as declared.
fn parameters(
    keyring: &Keyring,
    space: &Doc<Space>,
    template: &Template,
    names: &mut Names,
) -> Result<(), Broken> {
    for (name, parameter) in template.declared() {
        let field = format!("parameters/{name}");
        let wrong = |why: String| Broken { field: field.clone(), why };
        let given = space.parameters.get(&name);
        let secret = parameter.kind == ParameterKind::Secret;
        let value = match given {
            Some(given) => match given.parse::<Sealed>() {
                Ok(sealed) => {
                    let place = Place { doc: space.id().into(), field: &field };
                    Some(open(keyring, place, &sealed)?)
                }
                Err(_) => Some(given.clone()),
            },
            None => parameter.default.clone(),
        };
        let Some(value) = value else {
            if parameter.required {
                return Err(wrong(format!(
                    "parameter {name} has no value: give the space one with `knot space parameters`"
                )));
            }
            names.put(format!("param.{name}"), unset(&parameter));
            continue;
        };
        accepts(&parameter, &value)
            .map_err(|why| wrong(format!("the value of parameter {name} is refused: {why}")))?;
        let named = match parameter.kind {
            ParameterKind::Bool => Named::truth(value == "true"),
            _ if secret || given.is_some_and(|given| given.parse::<Sealed>().is_ok()) => {
                Named::secret(value)
            }
            _ => Named::text(value),
        };
        names.put(format!("param.{name}"), named);
    }
    Ok(())
}

/// What stands for a parameter that nobody gave a value.
fn unset(parameter: &Parameter) -> Named {
    match parameter.kind {
        ParameterKind::Bool => Named::truth(false),
        _ => Named::text(""),
    }
}
