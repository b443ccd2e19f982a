//! What must hold after every step of every server.

use std::collections::BTreeSet;

use super::{Failure, disk::Disk};
use crate::{
    clock::Millis,
    doc::{Document, Layering},
    id::{DocId, ServerId},
    replica::Core,
    schema::Schema,
    store::Store as _,
};

/// After a step that wrote these documents: what is shown of them is what their stored changes say.
pub(super) fn touched(
    core: &Core,
    schema: &Schema,
    docs: &BTreeSet<DocId>,
    disk: &mut Disk,
) -> Result<(), Failure> {
    if !core.is_bounded() {
        return Err(Failure::new("more waits than may"));
    }
    docs.iter().try_for_each(|doc| same(core, schema, *doc, disk))
}

fn same(core: &Core, schema: &Schema, doc: DocId, disk: &mut Disk) -> Result<(), Failure> {
    let shown = core.look_at(doc);
    if core.buried(doc) && shown.is_none() {
        return Ok(());
    }
    // With the layers at rest and without.
    for whole in [true, false] {
        let stored = disk.load(doc, whole).map_err(|error| Failure::new(error.to_string()))?;
        let (stored, damaged) = Document::load(&stored, Layering::default());
        if damaged {
            continue;
        }
        let stored = (!stored.is_empty()).then(|| (stored.heads(), stored.view(doc.kind, schema)));
        if shown != stored {
            return Err(Failure::new(format!("{doc}: {shown:?} is shown, {stored:?} is stored")));
        }
    }
    Ok(())
}

/// At rest: the core is what a start from its disk would make.
pub(super) fn whole(
    core: &Core,
    schema: &Schema,
    id: ServerId,
    disk: &mut Disk,
) -> Result<(), Failure> {
    let shown = core.look();
    for doc in shown.documents.keys() {
        same(core, schema, *doc, disk)?;
    }
    let restarted = Core::open(
        id,
        schema.clone(),
        Box::new(disk.image()),
        [0; 32],
        Millis(0),
        Layering::default(),
    )
    .map_err(|error| Failure::new(error.to_string()))?
    .look();
    if shown.documents != restarted.documents || shown.graves != restarted.graves {
        let what = format!("shown is {shown:#?}, a start would show {restarted:#?}");
        return Err(Failure::new(what));
    }
    Ok(())
}
