//! Files of a space: SFTP over a WebSocket.

use axum::{extract::State, response::Response};
use knot_core::{agent::Open, names::For};

use super::{
    app::App,
    caller::{Caller, Key},
    exec::Upgrade,
    ports::{
        bridge::{Bridge, Kind},
        refused,
    },
    problem::{Code, Problem},
    world::World,
};
use crate::access::{self, Feature};

/// Opens a space's files: a WebSocket that carries SFTP, version 3.
///
/// Binary messages are its bytes, each way. The text message `end` says that no more come from its sender.
#[utoipa::path(
    get, path = "/spaces/{space}/files", tag = "spaces", responses((status = 101)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn files(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    Upgrade(upgrade): Upgrade,
) -> Result<Response, Problem> {
    let space = World::new(&app).find(&caller, &key, For::Using)?;
    app.stays()?;
    // Who may run commands there reads and writes its files anyway; SSH has its own way to them.
    let allowed = access::allows(&app.replica, &space, Feature::Exec).await;
    allowed.map_err(|off| Problem::new(Code::Forbidden, off.to_string()))?;
    let opened = access::ready(&*app.reach, space.id(), &Open::Sftp).await;
    let (reader, writer, _) = opened.map_err(refused)?;
    let bridge = Bridge { app, caller, space: space.id(), kind: Kind::Bytes };
    Ok(bridge.answer(upgrade, reader, writer))
}
