//! What is applied follows from what is held: a newcomer who hears all changes of a server in
//! another order comes to hold and show the same.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use uuid::Uuid;

use super::{Failure, disk::Disk};
use crate::{
    clock::Millis,
    doc::Layering,
    id::{DocId, ServerId},
    replica::{Core, CoreInput as Input, Effects},
    schema::Schema,
    store::memory::MemoryStore,
    sync::{Answer, DocChanges, ItemKey, Message, Want},
};

/// Beyond so many changes the newcomer stays away: it would take too long, and more would wait for
/// what they depend on than may.
const MOST: usize = 512;
/// The most changes that the newcomer hears at once.
const AT_ONCE: usize = 8;

/// At rest: asks a server, as it would start from its disk, for every change, and has a newcomer
/// hear them in an order that follows from nothing but their number.
pub(super) fn joins(
    core: &Core,
    schema: &Schema,
    me: ServerId,
    disk: &Disk,
) -> Result<(), Failure> {
    let shown = core.look();
    let open = |id, store| {
        Core::open(id, schema.clone(), Box::new(store), [0; 32], Millis(0), Layering::default())
            .map_err(|error| Failure::new(error.to_string()))
    };
    let mut giver = open(me, disk.image())?;
    let keys = shown.documents.keys().map(|doc| ItemKey::document(*doc)).collect();
    let Some(mut changes) = all(&mut giver, keys) else { return Ok(()) };
    let mut rng = StdRng::seed_from_u64(u64::try_from(changes.len()).unwrap_or(0));
    changes.shuffle(&mut rng);
    let mut newcomer = open(ServerId(Uuid::nil()), MemoryStore::new())?;
    while !changes.is_empty() {
        let rest = changes.split_off(changes.len().min(rng.random_range(1..=AT_ONCE)));
        let news = Answer { changes, ..Answer::default() };
        newcomer.step(Duration::ZERO, vec![Input::Message(me, Message::News(news))]);
        changes = rest;
    }
    let heard = newcomer.look();
    let differs = |doc: &&DocId| heard.documents.get(doc) != shown.documents.get(doc);
    if let Some(doc) = shown.documents.keys().find(differs) {
        let (there, here) = (heard.documents.get(doc), shown.documents.get(doc));
        let what = format!("{doc}: {here:?} is shown, in another order it would be {there:?}");
        return Err(Failure::new(what));
    }
    Ok(())
}

/// Every change of these items, one by one; `None` where they are too many.
fn all(giver: &mut Core, mut keys: Vec<ItemKey>) -> Option<Vec<DocChanges>> {
    let mut changes: Vec<DocChanges> = Vec::new();
    while !keys.is_empty() && changes.len() <= MOST {
        let wants = keys.drain(..).map(|key| Want { key, have: Vec::new() }).collect();
        let asked = Input::Message(ServerId(Uuid::nil()), Message::Pull { number: 0, wants });
        let Effects { sends, .. } = giver.step(Duration::ZERO, vec![asked]);
        for (_, message) in sends {
            match message {
                Message::News(news) => changes.extend(news.changes.into_iter().flat_map(|one| {
                    let doc = one.doc;
                    let single = move |bytes| DocChanges { doc, changes: vec![bytes] };
                    one.changes.into_iter().map(single)
                })),
                Message::Pulled { rest, .. } => keys.extend(rest),
                _ => {}
            }
        }
    }
    (changes.len() <= MOST).then_some(changes)
}
