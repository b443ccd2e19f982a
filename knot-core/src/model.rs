//! knot's own document types, and the records that servers keep about them.
//!
//! An embedder declares its own with [`entity!`](crate::entity) and uses these or not.

mod cluster;
mod platform;
mod space;
mod template;
mod user;
mod variable;

pub use cluster::{DataKey, HostKey, Server, ServerStatus, SessionKey};
pub use platform::{ParsePlatformError, Platform};
pub use space::{
    Adopted, Desired, Forward, Move, Observed, Placement, PortAccess, ScheduleMark, Space,
    SpaceHealth, SpaceStatus, Volume, VolumeStatus, Witness,
};
pub use template::{
    Broken, Hours, Parameter, ParameterKind, ParsePartError, Port, Protocol, Template, check_path,
};
pub use user::{Group, Token, User};
pub use variable::Variable;

use crate::schema::Schema;

/// All of knot's document types.
pub fn schema() -> Schema {
    Schema::new()
        .with::<DataKey>()
        .with::<Group>()
        .with::<HostKey>()
        .with::<Server>()
        .with::<SessionKey>()
        .with::<Space>()
        .with::<Template>()
        .with::<Token>()
        .with::<User>()
        .with::<Variable>()
        .with::<Volume>()
}

/// An enum that stands in documents, records and JSON as one lower-case word.
macro_rules! words {
    (
        $(#[$doc:meta])*
        pub enum $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $word:literal ),+ $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name { $( $(#[$variant_doc])* #[serde(rename = $word)] $variant ),+ }

        impl $name {
            /// The word it is written as.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),+ }
            }

            /// The value that is written as this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $( $word => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::schema::FieldValue for $name {
            fn to_scalar(&self) -> $crate::schema::Scalar {
                $crate::schema::Scalar::Text(self.as_str().to_owned())
            }

            fn from_scalar(scalar: &$crate::schema::Scalar) -> Option<Self> {
                match scalar {
                    $crate::schema::Scalar::Text(text) => Self::from_word(text),
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use words;
