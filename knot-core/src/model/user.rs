//! Who may do what.

use crate::{clock::Millis, id::Id};

crate::entity! {
    /// Somebody who signs in.
    pub struct User("user", 1) {
        /// The name to sign in with.
        name: Field<String>,
        /// The argon2id hash of the password, in PHC form; empty where none is set.
        password: Field<String>,
        /// May change templates, servers and all spaces.
        admin: Field<bool>,
        /// Sessions of a lower number are over: "sign out everywhere" raises it.
        epoch: Field<u64> [LargestWins],
    }
}

crate::entity! {
    /// An API token. The secret is not in it: a token is signed with a key of the cluster, and good
    /// by that until this document has arrived; from then on by its hash.
    pub struct Token("token", 2) {
        /// What it is for.
        name: Field<String>,
        /// Who it acts for.
        user: Field<Id<User>>,
        /// The SHA-256 of its text.
        hash: Field<String>,
        /// When it was made.
        created: Field<Millis>,
    }
}
