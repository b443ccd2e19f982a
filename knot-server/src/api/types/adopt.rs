//! What was set aside for a volume, to be used again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that was set aside and is to be its space's volume again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdoptVolume {
    /// What its engine calls it; may be left out where one was set aside only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
}
