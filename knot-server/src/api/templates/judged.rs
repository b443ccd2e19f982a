//! What is known of each template's current revision, so that a list need not judge all of them
//! again. Where a merge is invalid, the revision that is used is looked for in the background.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use knot_core::{
    id::ChangeHash,
    model::{Broken, Template},
    replica::{Changed, Doc, Replica},
    schema::Entity as _,
};
use tokio::{sync::watch, task::AbortHandle};
use uuid::Uuid;

use crate::spaces::{current, validity};

type Known = Arc<Mutex<BTreeMap<Uuid, Arc<Judgement>>>>;

/// What is known of one template as it stands with these heads.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    heads: Vec<ChangeHash>,
    /// The current revision; `None` where there is none, or it is still being looked for.
    pub(crate) revision: Option<String>,
    /// The rules that the merged state breaks.
    pub(crate) broken: Vec<Broken>,
    /// The change whose state is used instead, where it is known and there is one.
    pub(crate) used: Option<ChangeHash>,
}

/// The judgements; follows what changes until it is dropped.
#[derive(Debug)]
pub(crate) struct Judged {
    known: Known,
    settled: watch::Receiver<u64>,
    follower: AbortHandle,
}

impl Judged {
    /// Follows the templates of a replica. Must be called within a tokio runtime.
    pub(crate) fn start(replica: Replica) -> Self {
        let known = Known::default();
        let (told, settled) = watch::channel(0);
        let follower = tokio::spawn(follow(replica, Arc::clone(&known), told)).abort_handle();
        Self { known, settled, follower }
    }

    /// Changes whenever the revision that is used in place of an invalid merge has been found.
    pub(crate) fn settled(&self) -> watch::Receiver<u64> {
        self.settled.clone()
    }

    /// What is known of a template as it stands.
    pub(crate) fn of(&self, doc: &Doc<Template>) -> Arc<Judgement> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(judgement) = known.get(&doc.id().uuid())
            && judgement.heads == doc.heads()
        {
            return Arc::clone(judgement);
        }
        let judgement = Arc::new(judge(doc));
        known.insert(doc.id().uuid(), Arc::clone(&judgement));
        judgement
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn judge(doc: &Doc<Template>) -> Judgement {
    let broken = validity::broken(doc);
    let revision = broken.is_empty().then(|| doc.revision());
    Judgement { heads: doc.heads().to_vec(), revision, broken, used: None }
}

async fn follow(replica: Replica, known: Known, told: watch::Sender<u64>) {
    let mut changes = replica.watch(&[Template::KIND]);
    for doc in replica.list::<Template>() {
        settle(&replica, &known, &told, &doc).await;
    }
    loop {
        if let Changed::Document(id) = changes.next().await {
            match replica.get::<Template>(knot_core::id::Id::from_uuid(id.uuid)) {
                Some(doc) => settle(&replica, &known, &told, &doc).await,
                None => drop(known.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.uuid)),
            }
        }
    }
}

/// Finds the revision that is used in place of an invalid merge.
async fn settle(replica: &Replica, known: &Known, told: &watch::Sender<u64>, doc: &Doc<Template>) {
    let mut judgement = judge(doc);
    if judgement.broken.is_empty() {
        return;
    }
    match current::current(replica, doc).await {
        Ok(current) => {
            judgement.revision = Some(current.template.revision());
            judgement.used = current.invalid.map(|invalid| invalid.used);
        }
        Err(error) => tracing::warn!(template = %doc.id(), %error, "a template has no revision"),
    }
    known
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(doc.id().uuid(), Arc::new(judgement));
    told.send_modify(|number| *number += 1);
}
