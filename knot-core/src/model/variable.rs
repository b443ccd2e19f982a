//! Values that templates name.

use crate::secrets::Sealed;

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
