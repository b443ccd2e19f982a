//! The page of volumes, and their rows.

use askama::Template;

use super::Chrome;
use crate::api::types::Orphan;

/// `/volumes`: the volumes that the user may see, and a form for a new one.
#[derive(Template)]
#[template(path = "volumes.html")]
pub struct VolumesPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The volumes, by space and name.
    pub volumes: Vec<VolumeRow>,
    /// For admins: what is on engines and of no document.
    pub orphans: Vec<Orphan>,
    /// Where a new volume can be made.
    pub places: Vec<VolumePlace>,
}

/// An engine that a new volume can be made on.
#[derive(Clone, Debug)]
pub struct VolumePlace {
    /// The server's id.
    pub server_id: String,
    /// The server's name.
    pub server: String,
    /// The kind of engine.
    pub platform: String,
}

impl VolumePlace {
    /// What the form sends for it, as JSON.
    fn body(&self) -> String {
        serde_json::json!({"server": self.server_id, "platform": self.platform}).to_string()
    }
}

/// One volume, or what was set aside for one.
#[derive(Clone, Debug, Default)]
pub struct VolumeRow {
    /// The volume's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name of its space; empty for none.
    pub space: String,
    /// The id of its space; empty for none.
    pub space_id: String,
    /// The name of its owner.
    pub owner: String,
    /// Where it is mounted inside the space.
    pub path: String,
    /// The kind of engine that keeps it.
    pub platform: String,
    /// Whether it is there.
    pub state: String,
    /// What the engine calls it.
    pub engine_id: String,
    /// The server whose engine keeps it.
    pub server: String,
    /// Its size in bytes, where it has one.
    pub size: Option<u64>,
    /// Whether it stays when its space is deleted.
    pub keep: bool,
    /// Why it is not as it should be.
    pub cause: Option<String>,
    /// What the user may do with it; nothing for who only sees it.
    pub may: Option<MayDo>,
}

/// What can be done with a volume now.
#[derive(Clone, Debug, Default)]
pub struct MayDo {
    /// Its engine bounds sizes.
    pub resize: bool,
    /// What was set aside can take the place of what its space has now.
    pub adopt: bool,
    /// It can be detached from its space.
    pub detach: bool,
    /// It can be deleted.
    pub delete: bool,
    /// The spaces that it can be attached to, as id and name.
    pub attach: Vec<(String, String)>,
}

impl VolumeRow {
    pub(super) fn is_aside(&self) -> bool {
        self.state == "aside"
    }

    /// The volume's size, for people.
    pub(super) fn size_words(&self) -> Option<String> {
        self.size.map(size)
    }

    /// The size in GiB, as a form has it.
    #[expect(clippy::cast_precision_loss, reason = "what is lost is below a form's step")]
    pub(super) fn gib(&self) -> String {
        self.size.map(|size| (size as f64 / f64::from(1 << 30)).to_string()).unwrap_or_default()
    }
}

/// Bytes, for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fits = UNITS.into_iter().find(|(_, unit)| bytes >= *unit);
    let Some((name, unit)) = fits else { return format!("{bytes} B") };
    let tenths = (bytes % unit) * 10 / unit;
    match tenths {
        0 => format!("{} {name}", bytes / unit),
        tenths => format!("{}.{tenths} {name}", bytes / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        for (bytes, words) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1 << 20, "1 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }
}
