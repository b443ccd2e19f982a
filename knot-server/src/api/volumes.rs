//! Volumes: storage that outlives the stops of its space.

use axum::{Json, extract::State};
use knot_core::model::{self, VolumeStatus};

use super::{
    app::App,
    caller::Caller,
    causality::{Answer, recent},
    permit,
    types::{Volume, Volumes},
    world::{World, server_id},
};

/// Lists the volumes of the spaces that the caller may see.
#[utoipa::path(get, path = "/volumes", tag = "volumes", responses((status = 200, body = Volumes)))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Volumes>> {
    let world = World::new(&app);
    let mut volumes: Vec<Volume> = app
        .replica
        .list::<model::Volume>()
        .iter()
        .filter_map(|volume| {
            let space = world.space(volume.space)?;
            permit::space(&caller, space).then_some(())?;
            let home = space.placement.server;
            let status: Option<VolumeStatus> = app.replica.observed(volume.id(), home);
            let (state, engine_id) = match status {
                None => ("wanted", None),
                Some(VolumeStatus { engine_id: None }) => ("removed", None),
                Some(VolumeStatus { engine_id }) => ("present", engine_id),
            };
            let template = app.replica.get(space.template);
            let path = template.and_then(|template| template.volumes.get(&volume.name).cloned());
            let server = app.replica.get(server_id(home));
            Some(Volume {
                id: volume.id().to_string(),
                name: volume.name.clone(),
                space: world.space_name(space).to_owned(),
                space_id: space.id().to_string(),
                path: path.unwrap_or_default(),
                platform: volume.platform.clone(),
                state: state.to_owned(),
                engine_id: engine_id.unwrap_or_default(),
                server: server.map_or_else(|| home.to_string(), |server| server.name.clone()),
            })
        })
        .collect();
    volumes.sort_by(|a, b| (&a.space, &a.name, &a.id).cmp(&(&b.space, &b.name, &b.id)));
    let token = recent::<model::Volume>(&app.replica, |id| {
        volumes.iter().any(|volume| volume.id == id.to_string())
    });
    caller.answer(Json(Volumes { volumes }), &token)
}
