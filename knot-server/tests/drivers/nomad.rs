//! A fake Nomad: a real HTTP server, written from Nomad's HTTP API documentation, that runs tasks as
//! child processes of the tests.
//!
//! What it does: jobs with `EnforceIndex`, namespaces that must be there, allocations with events,
//! blocking queries, artifacts that are fetched over HTTP, checked and unpacked, CSI and host
//! volumes, variables, claims that are let go of late or never, signals, logs, evaluations that find no place,
//! and HTTP 500 for what is not found. What it does not: containers (a task is a process that sees a
//! volume through a link in its own folder), more than one node, ACLs, deployments, restarts,
//! constraints, and HCL, of which it knows only the texts that a test has given it with their JSON.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path as At, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use knot_server::spaces::drivers::Archive;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

const NODE: &str = "11111111-2222-3333-4444-555555555555";

type Asked = Query<HashMap<String, String>>;

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
        let app = router(Arc::clone(&shared));
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
        tokio::spawn(run_task(Arc::clone(shared), allocation));
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

async fn run_task(shared: Arc<Shared>, id: String) {
    let (group, driver_error) = shared.change(|inner| {
        inner
            .event(&id, json!({ "Type": "Received", "DisplayMessage": "Task received by client" }));
        (inner.allocation(&id).group.clone(), inner.faults.driver_error.clone())
    });
    let task = group["Tasks"][0].clone();
    let folder = shared.folder.join("allocations").join(&id);
    let failure = match prepare(&shared, &id, &group, &task, &folder).await {
        Err(failure) => Some(failure),
        Ok(()) => driver_error
            .or_else(|| {
                let image = task["Config"]["image"].as_str()?;
                let known = image.starts_with("knot-conformance-") && image.ends_with(":1");
                (!known).then(|| format!("Failed to pull `{image}`: manifest unknown"))
            })
            .map(|error| {
                json!({ "Type": "Driver Failure", "FailsTask": true, "DriverError": error })
            }),
    };
    let wanted = shared.change(|inner| {
        let one = inner.allocation(&id);
        if !one.wanted {
            one.status = "complete";
        }
        one.wanted
    });
    if !wanted {
        return release(&shared, &id).await;
    }
    let command = match failure {
        Some(event) => Err(event),
        None => loop {
            match spawn(&task, &folder) {
                // A test that forks at this moment has the file open for writing for a while.
                Err(busy) if busy.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    tokio::task::yield_now().await;
                }
                done => {
                    break done.map_err(|error| {
                        let error = error.to_string();
                        json!({ "Type": "Driver Failure", "FailsTask": true, "DriverError": error })
                    });
                }
            }
        },
    };
    let mut child = match command {
        Ok(child) => child,
        Err(event) => {
            shared.change(|inner| {
                inner.event(&id, event);
                inner.allocation(&id).status = "failed";
            });
            return release(&shared, &id).await;
        }
    };
    let process = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    shared.change(|inner| {
        inner.event(&id, json!({ "Type": "Started", "DisplayMessage": "Task started by client" }));
        let one = inner.allocation(&id);
        (one.process, one.status) = (Some(process), "running");
        if !one.wanted {
            kill_process(process, Signal::TERM).ok();
        }
    });
    let status = child.wait().await.unwrap();
    shared.change(|inner| {
        let (code, signal) = (status.code().unwrap_or(0), status.signal().unwrap_or(0));
        inner.event(&id, json!({ "Type": "Terminated", "ExitCode": code, "Signal": signal }));
        let one = inner.allocation(&id);
        one.process = None;
        one.status = if !one.wanted || status.success() { "complete" } else { "failed" };
    });
    release(&shared, &id).await;
}

/// Lets go of what the allocation had claimed, when the fault says so.
async fn release(shared: &Arc<Shared>, id: &str) {
    let when = shared.inner.lock().unwrap().faults.release;
    match when {
        Release::Never => return,
        Release::AtOnce => {}
        Release::After(late) => tokio::time::sleep(late).await,
    }
    shared.change(|inner| {
        inner.csi.values_mut().for_each(|one| one.claims.retain(|other| other != id));
        inner.schedule(shared);
    });
}

/// The task's folder: artifacts, volumes.
async fn prepare(
    shared: &Arc<Shared>,
    id: &str,
    group: &Value,
    task: &Value,
    folder: &Path,
) -> Result<(), Value> {
    fs::create_dir_all(folder).unwrap();
    for artifact in task["Artifacts"].as_array().into_iter().flatten() {
        shared.change(|inner| {
            let said = "Client is downloading artifacts";
            inner.event(id, json!({ "Type": "Downloading Artifacts", "DisplayMessage": said }));
        });
        fetch(artifact, folder).await.map_err(|error| {
            json!({ "Type": "Failed Artifact Download", "FailsTask": true, "DownloadError": error })
        })?;
    }
    for mount in task["VolumeMounts"].as_array().into_iter().flatten() {
        let volume = &group["Volumes"][mount["Volume"].as_str().unwrap()];
        let source = shared.folder.join("volumes").join(volume["Source"].as_str().unwrap());
        let path = folder.join(mount["Destination"].as_str().unwrap().trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(source, path).unwrap();
    }
    Ok(())
}

async fn fetch(artifact: &Value, folder: &Path) -> Result<(), String> {
    let url = artifact["GetterSource"].as_str().unwrap();
    let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("bad response code: {}", answer.status().as_u16()));
    }
    let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if artifact["GetterOptions"]["checksum"] != json!(format!("sha256:{hash}")) {
        return Err("Checksums did not match".to_owned());
    }
    let tar = flate2::read::GzDecoder::new(&bytes[..]);
    let to = folder.join(artifact["RelativeDest"].as_str().unwrap());
    tar::Archive::new(tar).unpack(to).map_err(|error| error.to_string())
}

fn spawn(task: &Value, folder: &Path) -> std::io::Result<tokio::process::Child> {
    let config = &task["Config"];
    let program = config["entrypoint"][0].as_str().or(config["command"].as_str()).unwrap();
    let log = |name: &str| fs::File::create(folder.join(name)).unwrap();
    let environment = task["Env"].as_object().unwrap();
    let environment = environment.iter().map(|(name, value)| (name, value.as_str().unwrap()));
    tokio::process::Command::new(folder.join(program.trim_start_matches('/')))
        .env_clear()
        .envs(environment)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log("stdout"))
        .stderr(log("stderr"))
        .spawn()
}

fn router(shared: Arc<Shared>) -> Router {
    let archive = shared.archive.clone();
    let agent = get(move || async move { archive.bytes() });
    let path = shared.archive.path();
    let down = axum::middleware::from_fn_with_state(Arc::clone(&shared), refuse_while_down);
    Router::new()
        .route("/v1/status/leader", get(async || axum::Json("127.0.0.1:4647")))
        .route(
            "/v1/agent/self",
            get(async || axum::Json(json!({ "member": { "Tags": { "build": "fake" } } }))),
        )
        .route("/v1/jobs", get(list_jobs).post(register))
        .route("/v1/jobs/parse", post(parse))
        .route("/v1/job/{id}", get(read_job).delete(purge))
        .route("/v1/job/{id}/allocations", get(job_allocations))
        .route("/v1/job/{id}/evaluations", get(job_evaluations))
        .route("/v1/allocations", get(all_allocations))
        .route("/v1/namespace", post(put_namespace))
        .route("/v1/var/{*path}", get(read_variable).put(put_variable))
        .route("/v1/volumes", get(list_volumes))
        .route("/v1/volume/csi/{id}", get(read_csi))
        .route("/v1/volume/csi/{id}/create", put(create_csi))
        .route("/v1/volume/csi/{id}/delete", axum::routing::delete(delete_csi))
        .route("/v1/volume/csi/{id}/detach", axum::routing::delete(async || axum::Json(json!({}))))
        .route("/v1/volume/host/create", put(create_host))
        .route("/v1/volume/host/{id}/delete", axum::routing::delete(delete_host))
        .route("/v1/client/allocation/{id}/signal", post(signal))
        .route("/v1/client/fs/logs/{id}", get(logs))
        .layer(down)
        .route(&path, agent)
        .with_state(shared)
}

async fn refuse_while_down(
    State(shared): State<Arc<Shared>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    if shared.inner.lock().unwrap().faults.down {
        return said("No cluster leader");
    }
    next.run(request).await
}

fn said(text: &str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned()).into_response()
}

fn not_found(inner: &Inner, what: &str) -> Response {
    let status = match inner.faults.not_found_is_500 {
        true => StatusCode::INTERNAL_SERVER_ERROR,
        false => StatusCode::NOT_FOUND,
    };
    (status, format!("{what} not found")).into_response()
}

fn answer(index: u64, value: Value) -> Response {
    ([("X-Nomad-Index", index.to_string())], axum::Json(value)).into_response()
}

fn in_namespace(asked: &Asked, namespace: &str) -> bool {
    let wanted = asked.get("namespace").map_or("default", String::as_str);
    wanted == "*" || wanted == namespace
}

async fn list_jobs(State(shared): State<Arc<Shared>>, asked: Asked) -> Response {
    let inner = shared.inner.lock().unwrap();
    let prefix = asked.get("prefix").map_or("", String::as_str);
    let jobs = inner
        .jobs
        .iter()
        .filter(|((namespace, id), _)| in_namespace(&asked, namespace) && id.starts_with(prefix));
    let stubs = jobs.map(|(_, job)| {
        let mut stub = json!({});
        for key in ["ID", "Namespace", "Stop", "Meta", "JobModifyIndex"] {
            stub[key] = job[key].clone();
        }
        stub
    });
    answer(inner.index, stubs.collect())
}

async fn register(State(shared): State<Arc<Shared>>, asked: Asked, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut job = body["Job"].clone();
    shared.change(|inner| {
        let namespace = asked.get("namespace").map_or("default", String::as_str).to_owned();
        let id = job["ID"].as_str().unwrap().to_owned();
        if !inner.namespaces.contains(&namespace) {
            return said(&format!("job {id:?} is in nonexistent namespace {namespace:?}"));
        }
        let wanted = body["JobModifyIndex"].as_u64().unwrap_or(0);
        let key = (namespace, id);
        let present = inner.jobs.get(&key).map(|job| job["JobModifyIndex"].as_u64().unwrap());
        let refused = format!("Enforcing job modify index {wanted}: ");
        if body["EnforceIndex"] == json!(true) {
            match present {
                Some(_) if wanted == 0 => return said(&(refused + "job already exists")),
                Some(index) if index != wanted => {
                    let why = format!("job exists with conflicting job modify index: {index}");
                    return said(&(refused + &why));
                }
                None if wanted != 0 => return said(&(refused + "job does not exist")),
                _ => {}
            }
            if inner.faults.lost_races > 0 {
                inner.faults.lost_races -= 1;
                return said(&(refused + "job exists with conflicting job modify index: 7"));
            }
        }
        job["JobModifyIndex"] = json!(inner.index);
        job["Namespace"] = json!(key.0);
        let said = |key: &str| job["Meta"][key].as_str().unwrap_or_default().to_owned();
        let (generation, serves) = (said("knot_generation"), said("knot_serves"));
        let stop = job["Stop"] == json!(true);
        inner.registered.push(Registered { generation, serves, stop });
        inner.jobs.insert(key, job);
        inner.schedule(&shared);
        answer(inner.index, json!({ "EvalID": Uuid::now_v7(), "JobModifyIndex": inner.index }))
    })
}

async fn parse(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let inner = shared.inner.lock().unwrap();
    match inner.hcl.get(body["JobHCL"].as_str().unwrap()) {
        Some(job) => answer(inner.index, job.clone()),
        None => (StatusCode::BAD_REQUEST, "Failed to parse job: input.hcl:1,1-2").into_response(),
    }
}

async fn read_job(State(shared): State<Arc<Shared>>, At(id): At<String>, asked: Asked) -> Response {
    let inner = shared.inner.lock().unwrap();
    let mut jobs = inner.jobs.iter();
    match jobs.find(|((namespace, job), _)| *job == id && in_namespace(&asked, namespace)) {
        Some((_, job)) => answer(inner.index, job.clone()),
        None => not_found(&inner, "job"),
    }
}

async fn purge(State(shared): State<Arc<Shared>>, At(id): At<String>, asked: Asked) -> Response {
    shared.change(|inner| {
        inner.jobs.retain(|(namespace, job), _| *job != id || !in_namespace(&asked, namespace));
        answer(inner.index, json!({}))
    })
}

fn shown(one: &Allocation) -> Value {
    let task = one.group["Tasks"][0]["Name"].as_str().unwrap();
    let state = match one.status {
        "pending" => "pending",
        "running" => "running",
        _ => "dead",
    };
    json!({
        "ID": one.id, "Namespace": one.namespace, "JobID": one.job, "NodeID": NODE,
        "TaskGroup": one.group["Name"], "ClientStatus": one.status,
        "CreateIndex": one.create_index, "ModifyIndex": one.modify_index,
        "TaskStates": { task: { "State": state, "Events": one.events } },
    })
}

async fn job_allocations(
    State(shared): State<Arc<Shared>>,
    At(id): At<String>,
    asked: Asked,
) -> Response {
    let beyond = asked.get("index").map_or(0, |index| index.parse::<u64>().unwrap());
    let wait = asked.get("wait").map_or(0, |wait| wait.trim_end_matches('s').parse().unwrap());
    let mut news = shared.news.subscribe();
    let look = || {
        let inner = shared.inner.lock().unwrap();
        let of_this = inner.allocations.iter().filter(|one| one.job == id);
        let index = of_this.clone().map(|one| one.modify_index).max().unwrap_or(1);
        (index, of_this.map(shown).collect::<Value>())
    };
    let waited = async {
        while look().0 <= beyond {
            news.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(wait), waited).await.ok();
    let (index, value) = look();
    answer(index, value)
}

async fn job_evaluations(State(shared): State<Arc<Shared>>, At(id): At<String>) -> Response {
    let inner = shared.inner.lock().unwrap();
    let of_this = inner.evaluations.iter().filter(|(job, _)| *job == id);
    answer(inner.index, of_this.map(|(_, evaluation)| evaluation.clone()).collect())
}

async fn all_allocations(State(shared): State<Arc<Shared>>, asked: Asked) -> Response {
    let inner = shared.inner.lock().unwrap();
    let prefix = asked["filter"].strip_prefix("JobID matches \"^").unwrap().trim_end_matches('"');
    let found = inner.allocations.iter().filter(|one| one.job.starts_with(prefix));
    answer(inner.index, found.map(shown).collect())
}

async fn put_namespace(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    shared.change(|inner| inner.namespaces.insert(body["Name"].as_str().unwrap().to_owned()));
    StatusCode::OK.into_response()
}

fn variable(path: &str, asked: &Asked) -> String {
    format!("{}/{path}", asked.get("namespace").map_or("default", String::as_str))
}

async fn read_variable(
    State(shared): State<Arc<Shared>>,
    At(path): At<String>,
    asked: Asked,
) -> Response {
    let inner = shared.inner.lock().unwrap();
    if inner.faults.no_variables {
        return (StatusCode::FORBIDDEN, "Permission denied").into_response();
    }
    match inner.variables.get(&variable(&path, &asked)) {
        Some(known) => answer(inner.index, known.clone()),
        None => (StatusCode::NOT_FOUND, "variable not found").into_response(),
    }
}

async fn put_variable(
    State(shared): State<Arc<Shared>>,
    At(path): At<String>,
    asked: Asked,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(asked["cas"], "0");
    shared.change(|inner| {
        let name = variable(&path, &asked);
        if let Some(known) = inner.variables.get(&name) {
            return (StatusCode::CONFLICT, axum::Json(known.clone())).into_response();
        }
        inner.variables.insert(name, body.clone());
        answer(inner.index, body)
    })
}

async fn list_volumes(State(shared): State<Arc<Shared>>, asked: Asked) -> Response {
    let inner = shared.inner.lock().unwrap();
    let prefix = asked.get("prefix").map_or("", String::as_str);
    let found: Vec<_> = match asked["type"].as_str() {
        "csi" => inner.csi.values().map(|one| one.spec.clone()).collect(),
        _ => inner.host.clone(),
    };
    let found = found.into_iter().filter(|one| one["ID"].as_str().unwrap().starts_with(prefix));
    answer(inner.index, found.collect())
}

async fn read_csi(State(shared): State<Arc<Shared>>, At(id): At<String>) -> Response {
    let inner = shared.inner.lock().unwrap();
    let Some(volume) = inner.csi.get(&id) else { return not_found(&inner, "volume") };
    let mut shown_volume = volume.spec.clone();
    let claims = volume.claims.iter().map(|id| (id.clone(), Value::Null));
    shown_volume["WriteAllocs"] = Value::Object(claims.collect());
    let known = inner.allocations.iter().filter(|one| volume.claims.contains(&one.id));
    shown_volume["Allocations"] = known.map(shown).collect();
    answer(inner.index, shown_volume)
}

async fn create_csi(
    State(shared): State<Arc<Shared>>,
    At(id): At<String>,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let spec = body["Volumes"][0].clone();
    if spec["PluginID"] != "disks" {
        return said(&format!("no CSI plugin named: {} could be found", spec["PluginID"]));
    }
    fs::create_dir_all(shared.folder.join("volumes").join(&id)).unwrap();
    shared.change(|inner| inner.csi.insert(id, Csi { spec, claims: BTreeSet::new() }));
    axum::Json(json!({ "Volumes": [] })).into_response()
}

async fn delete_csi(State(shared): State<Arc<Shared>>, At(id): At<String>) -> Response {
    shared.change(|inner| match inner.csi.get(&id) {
        None => not_found(inner, "volume"),
        Some(volume) if !volume.claims.is_empty() => said(&format!("volume in use: {id}")),
        Some(_) => {
            inner.csi.remove(&id);
            fs::remove_dir_all(shared.folder.join("volumes").join(&id)).unwrap();
            axum::Json(json!({})).into_response()
        }
    })
}

async fn create_host(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut volume = body["Volume"].clone();
    volume["ID"] = json!(Uuid::now_v7());
    fs::create_dir_all(shared.folder.join("volumes").join(volume["Name"].as_str().unwrap()))
        .unwrap();
    shared.change(|inner| inner.host.push(volume.clone()));
    axum::Json(json!({ "Volume": volume })).into_response()
}

async fn delete_host(State(shared): State<Arc<Shared>>, At(id): At<String>) -> Response {
    shared.change(|inner| {
        let Some(at) = inner.host.iter().position(|one| one["ID"] == json!(id)) else {
            return not_found(inner, "volume");
        };
        let volume = inner.host.remove(at);
        let folder = shared.folder.join("volumes").join(volume["Name"].as_str().unwrap());
        fs::remove_dir_all(folder).unwrap();
        axum::Json(json!({})).into_response()
    })
}

async fn signal(State(shared): State<Arc<Shared>>, At(id): At<String>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["Signal"], "SIGKILL");
    let inner = shared.inner.lock().unwrap();
    let one = inner.allocations.iter().find(|one| one.id == id);
    match one.and_then(|one| one.process) {
        Some(process) => {
            kill_process(process, Signal::KILL).ok();
            axum::Json(json!({})).into_response()
        }
        None => not_found(&inner, "allocation"),
    }
}

async fn logs(State(shared): State<Arc<Shared>>, At(id): At<String>, asked: Asked) -> Response {
    let file = shared.folder.join("allocations").join(id).join(&asked["type"]);
    let Ok(mut file) = fs::File::open(file) else {
        return not_found(&shared.inner.lock().unwrap(), "log");
    };
    let length = file.metadata().unwrap().len();
    let offset: u64 = asked["offset"].parse().unwrap();
    file.seek(SeekFrom::Start(length.saturating_sub(offset))).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes.into_response()
}
