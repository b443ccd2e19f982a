//! The HTTP API of the fake Nomad.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{Read, Seek, SeekFrom},
    sync::Arc,
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
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Allocation, Csi, Inner, Registered, Shared};

const NODE: &str = "11111111-2222-3333-4444-555555555555";

type Asked = Query<HashMap<String, String>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
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
