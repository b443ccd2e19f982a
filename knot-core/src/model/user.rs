//! Who may do what.

use crate::{clock::Millis, id::Id};

crate::entity! {
    /// Somebody who signs in.
    pub struct User("user", 3) {
        /// The name to sign in with.
        name: Field<String>,
        /// The argon2id hash of the password, in PHC form; empty where none is set.
        password: Field<String>,
        /// May change templates, servers and all spaces.
        admin: Field<bool>,
        /// Names of the groups that they are in.
        groups: Set<String> [RemovalWins],
        /// The SSH keys that they sign in with, by fingerprint (`SHA256:` and base64): each a line as
        /// `authorized_keys` has it, whose comment is the label.
        keys: Map<String, String> [RemovalWins],
        /// The time zone that schedules go by, as the IANA names it; empty for UTC.
        time_zone: Field<String>,
        /// Sessions of a lower number are over: "sign out everywhere" raises it.
        epoch: Field<u64> [LargestWins],
        /// Sessions that were signed out of, by a hash of what they say, and until when they would
        /// have been good: what is past that is taken out again.
        ended: Map<String, Millis>,
    }
}

crate::entity! {
    /// A group of users, which templates can be kept to. Its id is the hash of its name, which never
    /// changes: two servers that make one at once make the same.
    pub struct Group("group", 1) {
        /// Its name.
        name: Field<String>,
        /// For people.
        description: Field<String>,
    }
}

impl Group {
    /// The id of the group of this name. `life` counts those of this name that were deleted before
    /// it, since a dead id stays dead.
    pub fn id_of(name: &str, life: u32) -> Id<Self> {
        Id::of_key(&[name.as_bytes(), &life.to_be_bytes()])
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
