//! What is set aside when a space begins anew, and is taken up again.

use std::{fs, path::PathBuf};

use knot_core::{
    id::Id,
    model::{Adopted, Desired, Observed, Placement, Space, Template, Volume, VolumeStatus},
};
use uuid::Uuid;

use crate::world::{World, world};

impl World {
    fn volume(&self, id: Id<Volume>) -> VolumeStatus {
        self.replica.observed(id, self.replica.me()).unwrap_or_default()
    }

    fn folder(&self, engine: &str) -> PathBuf {
        self.data.join("volumes").join(engine).join("data")
    }

    async fn runs(&self, space: Id<Space>, n: u64) {
        self.want(space, Desired::Running).await;
        let up = self.until(space, "it runs", |status| {
            status.state == Observed::Running && status.generation.n == n
        });
        up.await;
    }

    async fn stops(&self, space: Id<Space>) {
        self.want(space, Desired::Stopped).await;
        self.becomes(space, Observed::Stopped).await;
    }

    /// As `adopt` of the API writes it.
    async fn adopt(&self, space: Id<Space>, volume: Id<Volume>, engine: &str) {
        let emptied = self.replica.get(space).unwrap().emptied;
        let engine: Uuid = engine.parse().unwrap();
        let edit = self.replica.edit(volume, self.author, move |edit| {
            edit.set(Volume::adopted, Some(Adopted { engine, emptied }));
            Ok(())
        });
        edit.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_is_the_spaces_again_and_nothing_is_deleted_unasked() {
    let world = world(|template| {
        template.put(Template::volumes, &"work".to_owned(), "/work".to_owned());
    })
    .await;
    let space = world.space("dev", Desired::Running, &[]).await;
    let id = Volume::id_of(space, "work");
    world.becomes(space, Observed::Running).await;
    let old = world.volume(id).engine_id.unwrap();
    fs::write(world.folder(&old).join("kept"), "old").unwrap();
    world.stops(space).await;

    // It went on elsewhere with new volumes, and came back with new ones again.
    let server = world.replica.me();
    let edit = world.replica.edit(space, world.author, move |edit| {
        let placement = Placement { term: 2, server };
        edit.set(Space::placement, placement);
        edit.set(Space::emptied, placement);
        Ok(())
    });
    edit.await.unwrap();
    world.runs(space, 2).await;
    let new = world.volume(id).engine_id.unwrap();
    assert_ne!(new, old);
    assert_eq!(world.volume(id).aside, [old.clone()].into());
    let seen = world.data.join(format!("spaces/{space}/home/work/kept"));
    assert!(!seen.exists());
    fs::write(world.folder(&new).join("newer"), "new").unwrap();
    world.stops(space).await;

    // The two change places, by name and at once; the next start has the old one.
    world.adopt(space, id, &old).await;
    let swapped = world.when("they have changed places", || {
        Some(world.volume(id)).filter(|status| status.engine_id.as_ref() == Some(&old))
    });
    assert_eq!(swapped.await.aside, [new.clone()].into());
    world.runs(space, 3).await;
    assert_eq!(fs::read_to_string(&seen).unwrap(), "old");
    assert!(world.folder(&new).join("newer").exists(), "what was replaced is deleted");
    world.stops(space).await;

    // What somebody asks to have deleted goes; what is the volume now stays, though it was named too.
    let (new_named, old_named) = (new.clone(), old.clone());
    let edit = world.replica.edit(id, world.author, move |edit| {
        edit.insert(Volume::discard, &new_named);
        edit.insert(Volume::discard, &old_named);
        Ok(())
    });
    edit.await.unwrap();
    world.when("it is removed", || world.volume(id).aside.is_empty().then_some(())).await;
    assert!(!world.folder(&new).exists());
    assert_eq!(fs::read_to_string(world.folder(&old).join("kept")).unwrap(), "old");
    world.stop().await;
}
