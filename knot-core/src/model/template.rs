//! What spaces are made from.

use sha2::{Digest, Sha256};

crate::entity! {
    /// What spaces are made from: stored field by field, so that concurrent edits merge.
    pub struct Template("template", 1) {
        /// Its name.
        name: Field<String>,
        /// For people.
        description: Field<String>,
        /// Which driver runs it: `local`, `docker`, …
        platform: Field<String>,
        /// The container image; empty where the platform has none.
        image: Field<String>,
        /// The program started beside the agent; empty for none.
        command: Field<Vec<String>>,
        /// Environment variables by name.
        environment: Map<String, String>,
        /// Where volumes are mounted, by the volume's name.
        volumes: Map<String, String>,
        /// The engine's network to attach to; empty for the driver's choice.
        network: Field<String>,
        /// The memory limit, in bytes.
        memory: Field<Option<u64>>,
        /// The CPU limit, in thousandths of a core.
        millicpus: Field<Option<u64>>,
    }
}

impl Template {
    /// The hash of the fields that a start uses: 16 hexadecimal digits. A running space whose
    /// generation was started from another revision has an update waiting.
    pub fn revision(&self) -> String {
        let mut hash = Sha256::new();
        let mut put = |name: &str, value: &dyn AsRef<[u8]>| {
            for part in [name.as_bytes(), value.as_ref()] {
                hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(part);
            }
        };
        put("platform", &self.platform);
        put("image", &self.image);
        put("network", &self.network);
        for part in &self.command {
            put("command", part);
        }
        for (key, value) in &self.environment {
            put("environment", key);
            put("=", value);
        }
        for (key, value) in &self.volumes {
            put("volumes", key);
            put("=", value);
        }
        for (name, limit) in [("memory", self.memory), ("millicpus", self.millicpus)] {
            if let Some(limit) = limit {
                put(name, &limit.to_be_bytes());
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_covers_what_a_start_uses_and_nothing_else() {
        let plain = Template::default();
        let described = Template { description: "new".to_owned(), ..plain.clone() };
        assert_eq!(plain.revision(), described.revision());
        let image = Template { image: "busybox".to_owned(), ..plain.clone() };
        let network = Template { network: "busybox".to_owned(), ..plain.clone() };
        let limited = Template { memory: Some(1), ..plain.clone() };
        let revisions = [&plain, &image, &network, &limited].map(Template::revision);
        for (at, revision) in revisions.iter().enumerate() {
            assert!(!revisions.iter().skip(at + 1).any(|other| other == revision));
        }
    }
}
