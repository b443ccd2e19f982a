//! What spaces are called and whose they are, kept up to date from what changes, so that an answer
//! about one space looks at its owner's spaces and not at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use knot_core::{
    clock::Millis,
    id::{Id, ServerId},
    model::{Space, User},
    names::{For, Life, Named, Names, Unclear},
    replica::{Changed, Doc, Replica, Watch},
    schema::Entity as _,
};
use uuid::Uuid;

use crate::api::names::RECENTLY;

/// The index of one server.
#[derive(Debug)]
pub(in crate::api) struct Index {
    watch: Watch,
    spaces: BTreeMap<Uuid, Known>,
    owners: BTreeMap<Id<User>, Owned>,
    shared: BTreeMap<Id<User>, BTreeSet<Uuid>>,
    stored: HashMap<String, BTreeSet<Uuid>>,
    homes: BTreeMap<ServerId, usize>,
    /// Spaces of which only the grave has come, and when they died: any name may have been theirs.
    nameless: BTreeMap<Uuid, Millis>,
}

#[derive(Clone, Debug)]
struct Known {
    owner: Id<User>,
    name: String,
    shares: BTreeSet<Id<User>>,
    alt_names: BTreeSet<String>,
    home: ServerId,
    /// When it died, if it has.
    died: Option<Millis>,
}

#[derive(Debug, Default)]
struct Owned {
    spaces: BTreeSet<Uuid>,
    /// What they are called, until something changes or this time is over.
    names: Option<(Arc<Names<()>>, Millis)>,
}

impl Index {
    /// The index of a replica as it is now.
    pub(in crate::api) fn new(replica: &Replica) -> Self {
        let mut index = Self {
            watch: replica.watch(&[Space::KIND]),
            spaces: BTreeMap::new(),
            owners: BTreeMap::new(),
            shared: BTreeMap::new(),
            stored: HashMap::new(),
            homes: BTreeMap::new(),
            nameless: BTreeMap::new(),
        };
        for space in replica.list::<Space>().iter().chain(&replica.all_remains()) {
            index.look(replica, space.id());
        }
        for grave in replica.graves(Space::KIND) {
            index.look(replica, Id::from_uuid(grave.doc.uuid));
        }
        index
    }

    /// Takes in what has changed since the last time.
    pub(in crate::api) fn catch_up(&mut self, replica: &Replica) {
        while let Some(changed) = self.watch.try_next() {
            if let Changed::Document(doc) = changed {
                self.look(replica, Id::from_uuid(doc.uuid));
            }
        }
    }

    /// The living spaces that a user owns or shares.
    pub(in crate::api) fn of(&self, user: Id<User>) -> BTreeSet<Uuid> {
        let owned = self.owners.get(&user).map(|owned| owned.spaces.clone()).unwrap_or_default();
        let shared = self.shared.get(&user).cloned().unwrap_or_default();
        let mut all = &owned | &shared;
        all.retain(|id| self.spaces.get(id).is_some_and(|known| known.died.is_none()));
        all
    }

    /// How many spaces each server is the home of.
    pub(in crate::api) fn homes(&self) -> &BTreeMap<ServerId, usize> {
        &self.homes
    }

    /// What a living space is called.
    pub(in crate::api) fn name(&mut self, id: Uuid) -> Option<String> {
        let owner = self.spaces.get(&id)?.owner;
        self.names(owner).of(id).map(str::to_owned)
    }

    /// Whether a space of an owner, other than `besides`, answers to a name.
    pub(in crate::api) fn is_taken(
        &mut self,
        owner: Id<User>,
        name: &str,
        besides: Option<Uuid>,
    ) -> bool {
        let called = self.names(owner).find(&(), name, For::Reading);
        let owned = self.owners.get(&owner).into_iter().flat_map(|owned| &owned.spaces);
        let mut others = owned.filter(|id| Some(**id) != besides);
        let alternative = others.any(|id| {
            let known = self.spaces.get(id).filter(|known| known.died.is_none());
            known.is_some_and(|known| known.alt_names.contains(name))
        });
        alternative || called.is_ok_and(|id| Some(id) != besides)
    }

    /// The space of an owner that somebody means by a name.
    pub(in crate::api) fn find(
        &mut self,
        owner: Id<User>,
        name: &str,
        purpose: For,
    ) -> Result<Uuid, Unclear> {
        self.names(owner).find(&(), name, purpose)
    }

    /// The space that somebody means by a name among those that `may` lets through, whose ever.
    pub(in crate::api) fn find_among(
        &self,
        name: &str,
        purpose: For,
        may: impl Fn(Uuid) -> bool,
    ) -> Result<Uuid, Unclear> {
        let stem = name.rsplit_once('-').map(|(stem, _)| stem);
        let ids = [Some(name), stem].into_iter().flatten();
        let ids = ids.filter_map(|name| self.stored.get(name)).flatten();
        let owners: BTreeSet<_> =
            ids.filter_map(|id| self.spaces.get(id)).map(|known| known.owner).collect();
        let owned = owners.iter().filter_map(|owner| self.owners.get(owner));
        let ids = owned.flat_map(|owned| &owned.spaces).filter(|id| may(**id));
        let things = ids.filter_map(|id| self.named(*id).map(|known| (id, known)));
        let things = things.map(|(id, known)| Named {
            id: *id,
            scope: known.owner,
            name: known.name.clone(),
            life: life(known),
        });
        Names::new(things).find_anywhere(name, purpose)
    }

    fn names(&mut self, owner: Id<User>) -> Arc<Names<()>> {
        let now = Millis::now();
        let known = self.owners.get(&owner).and_then(|owned| owned.names.as_ref());
        if let Some((names, _)) = known.filter(|(_, until)| now < *until) {
            return Arc::clone(names);
        }
        let ids = self.owners.get(&owner).map(|owned| owned.spaces.clone()).unwrap_or_default();
        let mut until = Millis(i64::MAX);
        let mut things = Vec::new();
        for id in ids {
            let Some(known) = self.named(id) else { continue };
            if let Some(died) = known.died {
                until = until.min(Millis(died.0.saturating_add(RECENTLY)));
            }
            things.push(Named { id, scope: (), name: known.name.clone(), life: life(known) });
        }
        let names = Arc::new(Names::new(things));
        if let Some(owned) = self.owners.get_mut(&owner) {
            owned.names = Some((Arc::clone(&names), until));
        }
        names
    }

    /// A space that lives, or died so lately that its name is remembered.
    fn named(&self, id: Uuid) -> Option<&Known> {
        let lately = Millis::now().0.saturating_sub(RECENTLY);
        self.spaces.get(&id).filter(|known| known.died.is_none_or(|died| died.0 >= lately))
    }

    /// What a name may have meant besides `id`: spaces that died lately, and of which this server was
    /// told no more than that. Whoever would change something by the name is asked for an id.
    pub(in crate::api) fn unless_nameless(&self, name: &str, id: Uuid) -> Result<Uuid, Unclear> {
        let lately = Millis::now().0.saturating_sub(RECENTLY);
        let nameless = self.nameless.iter().filter(|(_, died)| died.0 >= lately);
        let mut ids: Vec<_> = nameless.map(|(id, _)| *id).take(8).collect();
        if ids.is_empty() {
            return Ok(id);
        }
        ids.push(id);
        Err(Unclear::Several { name: name.to_owned(), ids })
    }

    fn look(&mut self, replica: &Replica, id: Id<Space>) {
        self.forget(id.uuid());
        let died = replica.grave(id).map(|grave| grave.at);
        if let Some(space) = replica.get(id).or_else(|| replica.remains(id)) {
            self.nameless.remove(&id.uuid());
            self.take(&space, died);
        } else if let Some(died) = died {
            let lately = Millis::now().0.saturating_sub(RECENTLY);
            self.nameless.retain(|_, died| died.0 >= lately);
            if died.0 >= lately {
                self.nameless.insert(id.uuid(), died);
            }
        }
    }

    fn take(&mut self, space: &Doc<Space>, died: Option<Millis>) {
        let id = space.id().uuid();
        let known = Known {
            owner: space.owner,
            name: space.name.clone(),
            shares: space.shares.clone(),
            alt_names: space.alt_names.keys().cloned().collect(),
            home: space.placement.server,
            died,
        };
        let owned = self.owners.entry(known.owner).or_default();
        owned.spaces.insert(id);
        owned.names = None;
        for user in &known.shares {
            self.shared.entry(*user).or_default().insert(id);
        }
        self.stored.entry(known.name.clone()).or_default().insert(id);
        if died.is_none() {
            *self.homes.entry(known.home).or_default() += 1;
        }
        self.spaces.insert(id, known);
    }

    fn forget(&mut self, id: Uuid) {
        let Some(known) = self.spaces.remove(&id) else { return };
        if let Some(owned) = self.owners.get_mut(&known.owner) {
            owned.spaces.remove(&id);
            owned.names = None;
        }
        for user in &known.shares {
            if let Some(shared) = self.shared.get_mut(user) {
                shared.remove(&id);
            }
        }
        if let Some(stored) = self.stored.get_mut(&known.name) {
            stored.remove(&id);
            if stored.is_empty() {
                self.stored.remove(&known.name);
            }
        }
        if known.died.is_none()
            && let Some(placed) = self.homes.get_mut(&known.home)
        {
            *placed = placed.saturating_sub(1);
        }
    }
}

fn life(known: &Known) -> Life {
    if known.died.is_some() { Life::Dead } else { Life::Living }
}
