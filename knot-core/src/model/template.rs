//! What spaces are made from.

mod parameters;
mod parts;
mod rules;

use sha2::{Digest, Sha256};

pub use self::{
    parameters::{Parameter, ParameterKind},
    parts::{Hours, ParsePartError, Port, Protocol},
    rules::{Broken, check_path},
};
use crate::secrets::Sealed;

crate::entity! {
    /// What spaces are made from: stored field by field, so that concurrent edits merge.
    pub struct Template("template", 3) {
        /// Its name.
        name: Field<String>,
        /// For people.
        description: Field<String>,
        /// Whether it is retired: what is made from it goes on, and nothing new is made.
        retired: Field<bool>,
        /// Which driver runs it: `local`, `docker`, …
        platform: Field<String>,
        /// The container image; empty where the platform has none.
        image: Field<String>,
        /// The user that the image's registry is asked as; empty for nobody.
        registry_user: Field<String>,
        /// That user's password, sealed at `registry_password`.
        registry_password: Field<Option<Sealed>>,
        /// The program started beside the agent; empty for none.
        command: Field<Vec<String>>,
        /// Environment variables by name.
        environment: Map<String, String>,
        /// Ports that programs in the space listen on, by name.
        ports: Map<String, Port>,
        /// Whether its spaces' other ports may be opened over HTTP too.
        any_port: Field<bool>,
        /// Folders of the engine's machine, by where they are seen: `/srv/data`, or `/srv/data:ro`.
        mounts: Map<String, String>,
        /// Where volumes are mounted, by the volume's name.
        volumes: Map<String, String>,
        /// The sizes of volumes that have one, in bytes, by the volume's name.
        volume_sizes: Map<String, u64>,
        /// What makes a volume where it is not the platform's own way, by the volume's name:
        /// `host`, or `csi:` and the id of a plugin.
        volume_kinds: Map<String, String>,
        /// Names of volumes that stay when their space is deleted.
        volume_keeps: Set<String>,
        /// The engine's network to attach to; empty for the driver's choice.
        network: Field<String>,
        /// The memory limit, in bytes.
        memory: Field<Option<u64>>,
        /// The CPU limit, in thousandths of a core.
        millicpus: Field<Option<u64>>,
        /// Linux capabilities to have beyond the engine's choice; one after a `-` is taken away.
        capabilities: Set<String>,
        /// Devices of the engine's machine: `/dev/kvm`, or `/dev/a:/dev/b:rw`.
        devices: Set<String>,
        /// What a space's maker is asked for, as `<name>/<part>`; the parts are `type`, `description`,
        /// `default`, `choices`, `pattern`, `least`, `most` and `required`.
        parameters: Map<String, String>,
        /// The job in HCL, for platform `nomad`; empty for one made of the other fields.
        job: Field<String>,
        /// A script that the agent runs before the command; empty for none.
        startup_script: Field<String>,
        /// A script that the agent runs before it stops; empty for none.
        shutdown_script: Field<String>,
        /// Names of the groups whose members may use it; everybody, where it is empty.
        groups: Set<String> [RemovalWins],
        /// Zones that its spaces are placed in, or after a `!` not; anywhere, where it is empty.
        zones: Set<String>,
        /// Features that are switched off: `terminal`, `ssh`, `ports`, `exec`.
        without: Set<String>,
        /// What is asked to see whether a space is well: `tcp:PORT`, `http://…`, `https://…`, or
        /// `exec:` and a shell command; empty where a linked agent is enough.
        health: Field<String>,
        /// Seconds between two health checks.
        health_interval: Field<Option<u64>>,
        /// Seconds that one check may take.
        health_timeout: Field<Option<u64>>,
        /// How many checks in a row fail before the space counts as unwell.
        health_failures: Field<Option<u64>>,
        /// How often in a row an unwell or crashed space is restarted; 0 for never.
        health_restarts: Field<Option<u64>>,
        /// Seconds without activity after which a space is stopped.
        idle_stop: Field<Option<u64>>,
        /// When spaces run, by the day they start on (`mon` to `sun`), in their owner's time zone.
        schedule: Map<String, Hours>,
        /// Whether the schedule starts spaces too, and does not only stop them.
        schedule_starts: Field<bool>,
        /// Seconds after which a running space is stopped.
        max_uptime: Field<Option<u64>>,
        /// To how many servers the agents of its spaces are linked; 2 where it is not said.
        links: Field<Option<u64>>,
        /// Whether a connection to a stopped space starts it.
        start_on_connect: Field<bool>,
        /// Whether whoever may open one of its ports starts a stopped space by that, its users or not.
        start_on_visit: Field<bool>,
    }
}

impl Template {
    /// The hash of the fields that a start uses: 16 hexadecimal digits. A running space whose
    /// generation was started from another revision has an update waiting.
    pub fn revision(&self) -> String {
        let mut hash = Revision(Sha256::new());
        let texts = [
            ("platform", &self.platform),
            ("image", &self.image),
            ("registry_user", &self.registry_user),
            ("network", &self.network),
            ("job", &self.job),
            ("startup_script", &self.startup_script),
            ("shutdown_script", &self.shutdown_script),
        ];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            hash.put(name, text);
        }
        if let Some(password) = &self.registry_password {
            hash.put("registry_password", &password.to_string());
        }
        self.command.iter().for_each(|part| hash.put("command", part));
        hash.map("environment", &self.environment);
        hash.map("mounts", &self.mounts);
        hash.map("volumes", &self.volumes);
        hash.map("volume_sizes", &self.volume_sizes);
        hash.map("volume_kinds", &self.volume_kinds);
        // A port that is not published on the engine's machine is asked for when it is used.
        let published = self.ports.iter().filter(|(_, port)| port.published.is_some());
        published.for_each(|(name, port)| hash.put(name, &format!("port {port}")));
        self.capabilities.iter().for_each(|one| hash.put("capabilities", one));
        self.devices.iter().for_each(|one| hash.put("devices", one));
        // A value that a space was given is the space's own affair; a default is the template's.
        for (name, parameter) in self.declared() {
            if let Some(default) = parameter.default {
                hash.put("parameter", &name);
                hash.put("=", &default);
            }
        }
        for (name, limit) in [("memory", self.memory), ("millicpus", self.millicpus)] {
            if let Some(limit) = limit {
                hash.put(name, &limit.to_string());
            }
        }
        hash.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

struct Revision(Sha256);

impl Revision {
    fn put(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.0.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            self.0.update(part);
        }
    }

    fn map<T: ToString>(&mut self, name: &str, map: &std::collections::BTreeMap<String, T>) {
        for (key, value) in map {
            self.put(name, key);
            self.put("=", &value.to_string());
        }
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
