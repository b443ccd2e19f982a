//! A task of the fake Nomad: what is fetched for it, its process, and what is let go of after it.

use std::{fs, os::unix::process::ExitStatusExt, path::Path, process::Stdio, sync::Arc};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Release, Shared};

pub(super) async fn run(shared: Arc<Shared>, id: String) {
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
