//! Names of things that are known by id: what is shown and what is meant where several share one.
//!
//! Names are no identities. Two servers that were cut off from each other may each give a name; both
//! things live on. The older id keeps the name, the other shows and answers as the name and the last
//! hexadecimal digits of its id, four or as many more as make it unique. That is derived from what
//! lives whenever it is read, never stored, and so the same on every server that holds the same.
//!
//! Whoever wants to change something names an id. A name will do where only one living or recently
//! dead id has had it: otherwise the retry of a request that deleted the older would hit the younger.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use uuid::Uuid;

/// The longest name, in characters.
pub const LONGEST: usize = 63;
/// How many digits of the id a derived name has at least.
const DIGITS: usize = 4;

/// Whether a name keeps the rules: lower-case letters, digits and dashes, beginning with a letter and
/// not ending with a dash.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(allowed)
}

/// Refuses what is no name; `what` says of what it should be one.
///
/// # Errors
/// It keeps not to the rules of [`is_name`]: what is wrong, for whoever wrote it.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    if is_name(name) {
        return Ok(());
    }
    let name: String = name.chars().take(80).collect();
    Err(format!(
        "`{name}` is no {what}: 1 to {LONGEST} lower-case letters, digits and dashes, beginning with a \
         letter and not ending with a dash"
    ))
}

/// A thing and the name that is stored in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<S> {
    /// Its id; of two, the smaller is the older.
    pub id: Uuid,
    /// Within which its name should be unique, such as its owner.
    pub scope: S,
    /// The stored name.
    pub name: String,
    /// Whether it lives.
    pub life: Life,
}

/// Whether a thing lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Living,
    /// It died so lately that somebody may still call it by its name.
    Dead,
}

/// What a name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// To show it: of several that share a name, the oldest answers.
    Reading,
    /// To use it, such as to open a terminal in it: of several living that share a name, none does.
    Using,
    /// To change it: of several that share a name, or did until lately, none answers.
    Writing,
}

/// A name does not say what is to be changed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// Nothing living has it.
    #[error("nothing is called `{0}`")]
    Nobody(String),
    /// Several have it, or had it until lately.
    #[error("{} have, or had until lately, the name `{name}`: say which, by id: {}", .ids.len(), list(.ids))]
    Several {
        /// The name.
        name: String,
        /// Their ids, the oldest first.
        ids: Vec<Uuid>,
    },
}

/// What things are called, and what names mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names<S> {
    /// What each living thing is called.
    shown: BTreeMap<Uuid, String>,
    /// What answers to a name, by scope.
    answers: BTreeMap<S, BTreeMap<String, Uuid>>,
    /// Everything, living or dead, by its stored name.
    stored: BTreeMap<S, BTreeMap<String, BTreeSet<Uuid>>>,
}

impl<S: Ord + Clone> Names<S> {
    /// From all living and the recently dead things, in any order.
    pub fn new(things: impl IntoIterator<Item = Named<S>>) -> Self {
        let mut names =
            Self { shown: BTreeMap::new(), answers: BTreeMap::new(), stored: BTreeMap::new() };
        let mut living: BTreeMap<S, Vec<(Uuid, String)>> = BTreeMap::new();
        for Named { id, scope, name, life } in things {
            if life == Life::Living {
                living.entry(scope.clone()).or_default().push((id, name.clone()));
            }
            let stored = names.stored.entry(scope).or_default();
            stored.entry(name).or_default().insert(id);
        }
        for (scope, mut things) in living {
            things.sort_unstable();
            let answers = derive(things);
            names.shown.extend(answers.iter().map(|(name, id)| (*id, name.clone())));
            names.answers.insert(scope, answers);
        }
        names
    }

    /// What a living thing is called.
    pub fn of(&self, id: Uuid) -> Option<&str> {
        self.shown.get(&id).map(String::as_str)
    }

    /// Whether something living answers to a name, so that nothing new should get it.
    pub fn is_taken(&self, scope: &S, name: &str) -> bool {
        self.answer(scope, name).is_some()
    }

    /// What somebody means by a name.
    ///
    /// # Errors
    /// Nothing living has the name, or it does not say enough for the purpose.
    pub fn find(&self, scope: &S, name: &str, purpose: For) -> Result<Uuid, Unclear> {
        let id = self.answer(scope, name).ok_or_else(|| Unclear::Nobody(name.to_owned()))?;
        let meant = self.meant(scope, name, purpose);
        if meant.iter().all(|other| *other == id) { Ok(id) } else { several(name, meant) }
    }

    /// What somebody means by a name who may mean a thing of any scope.
    ///
    /// # Errors
    /// As [`Names::find`]; several scopes with the name say too little for any purpose.
    pub fn find_anywhere(&self, name: &str, purpose: For) -> Result<Uuid, Unclear> {
        let answers = self.answers.keys().filter_map(|scope| self.answer(scope, name));
        let living: BTreeSet<_> = answers.collect();
        let Some(first) = living.first().copied() else {
            return Err(Unclear::Nobody(name.to_owned()));
        };
        let scopes = self.stored.keys();
        let meant: BTreeSet<_> =
            scopes.flat_map(|scope| self.meant(scope, name, purpose)).chain(living).collect();
        if meant.len() == 1 { Ok(first) } else { several(name, meant) }
    }

    /// What answers to a name.
    fn answer(&self, scope: &S, name: &str) -> Option<Uuid> {
        let shown = self.answers.get(scope).and_then(|answers| answers.get(name));
        if let Some(id) = shown {
            return Some(*id);
        }
        // It may have been called so while another had its name.
        let mut living = self.derived(scope, name).filter(|id| self.shown.contains_key(id));
        let id = living.next()?;
        living.next().is_none().then_some(id)
    }

    /// Everything that somebody may mean by a name.
    fn meant(&self, scope: &S, name: &str, purpose: For) -> BTreeSet<Uuid> {
        match purpose {
            For::Reading => self.answer(scope, name).into_iter().collect(),
            For::Using => {
                let mut ids = self.have_had(scope, name);
                ids.retain(|id| self.shown.contains_key(id));
                ids
            }
            For::Writing => self.have_had(scope, name),
        }
    }

    /// Every id that has, or has had, a name: stored, or derived from the one stored.
    fn have_had(&self, scope: &S, name: &str) -> BTreeSet<Uuid> {
        let stored = self.stored.get(scope).and_then(|stored| stored.get(name));
        stored.into_iter().flatten().copied().chain(self.derived(scope, name)).collect()
    }

    /// Every id for which a name may have been derived.
    fn derived(&self, scope: &S, name: &str) -> impl Iterator<Item = Uuid> {
        let parts = name.rsplit_once('-').filter(|(_, digits)| digits.len() >= DIGITS);
        let (ids, digits) = parts
            .and_then(|(stem, digits)| Some((self.stored.get(scope)?.get(stem)?, digits)))
            .unzip();
        let digits = digits.unwrap_or_default().to_owned();
        let ids = ids.into_iter().flatten().copied();
        ids.filter(move |id| id.simple().to_string().ends_with(&digits))
    }
}

/// What each of the living things of one scope, the oldest first, is called.
fn derive(things: Vec<(Uuid, String)>) -> BTreeMap<String, Uuid> {
    let mut answers = BTreeMap::new();
    let mut younger = Vec::new();
    for (id, name) in things {
        match answers.entry(name) {
            Entry::Vacant(free) => {
                free.insert(id);
            }
            Entry::Occupied(taken) => younger.push((id, taken.key().clone())),
        }
    }
    for (id, name) in younger {
        let digits = id.simple().to_string();
        let ends = (DIGITS..=digits.len()).filter_map(|count| digits.get(digits.len() - count..));
        let mut derived = ends.map(|end| format!("{name}-{end}"));
        let free = derived.find(|derived| !answers.contains_key(derived));
        answers.insert(free.unwrap_or_else(|| format!("{name}-{digits}-{digits}")), id);
    }
    answers
}

fn several(name: &str, ids: BTreeSet<Uuid>) -> Result<Uuid, Unclear> {
    Err(Unclear::Several { name: name.to_owned(), ids: ids.into_iter().collect() })
}

fn list(ids: &[Uuid]) -> String {
    let ids: Vec<_> = ids.iter().map(Uuid::to_string).collect();
    ids.join(" or ")
}

#[cfg(test)]
mod tests;
