//! Values that templates name.

use std::collections::BTreeSet;

use crate::{id::Id, secrets::Sealed};

crate::entity! {
    /// A value that templates name as `${{ .var.NAME }}`. Several of one name are for different zones.
    pub struct Variable("variable", 1) {
        /// Its name.
        name: Field<String>,
        /// For people.
        description: Field<String>,
        /// The zones that it is for; all, where it is empty. One that names the zone of a space's
        /// home goes before one for all.
        zones: Set<String>,
        /// The value, where it is no secret.
        value: Field<String>,
        /// The value, sealed at `secret`, where it is one: it is never shown again.
        secret: Field<Option<Sealed>>,
    }
}

impl Variable {
    /// The id of the variable of this name for these zones: two servers that set one at once set the
    /// same. `life` counts those that were deleted before it, since a dead id stays dead.
    pub fn id_of(name: &str, zones: &BTreeSet<String>, life: u32) -> Id<Self> {
        let life = life.to_be_bytes();
        let zones = zones.iter().map(String::as_bytes);
        let parts: Vec<&[u8]> = [name.as_bytes(), &life].into_iter().chain(zones).collect();
        Id::of_key(&parts)
    }
}
