//! A world for one test: an engine, a cluster of its own on it, and a way to look behind the driver.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bollard::{
    body_full,
    query_parameters::{
        CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder,
        KillContainerOptionsBuilder, ListVolumesOptionsBuilder, RemoveImageOptions,
        RemoveVolumeOptions, TagImageOptionsBuilder, UploadToContainerOptionsBuilder,
    },
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};
use knot_core::{
    agent::{Launch, ServerAddress},
    generation::Generation,
    id::ChangeHash,
};
use knot_server::spaces::drivers::{
    Archive, Docker, Driver, Instance, Labels, Local, Manual, Mount, Nomad, NomadSettings, Owner,
    Platform, Progress, Run, StartError, VolumeSpec, Wishes,
};
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde_json::json;
use uuid::Uuid;

use crate::{nomad::Fake, podman};

pub(crate) const GRACE: Duration = Duration::from_secs(1);
const KILLED: &str = "KNOT_TEST_KILLED_SERVER";
/// Says to a server that is to be killed where the program is that was built already.
const STAND_IN: &str = "KNOT_TEST_STAND_IN";

pub(crate) struct World {
    pub(crate) platform: Platform,
    pub(crate) owner: Owner,
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) space: Uuid,
    pub(crate) volume: Uuid,
    pub(crate) engine: Option<bollard::Docker>,
    pub(crate) nomad: Option<Fake>,
    /// What this server holds.
    pub(crate) documents: Arc<Documents>,
    data: PathBuf,
    _folder: tempfile::TempDir,
}

/// What a server holds of what is wanted of the space.
#[derive(Default)]
pub(crate) struct Documents {
    /// Changes that it does not hold.
    pub(crate) missing: Mutex<HashSet<ChangeHash>>,
    /// The one that counts.
    pub(crate) newest: Mutex<Option<ChangeHash>>,
}

impl Wishes for Documents {
    fn newest(&self, _: Uuid) -> BoxFuture<'_, Option<ChangeHash>> {
        Box::pin(std::future::ready(*self.newest.lock().unwrap()))
    }

    fn holds(&self, _: Uuid, change: ChangeHash) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(!self.missing.lock().unwrap().contains(&change)))
    }
}

/// Runs a test against an engine, and takes away all that it made there.
pub(crate) fn check(platform: Platform, test: impl AsyncFnOnce(&World)) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let Some(world) = World::new(platform).await else { return };
        let done = AssertUnwindSafe(test(&world)).catch_unwind().await;
        world.clean_up().await;
        if let Err(panic) = done {
            resume_unwind(panic);
        }
    });
}

impl World {
    async fn new(platform: Platform) -> Option<Self> {
        let owner = Owner { cluster: Uuid::now_v7(), home: Uuid::now_v7() };
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        let engine = match platform {
            Platform::Docker | Platform::Podman => Some(engine(platform, owner).await?),
            _ => None,
        };
        let nomad = match platform {
            Platform::Nomad => Some(Fake::start(&data, agent_bytes()).await),
            _ => None,
        };
        let documents = Arc::default();
        let address = nomad.as_ref().map(|nomad| nomad.address);
        let driver = driver(platform, owner, &data, address, &documents);
        let (space, volume) = (Uuid::now_v7(), Uuid::now_v7());
        let _folder = folder;
        Some(Self {
            platform,
            owner,
            driver,
            space,
            volume,
            engine,
            nomad,
            documents,
            data,
            _folder,
        })
    }

    /// Another server of the same cluster, on the same engine.
    pub(crate) fn other_home(&self) -> Box<dyn Driver> {
        let owner = Owner { home: Uuid::nil(), ..self.owner };
        self.driver_of(owner)
    }

    /// A server of another cluster, on the same engine.
    pub(crate) fn other_cluster(&self) -> Box<dyn Driver> {
        let cluster = Uuid::from_u128(self.owner.cluster.as_u128() ^ 1);
        let owner = Owner { cluster, ..self.owner };
        self.driver_of(owner)
    }

    /// The same server, started again.
    pub(crate) fn restarted(&self) -> Box<dyn Driver> {
        self.driver_of(self.owner)
    }

    fn driver_of(&self, owner: Owner) -> Box<dyn Driver> {
        let address = self.nomad.as_ref().map(|nomad| nomad.address);
        driver(self.platform, owner, &self.data, address, &self.documents)
    }

    /// The fake Nomad.
    pub(crate) fn nomad(&self) -> &Fake {
        self.nomad.as_ref().unwrap()
    }

    pub(crate) fn run(&self, n: u64) -> Run {
        Run {
            launch: Launch {
                space: self.space,
                name: "Data Lab".to_owned(),
                generation: Generation { term: 1, n },
                key: String::new(),
                servers: vec![ServerAddress {
                    id: self.owner.home,
                    zone: String::new(),
                    address: ([127, 0, 0, 1], 1).into(),
                    keys: vec![],
                }],
                ..Launch::default()
            },
            revision: "first".to_owned(),
            image: image(self.platform, self.owner),
            environment: [("GREETING".to_owned(), "good morning".to_owned())].into(),
            mounts: match self.platform {
                Platform::Manual => vec![],
                _ => vec![Mount { volume: self.volume_spec(), path: "/work".to_owned() }],
            },
            ..Run::default()
        }
    }

    /// The volume of every run.
    pub(crate) fn volume_spec(&self) -> VolumeSpec {
        VolumeSpec { id: self.volume, name: "work".to_owned(), ..VolumeSpec::default() }
    }

    pub(crate) async fn start(&self, run: &Run) -> Result<Instance, StartError> {
        self.driver.start(run, &Progress::unheard()).await
    }

    pub(crate) async fn list(&self) -> Vec<Instance> {
        self.driver.list().await.unwrap()
    }

    /// The processes of a run, the agent first.
    pub(crate) async fn processes(&self, instance: &Instance) -> Vec<i32> {
        if let Some(engine) = &self.engine {
            let found = engine.inspect_container(&instance.id.0, None).await.unwrap();
            return vec![i32::try_from(found.state.unwrap().pid.unwrap()).unwrap()];
        }
        let Labels { owner, space, generation, .. } = &instance.labels;
        let mark = format!("KNOT_RUN={}/{}/{space}/{generation}", owner.cluster, owner.home);
        let mut found: Vec<i32> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter(|id| {
                let all = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
                all.split(|byte| *byte == 0).any(|one| one == mark.as_bytes())
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// The processes of an instance that runs: an engine may say so before they have become what they
    /// are to be. None where a person starts them.
    pub(crate) async fn running(&self, instance: &Instance) -> Vec<i32> {
        if self.platform == Platform::Manual {
            return Vec::new();
        }
        crate::until(async || {
            let found = self.processes(instance).await;
            (!found.is_empty()).then_some(found)
        })
        .await
    }

    /// The agent dies without being told to.
    pub(crate) async fn kill_agent(&self, instance: &Instance) {
        if let Some(engine) = &self.engine {
            let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
            engine.kill_container(&instance.id.0, Some(options)).await.unwrap();
        } else {
            let agent = self.running(instance).await[0];
            kill_process(Pid::from_raw(agent).unwrap(), Signal::KILL).unwrap();
        }
    }

    /// Writes a file where a user of the space would see the volume.
    pub(crate) async fn write_work(&self, instance: &Instance, text: &str) {
        if let Some(engine) = &self.engine {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, "file", text.as_bytes()).unwrap();
            let options = UploadToContainerOptionsBuilder::new().path("/work").build();
            let body = body_full(tar.into_inner().unwrap().into());
            engine.upload_to_container(&instance.id.0, Some(options), body).await.unwrap();
        } else {
            fs::write(self.volume_folder().unwrap().join("file"), text).unwrap();
        }
    }

    pub(crate) async fn read_work(&self, instance: &Instance) -> Option<String> {
        if let Some(engine) = &self.engine {
            let options = DownloadFromContainerOptionsBuilder::new().path("/work/file").build();
            let body = engine.download_from_container(&instance.id.0, Some(options));
            let pieces: Vec<_> = body.try_collect().await.ok()?;
            let mut tar = tar::Archive::new(std::io::Cursor::new(pieces.concat()));
            let file = tar.entries().unwrap().next()?.unwrap();
            Some(std::io::read_to_string(file).unwrap())
        } else {
            fs::read_to_string(self.volume_folder()?.join("file")).ok()
        }
    }

    pub(crate) fn home_folder(&self) -> PathBuf {
        self.data.join("spaces").join(self.space.to_string()).join("home")
    }

    /// Where the volume is on this machine.
    fn volume_folder(&self) -> Option<PathBuf> {
        match &self.nomad {
            Some(nomad) => nomad.volume(&self.volume.to_string()),
            None => Some(self.home_folder().join("work")),
        }
    }

    /// The environment of the agent.
    pub(crate) async fn environment(&self, instance: &Instance) -> HashMap<String, String> {
        let lines: Vec<String> = if let Some(engine) = &self.engine {
            let found = engine.inspect_container(&instance.id.0, None).await.unwrap();
            found.config.unwrap().env.unwrap()
        } else {
            let agent = self.running(instance).await[0];
            let all = fs::read_to_string(format!("/proc/{agent}/environ")).unwrap();
            all.split('\0').map(str::to_owned).collect()
        };
        lines
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// A server process starts the space and is killed when it reports its line number `step`.
    /// Returns that line; none if the start had ended before.
    pub(crate) fn start_in_a_server_killed_at(&self, n: u64, step: usize) -> Option<String> {
        let stand_in = self.data.join("stand-in");
        fs::write(&stand_in, agent_bytes()).unwrap();
        let order = json!({
            "platform": self.platform, "owner": self.owner, "data": self.data,
            "space": self.space, "volume": self.volume, "step": step, "n": n,
            "nomad": self.nomad.as_ref().map(|nomad| nomad.address),
        });
        let server = Command::new(std::env::current_exe().unwrap())
            .args(["killed_server", "--exact", "--nocapture", "--test-threads=1"])
            .env(KILLED, order.to_string())
            .envs([podman::variable()])
            .env(STAND_IN, &stand_in)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&server.stderr).into_owned();
        assert_eq!(server.status.code().is_none(), told.contains("KILLED AT"), "{told}");
        let line = told.lines().find_map(|line| line.split_once("KILLED AT "))?.1;
        Some(line.to_owned())
    }

    async fn clean_up(&self) {
        for driver in [self.restarted(), self.other_home(), self.other_cluster()] {
            for instance in driver.list().await.unwrap() {
                driver.stop(&instance, Duration::ZERO).await.unwrap();
            }
        }
        let Some(engine) = &self.engine else { return };
        let label = vec![format!("knot.cluster={}", self.owner.cluster)];
        let filters = HashMap::from([("label", label)]);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        for left in engine.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default() {
            engine.remove_volume(&left.name, None::<RemoveVolumeOptions>).await.unwrap();
        }
        let none = None::<RemoveImageOptions>;
        engine.remove_image(&image(self.platform, self.owner), none, None).await.unwrap();
    }
}

/// The part of a server that is killed in the middle of a start. Does nothing in a run of the suite.
pub(crate) fn killed_server() {
    let Ok(order) = std::env::var(KILLED) else { return };
    let order: serde_json::Value = serde_json::from_str(&order).unwrap();
    let get = |key: &str| order[key].clone();
    let platform = serde_json::from_value(get("platform")).unwrap();
    let owner = serde_json::from_value(get("owner")).unwrap();
    let data: PathBuf = serde_json::from_value(get("data")).unwrap();
    let (step, n) = (order["step"].as_u64().unwrap(), order["n"].as_u64().unwrap());
    let nomad = serde_json::from_value(get("nomad")).unwrap();
    let world = World {
        platform,
        owner,
        driver: driver(platform, owner, &data, nomad, &Arc::default()),
        space: serde_json::from_value(get("space")).unwrap(),
        volume: serde_json::from_value(get("volume")).unwrap(),
        engine: None,
        nomad: None,
        documents: Arc::default(),
        data,
        _folder: tempfile::tempdir().unwrap(),
    };
    let seen = Arc::new(Mutex::new(0));
    let progress = Progress::new(move |line| {
        let mut seen = seen.lock().unwrap();
        if *seen == step {
            eprintln!("KILLED AT {line}");
            kill_process(getpid(), Signal::KILL).unwrap();
        }
        *seen += 1;
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(world.driver.start(&world.run(n), &progress)).unwrap();
}

fn driver(
    platform: Platform,
    owner: Owner,
    data: &std::path::Path,
    nomad: Option<SocketAddr>,
    documents: &Arc<Documents>,
) -> Box<dyn Driver> {
    match platform {
        Platform::Manual => Box::new(Manual::new(owner, data)),
        Platform::Nomad => {
            let settings = nomad_settings(nomad.unwrap());
            let wishes = Arc::clone(documents);
            let archive = Archive::pack(agent_bytes()).unwrap();
            Box::new(Nomad::new(owner, settings, archive, wishes).unwrap())
        }
        Platform::Docker => Box::new(Docker::new(owner, None, agent_bytes())),
        Platform::Podman => Box::new(Docker::podman(owner, Some(podman::address()), agent_bytes())),
        Platform::Local => Box::new(Local::new(owner, data.to_owned(), agent_bytes())),
    }
}

/// How the suite uses the fake Nomad: it waits for a claim no longer than a test may take.
pub(crate) fn nomad_settings(address: SocketAddr) -> NomadSettings {
    rustls::crypto::ring::default_provider().install_default().ok();
    NomadSettings {
        address: format!("http://{address}/").parse().unwrap(),
        token: None,
        region: None,
        datacenters: vec!["*".to_owned()],
        namespace: "default".to_owned(),
        namespace_per_user: false,
        agent_url: format!("http://{address}"),
        release: Duration::from_secs(2),
    }
}

fn image(platform: Platform, owner: Owner) -> String {
    // Podman takes a name without a registry for one of Docker's.
    let registry = if platform == Platform::Podman { "localhost/" } else { "" };
    format!("{registry}knot-conformance-{}:1", owner.cluster)
}

/// The engine, with an empty image on it; none, and a word about it, where there is no engine.
async fn engine(platform: Platform, owner: Owner) -> Option<bollard::Docker> {
    let connect = async {
        let engine = match platform {
            Platform::Podman => {
                podman::start();
                bollard::Docker::connect_with_host(&podman::address())
            }
            _ => bollard::Docker::connect_with_local_defaults(),
        };
        engine?.negotiate_version().await
    };
    let engine = match connect.await {
        Ok(engine) => engine,
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("{platform} is wanted in CI: {why}")
        }
        Err(why) => {
            eprintln!("SKIPPED {platform}: {why}");
            return None;
        }
    };
    let image = image(platform, owner);
    let mut tar = tar::Builder::new(Vec::new());
    if platform == Platform::Podman {
        // Podman 4.3 trips over two imports of the same layer at once.
        let (mut header, text) = (tar::Header::new_gnu(), owner.cluster.to_string());
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "cluster", text.as_bytes()).unwrap();
    }
    import(&engine, platform, &image, tar.into_inner().unwrap()).await;
    Some(engine)
}

/// Makes an image of one layer, a tar archive.
pub(crate) async fn import(
    engine: &bollard::Docker,
    platform: Platform,
    image: &str,
    layer: Vec<u8>,
) {
    let (repo, tag) = image.rsplit_once(':').unwrap();
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(repo).tag(tag).build();
    let mut import =
        Box::pin(engine.create_image(Some(options), Some(body_full(layer.into())), None));
    while let Some(step) = import.next().await {
        step.unwrap();
    }
    if platform == Platform::Podman {
        // Podman 4.3 takes no notice of the tag, and calls what is imported `latest`.
        let latest = format!("{repo}:latest");
        let tagged = TagImageOptionsBuilder::new().repo(repo).tag(tag).build();
        engine.tag_image(&latest, Some(tagged)).await.unwrap();
        engine.remove_image(&latest, None::<RemoveImageOptions>, None).await.unwrap();
    }
}

/// The program that is put into every space.
pub(crate) fn agent_bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        if let Some(built) = std::env::var_os(STAND_IN) {
            return fs::read(built).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("stand-in");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let built = Command::new(rustc)
            .args([
                "--edition=2024",
                "-Ctarget-feature=+crt-static",
                "-Copt-level=s",
                "-Cstrip=symbols",
                "-o",
            ])
            .arg(&program)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drivers/stand_in.rs"))
            .status()
            .unwrap();
        assert!(built.success());
        assert!(fs::metadata(&program).unwrap().permissions().mode() & 0o111 != 0);
        fs::read(&program).unwrap()
    })
}
