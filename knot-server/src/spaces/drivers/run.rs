//! What a driver is asked to bring up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use knot_core::{
    agent::{COMMAND_VARIABLE, LAUNCH_VARIABLE, Launch},
    id::ChangeHash,
    model::Port,
};
use uuid::Uuid;

use super::{Labels, Owner, Platform, VolumeError};

/// The environment variable that says which run of which space a process belongs to. All that runs
/// below an agent has it, unless it cleared its environment.
pub const RUN_VARIABLE: &str = "KNOT_RUN";

/// The least memory that an engine can run anything in.
const MIN_MEMORY: u64 = 6 << 20;

/// One generation of a space, ready to be run.
#[derive(Clone, Default, PartialEq)]
pub struct Run {
    /// What its agent is started with; says which space and which generation this is.
    pub launch: Launch,
    /// The revision of the template that it is made from.
    pub revision: String,
    /// The container image. A name without a tag means `:latest`. Not used by `local`.
    pub image: String,
    /// The template's own command, which the agent runs; empty for none.
    pub command: Vec<String>,
    /// Environment variables by name.
    pub environment: BTreeMap<String, String>,
    /// The engine's network, where the template names one. Not used by `local`.
    pub network: Option<String>,
    /// The most memory, in bytes. Not used by `local`.
    pub memory: Option<u64>,
    /// The most processor time. Not used by `local`.
    pub cpus: Option<MilliCpus>,
    /// The volumes, and where they are seen.
    pub mounts: Vec<Mount>,
    /// Folders of the engine's machine, and where they are seen. Refused by `local`.
    pub folders: Vec<Folder>,
    /// Ports that the engine publishes on its machine. Not used by `local`.
    pub published: Vec<Port>,
    /// Linux capabilities to have beyond the engine's choice; after a `-`, not to have.
    pub capabilities: Vec<String>,
    /// Devices of the engine's machine, as engines write them: `/dev/a:/dev/b:rw`.
    pub devices: Vec<String>,
    /// Who the image's registry is asked as.
    pub registry: Option<RegistryAuth>,
    /// The job in HCL, where the template has one; `nomad` only.
    pub job: Option<String>,
    /// The change of the space's `desired` that this start acts on: an engine that servers share is
    /// told it.
    pub serves: Option<ChangeHash>,
    /// Whose space it is. `nomad` only.
    pub user: Option<Uuid>,
}

/// A folder of the engine's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Its absolute path there.
    pub source: String,
    /// The absolute path in the space.
    pub path: String,
    /// Whether it cannot be written to from within the space.
    pub read_only: bool,
}

/// A user of an image registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its id.
    pub id: Uuid,
    /// Its name, for people.
    pub name: String,
    /// Its size in bytes, where it has one. Engines that bound no volume's size take no notice.
    pub size: Option<u64>,
    /// What makes it, where it is not the platform's own way: `host`, or `csi:` and a plugin's id.
    pub kind: Option<String>,
}

impl VolumeSpec {
    /// Refuses a kind that is not the platform's own, where the platform has one only.
    pub(super) fn only_of_the_platform(&self, platform: Platform) -> Result<(), VolumeError> {
        match &self.kind {
            None => Ok(()),
            Some(kind) => {
                Err(VolumeError::Kind { name: self.name.clone(), kind: kind.clone(), platform })
            }
        }
    }
}

/// Thousandths of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliCpus(pub u32);

/// A volume, and where it is seen in the space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume.
    pub volume: VolumeSpec,
    /// An absolute path. `local` shows it below the space's home folder: `/work` is `~/work`.
    pub path: String,
}

/// What was asked for can be run on no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRun {
    /// A variable's name or value.
    #[error(
        "the environment variable `{0}` cannot be set: its name is empty or has a `=` in it, or there \
         is a zero byte; change it in the template"
    )]
    Variable(String),
    /// A mount's path.
    #[error("the mount path `{path}` {problem}: change it in the template")]
    Mount {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The memory limit.
    #[error("{0} bytes of memory are too few for any program: 6 MiB are the least")]
    Memory(u64),
    /// The processor limit.
    #[error("{} thousandths of a processor are too few: 10 are the least", .0.0)]
    Cpus(MilliCpus),
    /// The command.
    #[error("the command has a zero byte in it: change it in the template")]
    Command,
}

impl Run {
    /// The labels that it carries when `owner` runs it.
    #[must_use]
    pub fn labels(&self, owner: Owner) -> Labels {
        Labels {
            owner,
            space: self.launch.space,
            generation: self.launch.generation,
            revision: self.revision.clone(),
        }
    }

    /// Looks for all that would fail on any engine, before anything is touched.
    pub(super) fn check(&self) -> Result<(), InvalidRun> {
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(InvalidRun::Variable(name.clone()));
            }
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return Err(InvalidRun::Command);
        }
        if let Some(few) = self.memory.filter(|bytes| *bytes < MIN_MEMORY) {
            return Err(InvalidRun::Memory(few));
        }
        if let Some(few) = self.cpus.filter(|cpus| *cpus < MilliCpus(10)) {
            return Err(InvalidRun::Cpus(few));
        }
        self.check_mounts()
    }

    fn check_mounts(&self) -> Result<(), InvalidRun> {
        let mut seen = BTreeSet::new();
        for mount in &self.mounts {
            let wrong = |problem| Err(InvalidRun::Mount { path: mount.path.clone(), problem });
            let Some(inner) = mount.path.strip_prefix('/') else {
                return wrong("does not begin with /");
            };
            if inner.is_empty() {
                return wrong("is the root folder itself");
            }
            if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return wrong("has an empty part, a `.` or a `..`, or ends in /");
            }
            if inner.contains('\0') {
                return wrong("has a zero byte in it");
            }
            if inner == ".knot" || inner.starts_with(".knot/") {
                return wrong("is where the agent stands");
            }
            if !seen.insert(inner) {
                return wrong("is used twice");
            }
        }
        Ok(())
    }

    /// All environment variables of its agent. Secret: the agent's key is among them.
    pub(super) fn full_environment(
        &self,
        owner: Owner,
    ) -> serde_json::Result<BTreeMap<String, String>> {
        let mut all = self.environment.clone();
        all.insert(LAUNCH_VARIABLE.to_owned(), serde_json::to_string(&self.launch)?);
        all.insert(COMMAND_VARIABLE.to_owned(), serde_json::to_string(&self.command)?);
        all.insert(RUN_VARIABLE.to_owned(), mark(&self.labels(owner)));
        Ok(all)
    }

    /// Whether every server that the agent could dial is on the same machine.
    pub(super) fn servers_are_loopback(&self) -> bool {
        !self.launch.servers.is_empty()
            && self.launch.servers.iter().all(|server| server.address.ip().is_loopback())
    }

    /// The space's name as a host name: lower-case letters, digits and hyphens, at most `most` long.
    pub(super) fn slug(&self, most: usize) -> String {
        let slug: String = self
            .launch
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(most)
            .collect();
        let slug = slug.trim_matches('-');
        if slug.is_empty() { "space".to_owned() } else { slug.to_owned() }
    }
}

/// The value of [`RUN_VARIABLE`] in all processes of a run.
pub(super) fn mark(labels: &Labels) -> String {
    let Labels { owner, space, generation, .. } = labels;
    format!("{}/{}/{space}/{generation}", owner.cluster, owner.home)
}

impl fmt::Debug for Run {
    /// Without the launch key and without values of variables, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("space", &self.launch.space)
            .field("generation", &self.launch.generation)
            .field("revision", &self.revision)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use knot_core::generation::Generation;

    use super::*;

    fn run() -> Run {
        Run {
            launch: Launch {
                space: Uuid::from_u128(1),
                name: "Data Lab".to_owned(),
                generation: Generation { term: 1, n: 1 },
                key: "secret-key".to_owned(),
                ..Launch::default()
            },
            revision: "r".to_owned(),
            image: "i".to_owned(),
            ..Run::default()
        }
    }

    #[test]
    fn what_no_engine_can_run_is_refused_by_name() {
        assert_eq!(run().check(), Ok(()));
        let path = |path: &str| {
            let mount = Mount { volume: VolumeSpec::default(), path: path.to_owned() };
            Run { mounts: vec![mount], ..run() }.check()
        };
        assert_eq!(path("/work/here"), Ok(()));
        for wrong in ["work", "/", "/a/../b", "/a//b", "/a/", "/.knot", "/.knot/agent", "/a\0"] {
            assert!(matches!(path(wrong), Err(InvalidRun::Mount { .. })), "{wrong:?}");
        }
        let variable = |name: &str| {
            let environment = [(name.to_owned(), String::new())].into();
            Run { environment, ..run() }.check()
        };
        assert_eq!(variable("A"), Ok(()));
        assert!(variable("A=B").is_err() && variable("").is_err());
        assert!(Run { memory: Some(1), ..run() }.check().is_err());
        assert!(Run { cpus: Some(MilliCpus(9)), ..run() }.check().is_err());
    }

    #[test]
    fn a_template_cannot_take_the_agents_own_variables() {
        let mut run = run();
        run.environment.insert(LAUNCH_VARIABLE.to_owned(), "mine".to_owned());
        let owner = Owner { cluster: Uuid::nil(), home: Uuid::nil() };
        let all = run.full_environment(owner).unwrap();
        assert_eq!(serde_json::from_str::<Launch>(&all[LAUNCH_VARIABLE]).unwrap(), run.launch);
        assert_eq!(all[COMMAND_VARIABLE], "[]");
    }

    #[test]
    fn no_secret_is_shown_and_names_become_host_names() {
        assert!(!format!("{:?}", run()).contains("secret-key"));
        assert_eq!(run().slug(63), "data-lab");
        assert_eq!(run().slug(5), "data");
    }
}
