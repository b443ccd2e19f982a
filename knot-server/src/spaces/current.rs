//! Which revision of a template is the current one: the merged state if it is valid, else the state
//! after the valid change that ranks highest, which is the same one on every server that holds the
//! same.

use knot_core::{
    id::ChangeHash,
    model::{self, Broken, Template},
    replica::{Doc, HistoryError, Replica},
    schema::Entity as _,
};

use super::validity;

/// How many changes are looked at for a valid one: the same number everywhere.
const LOOKED_AT: usize = 500;

/// A template's current revision.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// Its fields.
    pub(crate) template: Template,
    /// Why the merged state is not used; `None` where it is.
    pub(crate) invalid: Option<Invalid>,
}

/// A merged state that is not used.
#[derive(Clone, Debug)]
pub(crate) struct Invalid {
    /// The rules that it breaks.
    pub(crate) broken: Vec<Broken>,
    /// The change after which it was valid, and whose state is used.
    pub(crate) used: ChangeHash,
}

/// There is no current revision.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCurrent {
    /// No state of it was ever valid.
    #[error(
        "the template is invalid, and no revision of it was valid ({0}): apply its file again, mended"
    )]
    NeverValid(Broken),
    /// Its history could not be read.
    #[error("the history of the template could not be read")]
    History(#[from] HistoryError),
}

/// The current revision of a template.
///
/// # Errors
/// There is none.
pub(crate) async fn current(replica: &Replica, doc: &Doc<Template>) -> Result<Current, NoCurrent> {
    let broken = validity::broken(doc);
    let Some(first) = broken.first().cloned() else {
        return Ok(Current { template: (**doc).clone(), invalid: None });
    };
    let history = replica.history(doc.id()).await?;
    // Replaying a long history takes milliseconds.
    let found = tokio::task::spawn_blocking(move || {
        let schema = model::schema();
        history.ranked().into_iter().take(LOOKED_AT).find_map(|hash| {
            let view = history.at(&[hash], Template::KIND, &schema).ok()?;
            let template = Template::read(&view.fields);
            validity::broken(&template).is_empty().then_some((template, hash))
        })
    });
    match found.await {
        Ok(Some((template, used))) => {
            Ok(Current { template, invalid: Some(Invalid { broken, used }) })
        }
        Ok(None) => Err(NoCurrent::NeverValid(first)),
        Err(_) => Err(NoCurrent::History(HistoryError::Stopped)),
    }
}
