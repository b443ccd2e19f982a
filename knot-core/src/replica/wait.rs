//! Whether changes are held here, and waiting until they are.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{CommitError, EditError, Replica, Token, core::Input, service};
use crate::id::{ChangeHash, DocId, ServerId};

/// How often it is looked whether a peer has become equal, and after how many looks it is asked.
const EQUAL_LOOK: Duration = Duration::from_millis(20);
const EQUAL_ASK: u32 = 50;

/// Waiting for what a token asks took too long: this server is behind what the client has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server has not yet heard of your last change: try again, or through another server")]
pub struct Behind;

impl Replica {
    /// Whether all of these changes of a document are held here, or the document is dead.
    ///
    /// # Errors
    /// The replica has been stopped.
    pub async fn holds(
        &self,
        doc: impl Into<DocId>,
        heads: &[ChangeHash],
    ) -> Result<bool, EditError> {
        let doc = doc.into();
        // Most that is asked for is what is read here already.
        let shown = self.shown.read(|index| {
            let entry = index.documents.get(&doc);
            let current =
                entry.is_some_and(|entry| heads.iter().all(|head| entry.heads.contains(head)));
            current || index.graves.contains_key(&doc)
        });
        if shown {
            return Ok(true);
        }
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |holds| {
            reply.send(holds).ok();
        });
        self.send(Input::Holds { doc, heads: heads.to_vec(), reply }).await?;
        answer.await.map_err(|_| CommitError::Stopped.into())
    }

    /// Tells a linked peer what is held here, as one fingerprint: where the two differ they reconcile,
    /// and where not they say no more. For links that may have missed something; [`crate::net`] does
    /// the same with the probes of membership.
    ///
    /// # Errors
    /// The replica has been stopped.
    pub async fn probe(&self, peer: ServerId) -> Result<(), CommitError> {
        let command = service::Command::Input(Input::Probe(peer));
        self.inputs.send(command).await.map_err(|_| CommitError::Stopped)
    }

    /// Waits until a linked peer holds exactly what is held here, as a server does that has just
    /// joined: until then it may not have heard of what everybody else knows.
    ///
    /// # Errors
    /// They were not equal within `bound`.
    pub async fn wait_until_equal(&self, peer: ServerId, bound: Duration) -> Result<(), Behind> {
        let equal = async {
            let mut looks = tokio::time::interval(EQUAL_LOOK);
            for look in 1_u32.. {
                looks.tick().await;
                if look % EQUAL_ASK == 0 {
                    self.probe(peer).await.map_err(|_| Behind)?;
                }
                let (reply, answer) = oneshot::channel();
                let reply = Box::new(move |equals| {
                    reply.send(equals).ok();
                });
                self.send(Input::Equals { peer, reply }).await.map_err(|_| Behind)?;
                if answer.await.map_err(|_| Behind)? {
                    return Ok(());
                }
            }
            Err(Behind)
        };
        tokio::time::timeout(bound, equal).await.map_err(|_| Behind)?
    }

    /// Waits until everything that a token asks for is held here, or is dead.
    ///
    /// # Errors
    /// It did not arrive within `bound`.
    pub async fn wait_for(&self, token: &Token, bound: Duration) -> Result<(), Behind> {
        let kinds: Vec<_> = token.entries().map(|(doc, _)| doc.kind).collect();
        if kinds.is_empty() {
            return Ok(());
        }
        let mut watch = self.watch(&kinds);
        let all = async {
            for (doc, heads) in token.entries() {
                while !self.holds(doc, heads).await.map_err(|_| Behind)? {
                    watch.next().await;
                }
            }
            Ok(())
        };
        tokio::time::timeout(bound, all).await.map_err(|_| Behind)?
    }
}
