//! A fake Nomad: a real HTTP server, written from Nomad's HTTP API documentation, that runs tasks as
//! child processes of the tests.
//!
//! What it does: jobs with `EnforceIndex`, namespaces that must be there, allocations with events,
//! blocking queries, artifacts that are fetched over HTTP, checked and unpacked, CSI and host
//! volumes, variables, claims that are let go of late or never, signals, logs, evaluations that find no place,
//! and HTTP 500 for what is not found. What it does not: containers (a task is a process that sees a
//! volume through a link in its own folder), more than one node, ACLs, deployments, restarts,
//! constraints, and HCL, of which it knows only the texts that a test has given it with their JSON.

#[path = "nomad/api.rs"]
mod api;
#[path = "nomad/tasks.rs"]
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use knot_server::spaces::drivers::Archive;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

/// How long a CSI volume's claim outlives the allocation that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    AtOnce,
    After(Duration),
    Never,
}

/// What goes wrong, if it is told to.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Every request is answered as by a server that has no leader.
    pub(crate) down: bool,
    /// What is not found is answered with 500, not 404.
    pub(crate) not_found_is_500: bool,
    pub(crate) release: Release,
    /// So many registrations find that another was quicker.
    pub(crate) lost_races: u32,
    /// No node has memory left.
    pub(crate) no_room: bool,
    /// Variables may not be used.
    pub(crate) no_variables: bool,
    /// What a task's driver fails with.
    pub(crate) driver_error: Option<String>,
}

/// The server; it ends, with all tasks, when it is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

struct Shared {
    inner: Mutex<Inner>,
    news: watch::Sender<u64>,
    folder: PathBuf,
    archive: Archive,
}

struct Inner {
    index: u64,
    faults: Faults,
    jobs: BTreeMap<(String, String), Value>,
    allocations: Vec<Allocation>,
    evaluations: Vec<(String, Value)>,
    csi: BTreeMap<String, Csi>,
    host: Vec<Value>,
    namespaces: BTreeSet<String>,
    hcl: HashMap<String, Value>,
    registered: Vec<Registered>,
    variables: HashMap<String, Value>,
}

/// A registration that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    /// The job's generation.
    pub(crate) generation: String,
    /// The change that it says it serves.
    pub(crate) serves: String,
    pub(crate) stop: bool,
}

struct Csi {
    spec: Value,
    claims: BTreeSet<String>,
}

struct Allocation {
    id: String,
    namespace: String,
    job: String,
    job_index: u64,
    group: Value,
    status: &'static str,
    events: Vec<Value>,
    process: Option<Pid>,
    wanted: bool,
    create_index: u64,
    modify_index: u64,
}

impl Fake {
    pub(crate) async fn start(folder: &Path, agent: &[u8]) -> Self {
        let inner = Inner {
            index: 1,
            faults: Faults {
                down: false,
                not_found_is_500: true,
                release: Release::AtOnce,
                lost_races: 0,
                no_room: false,
                no_variables: false,
                driver_error: None,
            },
            jobs: BTreeMap::new(),
            allocations: Vec::new(),
            evaluations: Vec::new(),
            csi: BTreeMap::new(),
            host: Vec::new(),
            namespaces: ["default".to_owned()].into(),
            hcl: HashMap::new(),
            registered: Vec::new(),
            variables: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            news: watch::Sender::new(0),
            folder: folder.join("nomad"),
            archive: Archive::pack(agent).unwrap(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = api::router(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, serving }
    }

    pub(crate) fn fault(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.change(|inner| change(&mut inner.faults));
    }

    /// What the server makes of a text in HCL.
    pub(crate) fn knows_hcl(&self, text: &str, job: Value) {
        self.shared.change(|inner| inner.hcl.insert(text.to_owned(), job));
    }

    /// A job of any namespace, as it is.
    pub(crate) fn job(&self, id_ends_with: &str) -> Option<(String, Value)> {
        let inner = self.shared.inner.lock().unwrap();
        let mut jobs = inner.jobs.iter();
        let found = jobs.find(|((_, id), _)| id.ends_with(id_ends_with));
        found.map(|((namespace, _), job)| (namespace.clone(), job.clone()))
    }

    /// Every registration, the first first.
    pub(crate) fn registered(&self) -> Vec<Registered> {
        self.shared.inner.lock().unwrap().registered.clone()
    }

    /// How many tasks run.
    pub(crate) fn running(&self) -> usize {
        let inner = self.shared.inner.lock().unwrap();
        inner.allocations.iter().filter(|one| one.process.is_some()).count()
    }

    /// Lets go of the claims on all volumes.
    pub(crate) fn release_all(&self) {
        self.shared.change(|inner| inner.csi.values_mut().for_each(|one| one.claims.clear()));
    }

    pub(crate) fn volume(&self, ends_with: &str) -> Option<PathBuf> {
        let folder = self.shared.folder.join("volumes");
        let entries = fs::read_dir(folder).ok()?;
        entries
            .flatten()
            .map(|one| one.path())
            .find(|path| path.to_string_lossy().ends_with(ends_with))
    }

    pub(crate) fn namespaces(&self) -> BTreeSet<String> {
        self.shared.inner.lock().unwrap().namespaces.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
        let inner = self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for process in inner.allocations.iter().filter_map(|one| one.process) {
            kill_process(process, Signal::KILL).ok();
        }
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock().unwrap();
        inner.index += 1;
        let done = change(&mut inner);
        let index = inner.index;
        drop(inner);
        self.news.send_replace(index);
        done
    }
}

impl Inner {
    fn allocation(&mut self, id: &str) -> &mut Allocation {
        let index = self.index;
        let one = self.allocations.iter_mut().find(|one| one.id == id).unwrap();
        one.modify_index = index;
        one
    }

    fn event(&mut self, id: &str, event: Value) {
        self.allocation(id).events.push(event);
    }

    /// Stops what is not wanted, and places what is and has no allocation.
    fn schedule(&mut self, shared: &Arc<Shared>) {
        for ((namespace, id), job) in self.jobs.clone() {
            let stopped = job["Stop"] == json!(true);
            let index = job["JobModifyIndex"].as_u64().unwrap();
            for one in self.allocations.iter_mut().filter(|one| one.job == id && one.wanted) {
                if stopped || one.job_index != index {
                    one.wanted = false;
                    // One that has not come up yet sees by itself that it is not wanted.
                    if let Some(process) = one.process {
                        kill_process(process, Signal::TERM).ok();
                    }
                }
            }
            let of_this = |one: &Allocation| one.job == id && one.job_index == index;
            if !stopped && !self.allocations.iter().any(of_this) {
                self.place(shared, &namespace, &id, index, &job["TaskGroups"][0]);
            }
        }
    }

    fn place(
        &mut self,
        shared: &Arc<Shared>,
        namespace: &str,
        id: &str,
        index: u64,
        group: &Value,
    ) {
        let refused = self.refusal(group);
        let failed = refused.map(|(kind, why)| {
            json!({ group["Name"].as_str().unwrap(): {
                "NodesEvaluated": 1, kind: { why: 1 },
            }})
        });
        self.evaluations.retain(|(job, _)| job != id);
        let evaluation = json!({
            "ID": Uuid::now_v7(), "JobID": id, "Status": "complete", "JobModifyIndex": index,
            "CreateIndex": self.index, "FailedTGAllocs": failed,
        });
        self.evaluations.push((id.to_owned(), evaluation));
        if failed.is_some() {
            return;
        }
        let allocation = Uuid::now_v7().to_string();
        for name in csi_volumes(group) {
            self.csi.get_mut(&name).unwrap().claims.insert(allocation.clone());
        }
        self.allocations.push(Allocation {
            id: allocation.clone(),
            namespace: namespace.to_owned(),
            job: id.to_owned(),
            job_index: index,
            group: group.clone(),
            status: "pending",
            events: Vec::new(),
            process: None,
            wanted: true,
            create_index: self.index,
            modify_index: self.index,
        });
        tokio::spawn(tasks::run(Arc::clone(shared), allocation));
    }

    /// Why no node would do: the part of the answer that says so, and its words.
    fn refusal(&self, group: &Value) -> Option<(&'static str, String)> {
        if self.faults.no_room {
            return Some(("DimensionExhausted", "memory".to_owned()));
        }
        for name in csi_volumes(group) {
            match self.csi.get(&name) {
                None => return Some(("ConstraintFiltered", format!("missing CSI Volume {name}"))),
                Some(volume) if !volume.claims.is_empty() => {
                    let why =
                        format!("CSI volume {name} has exhausted its available writer claims");
                    return Some(("ConstraintFiltered", why));
                }
                Some(_) => {}
            }
        }
        let wanted = ports(group);
        let living = self.allocations.iter().filter(|one| one.status == "running");
        let taken: BTreeSet<_> = living.flat_map(|one| ports(&one.group)).collect();
        let port = wanted.iter().find(|port| taken.contains(port))?;
        let why = format!("network: reserved port collision p={port}");
        Some(("DimensionExhausted", why))
    }
}

fn csi_volumes(group: &Value) -> Vec<String> {
    let volumes = group["Volumes"].as_object().into_iter().flat_map(|all| all.values());
    volumes
        .filter(|one| one["Type"] == "csi")
        .map(|one| one["Source"].as_str().unwrap().to_owned())
        .collect()
}

fn ports(group: &Value) -> Vec<u64> {
    let ports = group.pointer("/Networks/0/ReservedPorts").and_then(Value::as_array);
    ports.into_iter().flatten().filter_map(|port| port["Value"].as_u64()).collect()
}
