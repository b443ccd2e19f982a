//! What servers observe of a subject: records, which are stored, and presence, which is not.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{EditError, Replica, core::Input};
use crate::{
    id::{DocId, ServerId},
    wire,
};

impl Replica {
    /// Writes this server's record about a subject, which replaces the one before.
    ///
    /// # Errors
    /// The record could not be encoded or committed.
    pub async fn observe<T: Serialize>(
        &self,
        subject: impl Into<DocId>,
        value: &T,
    ) -> Result<(), EditError> {
        let (subject, value) = (subject.into(), Some(encode(value)?));
        self.ask(|reply| Input::Observe { subject, value, reply }).await.map(drop)
    }

    /// What a server observed of a subject, as last heard.
    pub fn observed<T: DeserializeOwned>(
        &self,
        subject: impl Into<DocId>,
        by: ServerId,
    ) -> Option<T> {
        let key = (subject.into(), by);
        let value = self.shown.read(|index| index.records.get(&key)?.value.clone())?;
        wire::decode(&value).ok()
    }

    /// What each server observed of a subject, as last heard; what cannot be read is left out.
    pub fn all_observed<T: DeserializeOwned>(
        &self,
        subject: impl Into<DocId>,
    ) -> Vec<(ServerId, T)> {
        let subject = subject.into();
        let (first, last) = ((subject, ServerId(Uuid::nil())), (subject, ServerId(Uuid::max())));
        let records: Vec<_> = self.shown.read(|index| {
            let records = index.records.range(first..=last);
            records.map(|((_, server), record)| (*server, record.value.clone())).collect()
        });
        let read = |(server, value): (ServerId, Option<Bytes>)| {
            Some((server, wire::decode(&value?).ok()?))
        };
        records.into_iter().filter_map(read).collect()
    }

    /// Says what this server observes now, to the servers it is linked to; `None` takes it back. It
    /// is never stored, and forgotten by a server that loses its link to this one.
    ///
    /// # Errors
    /// The value could not be encoded, or the replica has been stopped.
    pub async fn present<T: Serialize>(
        &self,
        subject: impl Into<DocId>,
        value: Option<&T>,
    ) -> Result<(), EditError> {
        let value = value.map(encode).transpose()?;
        let input = Input::Present { subject: subject.into(), value };
        self.send(input).await
    }

    /// What the linked servers, this one included, say they observe of a subject now.
    pub fn presence<T: DeserializeOwned>(&self, subject: impl Into<DocId>) -> Vec<(ServerId, T)> {
        let subject = subject.into();
        let first = (subject, ServerId(Uuid::nil()));
        let last = (subject, ServerId(Uuid::max()));
        self.shown.read(|index| {
            let records = index.presence.range(first..=last);
            records
                .filter_map(|((_, server), record)| {
                    Some((*server, wire::decode(record.value.as_ref()?).ok()?))
                })
                .collect()
        })
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, EditError> {
    wire::encode(value).map(Bytes::from).map_err(|error| EditError::Refused(error.to_string()))
}
