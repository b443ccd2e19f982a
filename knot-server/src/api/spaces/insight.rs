//! What the home of a space has and other servers have not: its logs, and what it takes up.

#![allow(unused_qualifications, reason = "of what utoipa makes of a handler with a query")]

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderName, header},
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use knot_core::{
    generation::Generation,
    model,
    names::For,
    replica::Doc,
    wire::{self, MAX_PEER_FRAME},
};
use serde::Deserialize;
use tokio::{
    io::AsyncReadExt as _,
    time::{Duration, timeout},
};
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};

use crate::{
    api::{
        app::{AgentReader, App, ReachError},
        caller::{Asked, Caller, Key},
        permit::Use,
        problem::{Code, Problem},
        types::{SpaceUsage, Start, Starts, UsageSample},
        world::World,
    },
    spaces::{
        answers::{self, Answer, Question},
        logs::Kind,
        usage::Sample,
    },
};

/// How long a home may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How much of a log a page shows, in bytes: more than a home keeps.
const MAX_SHOWN: u64 = 1 << 20;
/// Says which generation a log is of.
const GENERATION: HeaderName = HeaderName::from_static("knot-generation");

/// Which log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of which generation, such as `1.3`; the newest if left out.
    generation: Option<String>,
    /// What was done to bring it up (`provision`), or what its container wrote (`container`, if left
    /// out).
    #[serde(default)]
    kind: LogKind,
    /// Whether to go on for as long as more may come.
    #[serde(default)]
    follow: bool,
}

/// Which log.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogKind {
    /// What was done to bring the space up.
    Provision,
    /// What its container wrote.
    #[default]
    Container,
}

/// Sends a log of a space, as text. The header `knot-generation` says of which generation it is.
#[utoipa::path(
    get, path = "/spaces/{space}/logs", tag = "spaces",
    responses((status = 200, body = String, content_type = "text/plain")),
    params(("space" = String, Path, description = "Its name or id."), Wanted)
)]
pub(crate) async fn logs(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Asked(wanted): Asked<Wanted>,
) -> Result<Response, Problem> {
    let space = World::new(&app).find(&caller, &key, For::Reading)?;
    let generation = wanted.generation.map(|text| text.parse::<Generation>()).transpose();
    let generation =
        generation.map_err(|error| Problem::new(Code::MalformedRequest, error.to_string()))?;
    let kind = match wanted.kind {
        LogKind::Provision => Kind::Provision,
        LogKind::Container => Kind::Container,
    };
    let question =
        Question::Logs { space: space.id().uuid(), generation, kind, follow: wanted.follow };
    let (answer, reader) = ask(&app, &space, question).await?;
    let Answer::Text(generation) = answer else { return Err(Problem::internal()) };
    let ended = async move {
        tokio::select! {
            () = app.drain.cancelled() => {}
            () = caller.sees_no_more(&app, space.id()) => {}
        }
    };
    let text = ReaderStream::new(reader).take_until(ended);
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (GENERATION, generation.to_string()),
    ];
    Ok((headers, Body::from_stream(text)).into_response())
}

/// Sends the line for a shell that starts the agent of a space which a person has to start: platform
/// `manual`. It is secret: the agent's key is in it.
#[utoipa::path(
    get, path = "/spaces/{space}/launch", tag = "spaces",
    responses((status = 200, body = String, content_type = "text/plain")),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(crate) async fn launch(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Response, Problem> {
    let space = World::new(&app).find_to(&caller, &key, Use::Edit)?;
    let (answer, reader) = ask(&app, &space, Question::Launch(space.id().uuid())).await?;
    let Answer::Text(generation) = answer else { return Err(Problem::internal()) };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (GENERATION, generation.to_string()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(reader))).into_response())
}

/// Shows what a space takes up now, and did over the last day, minute by minute.
#[utoipa::path(
    get, path = "/spaces/{space}/usage", tag = "spaces", responses((status = 200, body = SpaceUsage)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(crate) async fn usage(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Json<SpaceUsage>, Problem> {
    let space = World::new(&app).find(&caller, &key, For::Reading)?;
    usage_of(&app, &space).await.map(Json)
}

/// Lists the starts of a space that its home keeps logs of.
#[utoipa::path(
    get, path = "/spaces/{space}/starts", tag = "spaces", responses((status = 200, body = Starts)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(crate) async fn starts(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Json<Starts>, Problem> {
    let space = World::new(&app).find(&caller, &key, For::Reading)?;
    starts_of(&app, &space).await.map(|starts| Json(Starts { starts }))
}

/// The starts of a space that there are logs of, by its home, newest first.
pub(crate) async fn starts_of(app: &App, space: &Doc<model::Space>) -> Result<Vec<Start>, Problem> {
    let (answer, _) = ask(app, space, Question::Starts(space.id().uuid())).await?;
    let Answer::Starts(starts) = answer else { return Err(Problem::internal()) };
    let show = |start: answers::Start| Start {
        generation: start.generation.to_string(),
        provision: start.provision,
        container: start.container,
    };
    Ok(starts.into_iter().map(show).collect())
}

/// What a space takes up, by its home.
pub(crate) async fn usage_of(app: &App, space: &Doc<model::Space>) -> Result<SpaceUsage, Problem> {
    let (answer, _) = ask(app, space, Question::Usage(space.id().uuid())).await?;
    let Answer::Usage(now, day) = answer else { return Err(Problem::internal()) };
    let now = now.map(|usage| show(Sample { at: knot_core::clock::Millis::now(), usage }));
    Ok(SpaceUsage { now, day: day.into_iter().map(show).collect() })
}

/// The log of the newest start, and which that was.
pub(crate) async fn provision_log(
    app: &App,
    space: &Doc<model::Space>,
) -> Result<(String, String), Problem> {
    let (id, kind) = (space.id().uuid(), Kind::Provision);
    let question = Question::Logs { space: id, generation: None, kind, follow: false };
    let (answer, reader) = ask(app, space, question).await?;
    let Answer::Text(generation) = answer else { return Err(Problem::internal()) };
    let mut log = Vec::new();
    let read = timeout(ANSWER, reader.take(MAX_SHOWN).read_to_end(&mut log)).await;
    if !matches!(read, Ok(Ok(_))) {
        let detail = "its home has not sent all of the log: try again";
        return Err(Problem::new(Code::NoAgent, detail));
    }
    Ok((generation.to_string(), String::from_utf8_lossy(&log).into_owned()))
}

fn show(Sample { at, usage }: Sample) -> UsageSample {
    UsageSample {
        at: at.to_string(),
        millicpus: usage.millicpus,
        memory: usage.memory,
        disk: usage.disk,
    }
}

/// Asks the home of a space, and reads how its answer begins.
async fn ask(
    app: &App,
    space: &Doc<model::Space>,
    question: Question,
) -> Result<(Answer, AgentReader), Problem> {
    let problem = |error: &ReachError| {
        let why = match error {
            ReachError::NoAgent { why } => why.clone(),
            error => error.to_string(),
        };
        Problem::new(Code::NoAgent, format!("what is asked for is with the space's home: {why}"))
    };
    let asked = async {
        let mut reader = app.reach.ask(space.placement.server, question).await?;
        match wire::read_frame(&mut reader, MAX_PEER_FRAME).await {
            Ok(Some(answer)) => Ok((answer, reader)),
            Ok(None) => Err(ReachError::Failed("its home has ended the answer".to_owned())),
            Err(error) => Err(ReachError::Failed(error.to_string())),
        }
    };
    let late = || Err(ReachError::Failed("its home did not answer in time".to_owned()));
    let asked = timeout(ANSWER, asked).await.unwrap_or_else(|_| late());
    match asked.map_err(|error| problem(&error))? {
        (Answer::Missing(why), _) => Err(Problem::new(Code::NotFound, why)),
        answer => Ok(answer),
    }
}
