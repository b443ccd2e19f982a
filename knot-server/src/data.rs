//! What an operator does to a data folder's documents, whether its server runs or not: bring in what
//! another folder holds, look through what a server wrote, and take a change back.

mod import;
mod look_back;

use std::path::{Path, PathBuf};

use knot_core::{
    id::{Author, ServerId},
    net::identity::Identity,
    replica::Replica,
};
use serde::{Deserialize, Serialize};

use crate::{
    causes::with_causes,
    config::Config,
    control::{self, Reply, Request},
    node::{self, standing},
};

/// What may be asked of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataRequest {
    /// Bring in what another data folder holds.
    Import {
        /// The folder: absolute, as the server sees it.
        folder: PathBuf,
    },
    /// What a server wrote on its own account.
    Changes {
        /// Its name or id; it may have been removed.
        server: String,
    },
    /// Make a document what it was before a change.
    Revert {
        /// The document: `kind/id`.
        doc: String,
        /// The change's first hex digits, 8 or more.
        before: String,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataReply {
    /// To [`DataRequest::Import`].
    Imported(Import),
    /// To [`DataRequest::Changes`].
    Changes(Changes),
    /// To [`DataRequest::Revert`].
    Reverted(Reverted),
}

/// What an import brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Documents in the other folder.
    pub documents: usize,
    /// Those of which changes came.
    pub changed: usize,
    /// Deletions that came.
    pub deleted: usize,
    /// Documents that are damaged there in part.
    pub damaged: usize,
    /// The names of servers that were removed by the deletions that came.
    pub removed: Vec<String>,
}

/// What a server wrote on its own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The server.
    pub server: ServerId,
    /// The newest, the newest first.
    pub newest: Vec<Change>,
    /// How many more there are.
    pub more: usize,
    /// Documents whose history could not be read: `kind/id`.
    pub unread: Vec<String>,
}

/// One change or deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When, by its server's clock: RFC 3339.
    pub time: String,
    /// The document: `kind/id`.
    pub doc: String,
    /// The document's name, where it has one.
    pub name: Option<String>,
    /// The change's hash; none where the document was deleted.
    pub hash: Option<String>,
    /// The first of the fields that it put.
    pub fields: Vec<String>,
    /// How many more it put.
    pub more_fields: usize,
}

/// What taking a change back did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverted {
    /// The change's whole hash.
    pub change: String,
    /// The fields that were put back; none where the document was so already.
    pub fields: Vec<String>,
    /// How many other changes that did not come before it were undone with it.
    pub others: usize,
}

/// Asks the server of a data folder or, where none runs, does it in the folder's database.
///
/// # Errors
/// It was refused or failed; for people.
pub async fn ask(config: &Config, request: DataRequest) -> Result<DataReply, String> {
    match control::ask(&config.data, &Request::Data(request.clone())).await {
        Ok(Reply::Data(reply)) => return Ok(reply),
        Ok(_) => return Err("the server gave another answer: is it of another version?".to_owned()),
        Err(control::Error::NotRunning(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    let identity = Identity::load(&config.data).map_err(|error| with_causes(&error))?;
    let (service, replica) = node::open(config, &identity).map_err(|error| with_causes(&error))?;
    let done = answer(request, &identity, &replica, &config.data).await;
    service.stop().await;
    done
}

/// Does what is asked on the database of the server of a data folder.
///
/// # Errors
/// It was refused or failed; for people.
pub(crate) async fn answer(
    request: DataRequest,
    identity: &Identity,
    replica: &Replica,
    data: &Path,
) -> Result<DataReply, String> {
    let writes = !matches!(request, DataRequest::Changes { .. });
    if writes && standing::is_noted(data) {
        return Err("this server was removed from its cluster and takes no writes: ask another \
                    server of the cluster"
            .to_owned());
    }
    match request {
        DataRequest::Import { folder } => {
            import::import(identity, replica, data, &folder).await.map(DataReply::Imported)
        }
        DataRequest::Changes { server } => {
            look_back::changes(replica, &server).await.map(DataReply::Changes)
        }
        DataRequest::Revert { doc, before } => {
            let author = Author::Server(identity.server);
            look_back::revert(replica, &doc, &before, author).await.map(DataReply::Reverted)
        }
    }
}
