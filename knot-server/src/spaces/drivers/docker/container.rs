//! What a container is made of.

use std::collections::HashMap;

use bollard::{
    models::{
        ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, Mount, MountType,
        PortBinding, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::CreateContainerOptionsBuilder,
};
use bytes::Bytes;
use knot_core::model::{Port, Protocol};

use super::{
    WORK,
    failure::{self, ask, is_status},
    flavour::{Client, Flavour},
    image, volume,
};
use crate::spaces::drivers::{InstanceId, Labels, MilliCpus, Run, StartError};

const AGENT_PATH: &str = ".knot/agent";

/// What came of creating a container.
pub(super) enum Created {
    /// It is new.
    New(InstanceId),
    /// Something has its name.
    NameTaken(String),
}

pub(super) async fn create(
    client: &Client,
    run: &Run,
    labels: &Labels,
    network: &str,
) -> Result<Created, StartError> {
    let name = name(run, labels);
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    match ask(
        WORK,
        client.api.create_container(Some(options), body(client.flavour, run, labels, network)?),
    )
    .await
    {
        Ok(created) => Ok(Created::New(InstanceId(created.id))),
        Err(failure) if is_status(&failure, 409) => Ok(Created::NameTaken(name)),
        // It was there a moment ago.
        Err(failure) if is_status(&failure, 404) => Err(StartError::Image {
            image: image::full_name(&run.image),
            cause: failure::said(&failure),
        }),
        Err(failure) => Err(client.flavour.create(failure)),
    }
}

/// The network mode: what the template names, or where the agent can reach the servers.
pub(super) fn network(run: &Run) -> Result<String, StartError> {
    let refuse = |cause: &str| Err(StartError::Network { cause: cause.to_owned() });
    match (run.network.as_deref(), run.servers_are_loopback()) {
        (None, true) => Ok("host".to_owned()),
        (None, false) => Ok("default".to_owned()),
        (Some("none"), _) => refuse(
            "with network `none` the agent could not reach any server; name another in the template",
        ),
        (Some(name), _) if name.is_empty() || name.starts_with("container:") => refuse(
            "a space cannot share a container's network; name a network of the engine in the template",
        ),
        (Some(name), true) if name != "host" => refuse(&format!(
            "from network `{name}` the agent could not reach this cluster, whose servers give only \
             loopback addresses; give the servers an address that containers reach, or name no \
             network in the template"
        )),
        (Some(name), _) => Ok(name.to_owned()),
    }
}

/// The agent as the engine takes files: an archive, unpacked at the container's root.
pub(super) fn agent_tar(flavour: Flavour, agent: &[u8]) -> Result<Bytes, StartError> {
    let build = || {
        let mut tar = tar::Builder::new(Vec::with_capacity(agent.len() + 4096));
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, ".knot/", std::io::empty())?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(u64::try_from(agent.len()).unwrap_or(u64::MAX));
        tar.append_data(&mut header, AGENT_PATH, agent)?;
        tar.into_inner()
    };
    build().map(Bytes::from).map_err(|error: std::io::Error| {
        flavour.unknown("pack the agent", error.to_string()).into()
    })
}

fn name(run: &Run, labels: &Labels) -> String {
    let space = labels.space.simple().to_string();
    let short = space.get(24..).unwrap_or(&space);
    let generation = labels.generation;
    format!("knot-{}-{short}-{}-{}", run.slug(40), generation.term, generation.n)
}

fn body(
    flavour: Flavour,
    run: &Run,
    labels: &Labels,
    network: &str,
) -> Result<ContainerCreateBody, StartError> {
    let environment = run
        .full_environment(labels.owner)
        .map_err(|error| flavour.unknown("write the agent's settings", error.to_string()))?;
    Ok(ContainerCreateBody {
        image: Some(image::full_name(&run.image)),
        hostname: Some(run.slug(63)),
        entrypoint: Some(vec![format!("/{AGENT_PATH}")]),
        cmd: Some(Vec::new()),
        env: Some(environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels.to_map()),
        exposed_ports: Some(run.published.iter().map(port_key).collect()),
        stop_signal: Some("SIGTERM".to_owned()),
        host_config: Some(host_config(run, labels, network)),
        ..ContainerCreateBody::default()
    })
}

fn host_config(run: &Run, labels: &Labels, network: &str) -> HostConfig {
    let memory = run.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let volumes = run.mounts.iter().map(|mount| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume::name(labels.owner, mount.volume.id)),
        target: Some(mount.path.clone()),
        ..Mount::default()
    });
    let folders = run.folders.iter().map(|folder| Mount {
        typ: Some(MountType::BIND),
        source: Some(folder.source.clone()),
        target: Some(folder.path.clone()),
        read_only: Some(folder.read_only),
        ..Mount::default()
    });
    let (less, more): (Vec<_>, Vec<_>) =
        run.capabilities.iter().cloned().partition(|one| one.starts_with('-'));
    let less = less.iter().map(|one| one.trim_start_matches('-').to_owned());
    HostConfig {
        network_mode: Some(network.to_owned()),
        memory,
        // As much again in swap is what an engine gives if it is not told: the limit is a limit.
        memory_swap: memory,
        nano_cpus: run.cpus.map(|MilliCpus(milli)| i64::from(milli).saturating_mul(1_000_000)),
        mounts: Some(volumes.chain(folders).collect()),
        port_bindings: Some(run.published.iter().map(binding).collect()),
        cap_add: Some(more),
        cap_drop: Some(less.collect()),
        devices: Some(run.devices.iter().map(|device| device_mapping(device)).collect()),
        // Who starts a space is decided by its home, not by the engine.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "2m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

/// As engines write a port of a container.
fn port_key(port: &Port) -> String {
    let protocol = if port.protocol == Protocol::Udp { "udp" } else { "tcp" };
    format!("{}/{protocol}", port.number)
}

fn binding(port: &Port) -> (String, Option<Vec<PortBinding>>) {
    let to = port.published.map(|published| {
        vec![PortBinding { host_ip: None, host_port: Some(published.to_string()) }]
    });
    (port_key(port), to)
}

/// `/dev/a`, `/dev/a:/dev/b` or `/dev/a:/dev/b:rw`, as engines' own command lines take them.
fn device_mapping(device: &str) -> DeviceMapping {
    let mut parts = device.split(':');
    let host = parts.next().unwrap_or(device).to_owned();
    DeviceMapping {
        path_in_container: Some(parts.next().unwrap_or(&host).to_owned()),
        path_on_host: Some(host),
        cgroup_permissions: Some(parts.next().unwrap_or("rwm").to_owned()),
    }
}
