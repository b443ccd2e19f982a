//! What is registered with Nomad for a run of a space: one job, with the agent in one of its tasks.
//!
//! The job of a space has the same id in all its generations, so that Nomad's compare-and-set judges
//! between servers that want different things of it. The group with the agent is named after the
//! generation: an allocation tells by it which one it belongs to.

use std::collections::HashMap;

use knot_core::{agent::COMMAND_VARIABLE, generation::Generation, id::ChangeHash, model::Port};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Settings,
    archive::Archive,
    volume::{self, Kind},
};
use crate::spaces::drivers::{Labels, MilliCpus, Owner, Run, StartError};

/// The task of a job made from a template's fields.
const TASK: &str = "agent";
/// Where the archive is unpacked to, below the folder of the task.
const FOLDER: &str = "local/knot";
const TASK_KEY: &str = "knot_task";
const SERVES_KEY: &str = "knot_serves";
const VOLUMES_KEY: &str = "knot_volumes";
/// In a template's job, the key and value in the `meta` of the task that the agent is put into.
const CHOSEN: (&str, &str) = ("knot", "agent");
/// How long a task has between SIGTERM and SIGKILL, in nanoseconds: a node's own bound, if it is not
/// told otherwise, is half a minute too.
const KILL_TIMEOUT: u64 = 30_000_000_000;

/// What a job says of itself in its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) labels: Labels,
    /// The task with the agent in it.
    pub(super) task: String,
    /// The change of the space's `desired` that it serves.
    pub(super) serves: Option<ChangeHash>,
    /// The volumes that it mounts.
    pub(super) volumes: Vec<Uuid>,
}

impl Meta {
    /// Back from Nomad; none if something is missing or cannot be read.
    pub(super) fn read(map: &HashMap<String, String>) -> Option<Self> {
        // Nomad turns metadata into environment variables, whose names take no dots.
        let dotted = |(key, value): (&String, &String)| (key.replacen('_', ".", 1), value.clone());
        let list =
            |key| map.get(key).map_or("", String::as_str).split(',').filter(|s| !s.is_empty());
        Some(Self {
            labels: Labels::from_map(&map.iter().map(dotted).collect())?,
            task: map.get(TASK_KEY)?.clone(),
            serves: map.get(SERVES_KEY).map(|hash| hash.parse()).transpose().ok()?,
            volumes: list(VOLUMES_KEY).map(|id| Uuid::try_parse(id).ok()).collect::<Option<_>>()?,
        })
    }

    /// The metadata of a job as Nomad gives it back whole.
    pub(super) fn of_job(job: &Value) -> Option<Self> {
        let meta = job.get("Meta")?.as_object()?;
        let text =
            |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        Self::read(&meta.iter().filter_map(text).collect())
    }

    fn write(&self) -> Map<String, Value> {
        let mut map: Map<String, Value> = self
            .labels
            .to_map()
            .into_iter()
            .map(|(key, value)| (key.replacen('.', "_", 1), json!(value)))
            .collect();
        let volumes: Vec<_> = self.volumes.iter().map(Uuid::to_string).collect();
        map.insert(TASK_KEY.to_owned(), json!(self.task));
        if let Some(serves) = self.serves {
            map.insert(SERVES_KEY.to_owned(), json!(serves.to_string()));
        }
        map.insert(VOLUMES_KEY.to_owned(), json!(volumes.join(",")));
        map
    }
}

/// What the ids of all jobs and volumes of a cluster begin with.
pub(super) fn prefix(cluster: Uuid) -> String {
    let cluster = cluster.simple().to_string();
    format!("knot-{}-", cluster.get(16..).unwrap_or(&cluster))
}

/// The id of a space's job.
pub(super) fn id(cluster: Uuid, space: Uuid) -> String {
    format!("{}{space}", prefix(cluster))
}

/// The name of the group that has a generation's agent in it.
pub(super) fn group(generation: Generation) -> String {
    format!("knot-{}-{}", generation.term, generation.n)
}

/// The job of a run, made from the template's own where it has one.
pub(super) fn make(
    run: &Run,
    owner: Owner,
    namespace: &str,
    settings: &Settings,
    agent: &Archive,
    parsed: Option<Value>,
) -> Result<Value, StartError> {
    let maker = Maker { run, owner, settings, agent };
    let mut job = match parsed {
        Some(job) => job,
        None => maker.of_fields()?,
    };
    let task = maker.take_over(&mut job)?;
    let meta = Meta {
        labels: run.labels(owner),
        task,
        serves: run.serves,
        volumes: run.mounts.iter().map(|mount| mount.volume.id).collect(),
    };
    let job_object = object(&mut job)?;
    let all = object(job_object.entry("Meta").or_insert_with(|| json!({})))?;
    all.extend(meta.write());
    let id = id(owner.cluster, run.launch.space);
    job_object.insert("ID".to_owned(), json!(id));
    job_object.insert("Name".to_owned(), json!(format!("{} ({id})", run.slug(40))));
    job_object.insert("Namespace".to_owned(), json!(namespace));
    job_object.insert("Stop".to_owned(), json!(false));
    if let Some(region) = &settings.region {
        job_object.insert("Region".to_owned(), json!(region));
    }
    Ok(job)
}

/// Makes of a job one that is stopped, for this change.
pub(super) fn stop(job: &mut Value, serves: Option<ChangeHash>) {
    put(job, "Stop", json!(true));
    if let (Some(serves), Some(meta)) = (serves, job.get_mut("Meta")) {
        put(meta, SERVES_KEY, json!(serves.to_string()));
    }
}

struct Maker<'a> {
    run: &'a Run,
    owner: Owner,
    settings: &'a Settings,
    agent: &'a Archive,
}

impl Maker<'_> {
    /// A job with one task of Nomad's `docker` driver.
    fn of_fields(&self) -> Result<Value, StartError> {
        let run = self.run;
        if run.image.is_empty() {
            return Err(refused("there is neither an image nor a job in the template"));
        }
        let label = |port: &Port| format!("p{}", port.number);
        let (less, more): (Vec<_>, Vec<_>) =
            run.capabilities.iter().partition(|one| one.starts_with('-'));
        let less: Vec<_> = less.iter().map(|one| one.trim_start_matches('-')).collect();
        let mut config = json!({ "image": run.image, "hostname": run.slug(63) });
        let mut add = |key: &str, value: Value| put(&mut config, key, value);
        let network = match &run.network {
            None if run.servers_are_loopback() => Some("host".to_owned()),
            network => network.clone(),
        };
        if let Some(network) = network {
            add("network_mode", json!(network));
        }
        if !run.published.is_empty() {
            add("ports", run.published.iter().map(label).collect());
        }
        if !more.is_empty() {
            add("cap_add", json!(more));
        }
        if !less.is_empty() {
            add("cap_drop", json!(less));
        }
        if !run.devices.is_empty() {
            add("devices", run.devices.iter().map(|device| device_config(device)).collect());
        }
        if !run.folders.is_empty() {
            let folders = run.folders.iter().map(|folder| {
                json!({
                    "type": "bind", "source": folder.source, "target": folder.path,
                    "readonly": folder.read_only,
                })
            });
            add("mount", folders.collect());
        }
        if let Some(registry) = &run.registry {
            add("auth", json!([{ "username": registry.user, "password": registry.password }]));
        }
        if let Some(MilliCpus(_)) = run.cpus {
            add("cpu_hard_limit", json!(true));
        }
        let reserved: Vec<_> = run
            .published
            .iter()
            .map(|port| json!({ "Label": label(port), "Value": port.published, "To": port.number }))
            .collect();
        let networks =
            if reserved.is_empty() { json!([]) } else { json!([{ "ReservedPorts": reserved }]) };
        Ok(json!({
            "Type": "batch",
            "Datacenters": self.settings.datacenters,
            "TaskGroups": [{
                "Name": TASK, "Count": 1, "Networks": networks,
                "Tasks": [{
                    "Name": TASK, "Driver": "docker", "Config": config,
                    "Resources": self.resources(),
                    "LogConfig": { "MaxFiles": 2, "MaxFileSizeMB": 2 },
                }],
            }],
        }))
    }

    /// A thousandth of a processor counts as one of Nomad's megahertz.
    fn resources(&self) -> Value {
        let mut resources = json!({});
        if let Some(MilliCpus(milli)) = self.run.cpus {
            put(&mut resources, "CPU", json!(milli));
        }
        if let Some(bytes) = self.run.memory {
            put(&mut resources, "MemoryMB", json!(bytes.div_ceil(1 << 20)));
        }
        resources
    }

    /// Puts agent, settings and volumes into the task that is to have them. Returns its name.
    fn take_over(&self, job: &mut Value) -> Result<String, StartError> {
        for kind in ["Periodic", "ParameterizedJob"] {
            if job.get(kind).is_some_and(|block| !block.is_null()) {
                return Err(refused(
                    "a periodic or parameterized job does not run as it is started",
                ));
            }
        }
        let groups = job.get_mut("TaskGroups").and_then(Value::as_array_mut);
        let groups = groups.ok_or_else(|| refused("it has no group"))?;
        let chosen = groups.iter().position(has_chosen_task).unwrap_or(0);
        let group = groups.get_mut(chosen).ok_or_else(|| refused("it has no group"))?;
        let group = object(group)?;
        group.insert("Name".to_owned(), json!(self::group(self.run.launch.generation)));
        group.insert("Count".to_owned(), json!(1));
        // Who starts a space is decided by its home, not by the engine.
        let never =
            json!({ "Attempts": 0, "Mode": "fail", "Interval": 60_000_000_000_u64, "Delay": 0 });
        group.insert("RestartPolicy".to_owned(), never.clone());
        group.insert("ReschedulePolicy".to_owned(), json!({ "Attempts": 0, "Unlimited": false }));
        let mut volume_mounts = Vec::new();
        let volumes = object(group.entry("Volumes").or_insert_with(|| json!({})))?;
        for (number, mount) in self.run.mounts.iter().enumerate() {
            let label = format!("knot{number}");
            let source = volume::name(self.owner, mount.volume.id);
            let mut request = Kind::of(&mount.volume).request(&source);
            put(&mut request, "Name", json!(label));
            volumes.insert(label.clone(), request);
            volume_mounts
                .push(json!({ "Volume": label, "Destination": mount.path, "ReadOnly": false }));
        }
        let tasks = group.get_mut("Tasks").and_then(Value::as_array_mut);
        let tasks = tasks.ok_or_else(|| refused("its group has no task"))?;
        let main = tasks.iter().position(is_chosen).or_else(|| {
            tasks.iter().position(|task| task.get("Lifecycle").is_none_or(Value::is_null))
        });
        let task = main.and_then(|at| tasks.get_mut(at));
        let task = object(task.ok_or_else(|| refused("its group has no task"))?)?;
        task.insert("RestartPolicy".to_owned(), never);
        task.insert("KillSignal".to_owned(), json!("SIGTERM"));
        task.insert("KillTimeout".to_owned(), json!(KILL_TIMEOUT));
        list(task, "VolumeMounts")?.extend(volume_mounts);
        list(task, "Artifacts")?.push(self.artifact());
        let command = self.put_agent_first(task)?;
        let environment = self.run.full_environment(self.owner).map_err(|error| {
            refused(&format!("the agent's settings cannot be written: {error}"))
        })?;
        let all = object(task.entry("Env").or_insert_with(|| json!({})))?;
        all.extend(environment.into_iter().map(|(name, value)| (name, json!(value))));
        all.insert(COMMAND_VARIABLE.to_owned(), json!(json!(command).to_string()));
        let name = task.get("Name").and_then(Value::as_str);
        name.map(str::to_owned).ok_or_else(|| refused("its task has no name"))
    }

    fn artifact(&self) -> Value {
        let url = self.agent.url(&self.settings.agent_url);
        json!({
            "GetterSource": url, "GetterMode": "any", "RelativeDest": format!("{FOLDER}/"),
            "GetterOptions": { "checksum": self.agent.checksum(), "archive": "tar.gz" },
        })
    }

    /// Makes the agent what the task runs. Returns what the agent is to run beside itself: the
    /// template's command, or else what the task had.
    fn put_agent_first(&self, task: &mut Map<String, Value>) -> Result<Vec<String>, StartError> {
        let driver = task.get("Driver").and_then(Value::as_str).unwrap_or_default().to_owned();
        let config = object(task.entry("Config").or_insert_with(|| json!({})))?;
        let mut words = Vec::new();
        for key in ["entrypoint", "command", "args"] {
            match config.remove(key) {
                Some(Value::String(word)) => words.push(word),
                Some(Value::Array(more)) => {
                    words.extend(more.iter().filter_map(|word| word.as_str().map(str::to_owned)));
                }
                _ => {}
            }
        }
        match driver.as_str() {
            // A container's folder of its own task is at /local.
            "docker" | "podman" => {
                config.insert("entrypoint".to_owned(), json!([format!("/{FOLDER}/agent")]));
            }
            "exec" | "raw_exec" | "exec2" => {
                config.insert("command".to_owned(), json!(format!("{FOLDER}/agent")));
            }
            other => {
                return Err(refused(&format!(
                    "its task uses driver `{other}`: the agent can be put into tasks of docker, \
                     podman, exec, exec2 and raw_exec"
                )));
            }
        }
        Ok(if self.run.command.is_empty() { words } else { self.run.command.clone() })
    }
}

fn has_chosen_task(group: &Value) -> bool {
    let tasks = group.get("Tasks").and_then(Value::as_array);
    tasks.is_some_and(|tasks| tasks.iter().any(is_chosen))
}

fn is_chosen(task: &Value) -> bool {
    let meta = task.get("Meta").and_then(|meta| meta.get(CHOSEN.0));
    meta.and_then(Value::as_str) == Some(CHOSEN.1)
}

fn device_config(device: &str) -> Value {
    let mut parts = device.split(':');
    let host = parts.next().unwrap_or(device);
    json!({
        "host_path": host,
        "container_path": parts.next().unwrap_or(host),
        "cgroup_permissions": parts.next().unwrap_or("rwm"),
    })
}

/// Sets a key of an object.
pub(super) fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn object(value: &mut Value) -> Result<&mut Map<String, Value>, StartError> {
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or_else(|| refused("it is not of the form that Nomad gives it"))
}

fn list<'a>(map: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>, StartError> {
    let value = map.entry(key).or_insert_with(|| json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or_else(|| refused("it is not of the form that Nomad gives it"))
}

fn refused(cause: &str) -> StartError {
    StartError::Job { cause: cause.to_owned() }
}
