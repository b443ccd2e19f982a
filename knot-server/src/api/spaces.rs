//! Spaces: making them, and saying what is wanted of them. What is wanted is written here, and done
//! by the space's home.

#![allow(unused_qualifications, reason = "of what utoipa makes of a handler with a query")]

pub(super) mod edit;
pub(super) mod index;
pub(crate) mod insight;
pub(crate) mod parameters;
pub(super) mod place;
pub(super) mod rehome;
pub(crate) mod show;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use knot_core::{
    clock::Millis,
    id::{Author, ChangeHash, Id},
    model::{self, Desired, Observed, Placement, SpaceStatus, Template},
    names::For,
    replica::{Committed, Doc, Token},
    schema::Edit,
};

use super::{
    app::App,
    body::Body,
    caller::{Asked, Caller, Key},
    causality::{Answer, of_dead, of_read, recent},
    names,
    permit::{self, Use},
    problem::{Code, Problem},
    types::{CreateSpace, IDEMPOTENCY_KEY, Space, Spaces},
    world::{World, find_template_of, template_deleted},
};
use crate::{access, spaces::fill};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

type One = Answer<(StatusCode, Json<Space>)>;
type Shown = Result<One, Problem>;

/// Lists the spaces that the caller may see.
#[utoipa::path(get, path = "/spaces", tag = "spaces", responses((status = 200, body = Spaces)))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Spaces>> {
    let world = World::new(&app);
    let mut spaces: Vec<_> =
        world.spaces_of(&caller).iter().map(|space| world.show(space)).collect();
    spaces.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let token = recent(&app.replica, |id| {
        world.space(id).is_some_and(|space| permit::space(&caller, &space))
    });
    caller.answer(Json(Spaces { spaces }), &token)
}

/// Makes a space of the caller's.
#[utoipa::path(
    post, path = "/spaces", tag = "spaces", request_body = CreateSpace,
    responses((status = 201, body = Space), (status = 200, body = Space, description = "It was made before.")),
    params(("idempotency-key" = Option<String>, Header,
        description = "Makes the request safe to send again, through any server."))
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Body(wanted): Body<CreateSpace>,
) -> Shown {
    names::check(&wanted.name).map_err(|problem| problem.of_field("name"))?;
    let key = keyed(&caller, &headers)?;
    let _turn = app.names.lock().await;
    if let Some(id) = key
        && let Some(made) = made_before(&app, &caller, id)?
    {
        return Ok(made);
    }
    let template = find_template_of(&app, &caller, &wanted.template, For::Using)?;
    parameters::may_be_made(&app, &template).await?;
    let id = key.unwrap_or_else(|| Id::from_uuid(Uuid::now_v7()));
    let given = parameters::given(&app, id, &template, wanted.parameters)?;
    let seen = fill::seen(&app.replica, &template);
    let server = {
        let world = World::new(&app);
        if world.is_taken(caller.user, &wanted.name, None) {
            return Err(Problem::new(
                Code::NameTaken,
                format!("you have a space named {} already: choose another name", wanted.name),
            )
            .of_field("name"));
        }
        match (&wanted.server, key) {
            (Some(server), _) => place::chosen(&app, server, &template)
                .map_err(|problem| problem.of_field("server"))?,
            (None, Some(id)) => place::home_of(&app, id, &template)?,
            (None, None) => place::home(&app, &world, &template)?,
        }
    };
    let (owner, template_id, heads) = (caller.user, template.id(), hex(template.heads()));
    let committed = app
        .replica
        .put::<model::Space, _>(id, caller.author(), move |edit| {
            edit.set(model::Space::name, wanted.name);
            edit.set(model::Space::owner, owner);
            edit.set(model::Space::template, template_id);
            edit.set(model::Space::placement, Placement { term: 1, server });
            edit.set(model::Space::created, Millis::now());
            for (name, value) in given {
                edit.put(model::Space::parameters, &name, value);
            }
            if wanted.start {
                edit.set(model::Space::desired, Desired::Running);
                edit.set(model::Space::template_heads, heads);
                edit.set(model::Space::variables_seen, seen);
            } else {
                edit.set(model::Space::desired, Desired::Stopped);
            }
            Ok(())
        })
        .await?;
    tracing::info!(space = %committed.id, %server, user = %caller.user, "space created");
    written(&app, &caller, StatusCode::CREATED, &committed)
}

/// The id of a space whose maker sent a key, so that the request can be sent again, through whatever
/// server, and makes one space.
fn keyed(caller: &Caller, headers: &HeaderMap) -> Result<Option<Id<model::Space>>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.as_bytes();
    if key.is_empty() || key.len() > 200 {
        return Err(Problem::new(
            Code::MalformedRequest,
            "an idempotency key has 1 to 200 characters: a UUID will do",
        ));
    }
    Ok(Some(Id::of_key(&[b"space", caller.user.uuid().as_bytes(), key])))
}

/// The answer to a request that was taken before.
fn made_before(app: &App, caller: &Caller, id: Id<model::Space>) -> Result<Option<One>, Problem> {
    if app.replica.grave(id).is_some() {
        return Err(Problem::new(
            Code::NotFound,
            "the space that was made with this idempotency key has been deleted: use a new key",
        ));
    }
    let world = World::new(app);
    let Some(space) = world.space(id) else { return Ok(None) };
    if !permit::space(caller, &space) {
        return Err(Problem::new(
            Code::NotFound,
            "the space that was made with this idempotency key is another's now: use a new key",
        ));
    }
    let shown = (StatusCode::OK, Json(world.show(&space)));
    Ok(Some(caller.answer(shown, &of_read(&space))))
}

/// Shows one space.
#[utoipa::path(
    get, path = "/spaces/{space}", tag = "spaces", responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn get(State(app): State<App>, caller: Caller, Key(key): Key) -> Shown {
    let world = World::new(&app);
    if let Some(dying) = world.dying(&caller, &key) {
        return Ok(caller.answer((StatusCode::OK, Json(dying)), &Token::new()));
    }
    let space = world.find(&caller, &key, For::Reading)?;
    Ok(caller.answer((StatusCode::OK, Json(world.show(&space))), &of_read(&space)))
}

/// What for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Why {
    /// Somebody connects to it: it is started only where its template has `start_on_connect`.
    #[serde(default)]
    connecting: bool,
}

/// Wants a space to run. A space that failed is started anew.
#[utoipa::path(
    post, path = "/spaces/{space}/start", tag = "spaces", responses((status = 200, body = Space)),
    params(Why, ("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn start(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Asked(Why { connecting }): Asked<Why>,
) -> Shown {
    let space = to_change(&app, &caller, &key, Use::Run)?;
    if connecting && !access::starts_on_connect(&app.replica, &space).await {
        let name = World::new(&app).space_name(&space);
        return Err(Problem::new(
            Code::NotRunning,
            format!(
                "{name} does not run, and its template does not have it started by a connection: \
                 start it with `knot space start {name}`, or on its page"
            ),
        ));
    }
    let status = status(&app, &space);
    // Its home does nothing more about a generation that failed, until told to end it.
    let failed = status.as_ref().is_some_and(|status| status.state == Observed::Failed);
    run(&app, &caller, &space, status.filter(|_| failed)).await
}

/// As [`start`], for who comes another way.
pub(super) async fn want(app: &App, caller: &Caller, id: Id<model::Space>) -> Result<(), Problem> {
    let space = to_change(app, caller, &id.to_string(), Use::Run)?;
    want_as(app, caller.author(), &space).await
}

/// As [`start`], in the name of `author`: whether they may is asked before.
pub(super) async fn want_as(
    app: &App,
    author: Author,
    space: &Doc<model::Space>,
) -> Result<(), Problem> {
    let status = status(app, space);
    let failed = status.as_ref().is_some_and(|status| status.state == Observed::Failed);
    set_running(app, author, space, status.filter(|_| failed)).await.map(drop)
}

/// Wants the running generation of a space to be ended, and another one to run.
#[utoipa::path(
    post, path = "/spaces/{space}/restart", tag = "spaces", responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn restart(State(app): State<App>, caller: Caller, Key(key): Key) -> Shown {
    let space = to_change(&app, &caller, &key, Use::Run)?;
    run(&app, &caller, &space, status(&app, &space)).await
}

/// Wants a space not to run.
#[utoipa::path(
    post, path = "/spaces/{space}/stop", tag = "spaces", responses((status = 200, body = Space)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn stop(State(app): State<App>, caller: Caller, Key(key): Key) -> Shown {
    let space = to_change(&app, &caller, &key, Use::Run)?;
    change(&app, &caller, &space, |edit| edit.set(model::Space::desired, Desired::Stopped)).await
}

/// Deletes a space, for good.
#[utoipa::path(
    delete, path = "/spaces/{space}", tag = "spaces", responses((status = 204)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
) -> Result<Answer<StatusCode>, Problem> {
    let space = to_change(&app, &caller, &key, Use::Delete)?;
    app.replica.delete(space.id(), caller.author()).await?;
    tracing::info!(space = %space.id(), user = %caller.user, "space deleted");
    Ok(caller.answer(StatusCode::NO_CONTENT, &of_dead(space.id().into())))
}

/// The space that a caller means, to write to it.
fn to_change(
    app: &App,
    caller: &Caller,
    key: &str,
    wanted: Use,
) -> Result<Doc<model::Space>, Problem> {
    World::new(app).find_to(caller, key, wanted)
}

fn status(app: &App, space: &Doc<model::Space>) -> Option<SpaceStatus> {
    app.replica.observed(space.id(), space.placement.server)
}

/// Wants a space to run, and the generation of `ended` to end before.
async fn run(
    app: &App,
    caller: &Caller,
    space: &Doc<model::Space>,
    ended: Option<SpaceStatus>,
) -> Shown {
    let committed = set_running(app, caller.author(), space, ended).await?;
    written(app, caller, StatusCode::OK, &committed)
}

async fn set_running(
    app: &App,
    author: Author,
    space: &Doc<model::Space>,
    ended: Option<SpaceStatus>,
) -> Result<Committed<model::Space>, Problem> {
    let template: Doc<Template> =
        app.replica.get(space.template).ok_or_else(|| template_deleted(&space.name))?;
    edit::dependencies_run(app, space)?;
    let heads = hex(template.heads());
    let seen = fill::seen(&app.replica, &template);
    let edited = app.replica.edit(space.id(), author, move |edit| {
        edit.set(model::Space::desired, Desired::Running);
        edit.set(model::Space::template_heads, heads);
        edit.set(model::Space::variables_seen, seen);
        if let Some(ended) = ended {
            let newest = ended.generation.max(edit.restart);
            edit.set(model::Space::restart, newest);
        }
        Ok(())
    });
    Ok(edited.await?)
}

/// Edits a space, and answers with what it is then.
pub(super) async fn change(
    app: &App,
    caller: &Caller,
    space: &Doc<model::Space>,
    how: impl FnOnce(&mut Edit<'_, model::Space>) + Send + 'static,
) -> Shown {
    let edited = app.replica.edit(space.id(), caller.author(), move |edit| {
        how(edit);
        Ok(())
    });
    written(app, caller, StatusCode::OK, &edited.await?)
}

/// The answer to a write: the space as it is now.
fn written(
    app: &App,
    caller: &Caller,
    status: StatusCode,
    committed: &Committed<model::Space>,
) -> Shown {
    let world = World::new(app);
    let Some(space) = world.space(committed.id) else {
        return Err(Problem::not_found("space", &committed.id.to_string()));
    };
    let mut token: Token = committed.token();
    token.extend(&of_read(&space));
    Ok(caller.answer((status, Json(world.show(&space))), &token))
}

fn hex(heads: &[ChangeHash]) -> Vec<String> {
    heads.iter().map(ChangeHash::to_string).collect()
}
