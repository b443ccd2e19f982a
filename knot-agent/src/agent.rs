//! The agent as a whole: its links, its sessions and its main command, from start to end.

use std::{
    collections::HashMap,
    io,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use knot_core::agent::{
    Command, Hello, Report, Run, SHUTDOWN_LIMIT, STARTUP_LIMIT, Startup, Watching,
};
use rand::RngExt as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{self, JoinSet},
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    activity::Activity,
    children::{Child, Children, GRACE, hang_up, in_own_group},
    enrol,
    forwards::{Forwards, Uplinks},
    intake::Intake,
    launch::Settings,
    link::{self, Dialler, Event},
    links::{Action, Input, Links},
    monitor::{self, Monitor},
    process,
    program::Surroundings,
    script::{self, Shell},
    sessions::Sessions,
};

/// Sessions and the main command have so long to end when the agent is told to: the grace for
/// hanging up, and time to send what is left.
const ENDING: Duration = GRACE.saturating_add(Duration::from_secs(2));
/// How long saying goodbye to servers may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// How many events of links may wait.
const EVENTS: usize = 16;

/// The agent could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No runtime, or no handling of signals.
    #[error("the system does not let this program run: {0}")]
    Runtime(#[source] io::Error),
    /// The agent has no key.
    #[error(transparent)]
    Enrol(#[from] enrol::Error),
    /// No UDP socket.
    #[error("no UDP socket could be opened in this space: {0}")]
    Socket(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT, and then ends in bounded time.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let Settings { launch, secret, command, mut environment } = settings;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
    // Handled, so that it is not ignored in sessions where whoever started this agent ignores it, as
    // `nohup` does: what a program handles, the programs that it starts do not inherit.
    let _hangup = signal(SignalKind::hangup()).map_err(Error::Runtime)?;
    let endpoint = link::endpoint().map_err(Error::Socket)?;
    let children = Children::default();
    let home = monitor::home(&environment);
    let intake = Intake::bind().await;
    intake.tell(&mut environment);
    let surroundings = Surroundings::new(launch.name.clone(), environment);
    let activity = Activity::new(Instant::now());
    let sessions = Sessions::new(surroundings.clone(), children.clone(), activity.clone());
    let shell = Shell { surroundings, children: children.clone() };
    let (events, incoming) = mpsc::channel(EVENTS);
    let (reports, reported) = watch::channel(Report::default());
    let (watching, watched) = watch::channel(Watching::default());
    let (startup, started) = watch::channel(Startup::default());
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let hello = Hello { space: launch.space, generation: launch.generation, version };
    tracing::info!(space = %launch.space, generation = %launch.generation, "agent started");
    let uplinks = Uplinks::default();
    let forwards = Forwards {
        watching: watched.clone(),
        uplinks: uplinks.clone(),
        activity: activity.clone(),
    };
    let linked = async {
        let key = enrol::enrol(&secret, launch.generation, &launch.servers, &endpoint).await?;
        let dialler = Dialler {
            key,
            hello,
            endpoint: endpoint.clone(),
            sessions: sessions.clone(),
            events,
            reports: reported,
            watching,
            uplinks,
        };
        match keep_links(Arc::new(dialler), launch.servers.clone(), incoming).await {}
    };
    let monitor = Monitor {
        activity,
        watching: watched,
        startup: started,
        reports,
        shell: shell.clone(),
        home,
    };

    // The first ends a startup script that still runs, the second all the rest.
    let (told, stop) = (CancellationToken::new(), CancellationToken::new());
    let work = async {
        if start_up(&shell, &launch.startup_script, &startup, &told).await {
            main_command(&command, &shell, &stop).await;
        }
    };
    let ending = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("agent ending");
        told.cancel();
        if *startup.borrow() == Startup::Done {
            shut_down(&shell, &launch.shutdown_script).await;
        }
        stop.cancel();
        sessions.end(ENDING).await;
    };
    let life = async {
        tokio::join!(ending, work);
    };
    let reaped = tokio::select! {
        () = life => Ok(()),
        reaped = children.reap() => reaped.map_err(Error::Runtime),
        failed = linked => failed,
        never = monitor.run() => match never {},
        never = intake.run(tokio::io::stderr()) => match never {},
        never = forwards.run() => match never {},
    };
    endpoint.close(quinn::VarInt::from_u32(0), b"the space is stopping");
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
    reaped
}

/// Dials, and redials, as [`Links`] decides.
async fn keep_links(
    dialler: Arc<Dialler>,
    servers: Vec<knot_core::agent::ServerAddress>,
    mut incoming: mpsc::Receiver<Event>,
) -> std::convert::Infallible {
    let mut links = Links::new(rand::rng().random());
    let mut tasks = Tasks { dialler, running: JoinSet::new(), by_task: HashMap::new() };
    let mut input = Input::Listed(None, servers);
    loop {
        for action in links.handle(input, Instant::now()) {
            tasks.act(action);
        }
        let deadline = links.deadline();
        let due = sleep_until(deadline.unwrap_or_else(Instant::now).into());
        input = tokio::select! {
            Some(event) = incoming.recv() => match event {
                Event::Linked(id, key) => Input::Linked(id, key),
                Event::Leaving(id) => Input::Leaving(id),
                Event::Wanted(count) => Input::Wanted(count),
                Event::Listed(by, servers) => Input::Listed(Some(by), servers),
            },
            Some(lost) = tasks.ended() => Input::Lost(lost),
            () = due, if deadline.is_some() => Input::Tick,
        };
    }
}

/// The tasks that hold a link each.
struct Tasks {
    dialler: Arc<Dialler>,
    running: JoinSet<()>,
    by_task: HashMap<task::Id, (Uuid, CancellationToken)>,
}

impl Tasks {
    fn act(&mut self, action: Action) {
        match action {
            Action::Dial(server) => {
                let (dialler, close) = (Arc::clone(&self.dialler), CancellationToken::new());
                let (id, closed) = (server.id, close.clone());
                let task = self.running.spawn(async move {
                    match dialler.link(&server, &closed).await {
                        Ok(()) => tracing::info!(server = %server.id, "link closed"),
                        Err(error) => {
                            tracing::warn!(server = %server.id, address = %server.address, %error,
                                "no link");
                        }
                    }
                });
                self.by_task.insert(task.id(), (id, close));
            }
            Action::Close(id) => {
                for (_, close) in self.by_task.values().filter(|(server, _)| *server == id) {
                    close.cancel();
                }
            }
        }
    }

    /// The server of the next link that has ended, also where its task has panicked.
    async fn ended(&mut self) -> Option<Uuid> {
        let task = match self.running.join_next_with_id().await? {
            Ok((task, ())) => task,
            Err(error) => error.id(),
        };
        self.by_task.remove(&task).map(|(server, _)| server)
    }
}

/// Runs the startup script, if there is one, and says how it went. Whether the rest may begin.
async fn start_up(
    shell: &Shell,
    script: &str,
    startup: &watch::Sender<Startup>,
    told: &CancellationToken,
) -> bool {
    let outcome = if script.is_empty() {
        Startup::Done
    } else {
        tracing::info!("startup script started");
        match shell.run(script, STARTUP_LIMIT, true, told).await {
            Ok(_) => Startup::Done,
            // The agent is ending: the script has neither ended nor failed.
            Err(script::Error::Cancelled) => return false,
            Err(error) => {
                tracing::error!(%error, "startup script failed");
                Startup::Failed(error.to_string())
            }
        }
    };
    let done = outcome == Startup::Done;
    startup.send_replace(outcome);
    done
}

/// Runs the shutdown script, if there is one.
async fn shut_down(shell: &Shell, script: &str) {
    if script.is_empty() {
        return;
    }
    tracing::info!("shutdown script started");
    let unbroken = CancellationToken::new();
    if let Err(error) = shell.run(script, SHUTDOWN_LIMIT, true, &unbroken).await {
        tracing::error!(%error, "shutdown script failed");
    }
}

/// Runs the space's main command, if there is one, and ends it when the agent ends.
async fn main_command(command: &[String], shell: &Shell, stop: &CancellationToken) {
    if command.is_empty() || stop.is_cancelled() {
        return;
    }
    match start_main(command, &shell.surroundings, &shell.children) {
        Ok(mut child) => {
            tracing::info!(process = child.id(), "main command started");
            let group = child.group();
            tokio::select! {
                exit = child.ended() => tracing::info!(?exit, "main command ended"),
                () = stop.cancelled() => hang_up(|| vec![group]).await,
            }
        }
        Err(error) => tracing::error!(%error, "main command not started"),
    }
}

fn start_main(
    command: &[String],
    surroundings: &Surroundings,
    children: &Children,
) -> Result<Child, process::Error> {
    let run = Run { command: Command::Program(command.to_vec()), ..Run::default() };
    let program = surroundings.resolve(&run)?;
    let mut command = process::command(&program);
    in_own_group(&mut command, Stdio::null());
    children.spawn(&mut command).map(|(child, _)| child).map_err(|cause| process::Error::Start {
        program: program.file.to_string_lossy().into_owned(),
        cause,
    })
}
