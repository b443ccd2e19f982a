//! Which Nomad this is.
//!
//! Nothing that Nomad says of itself is sure to be its own: two clusters may have one region, one
//! datacenter and, behind a balancer, one address. So whoever comes first writes a name into Nomad's own
//! state, as a variable, and everybody reads that.

use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{Api, Asked, Failure, found};

/// The variable. It is of a namespace: servers that put their spaces into different ones share nothing.
const PATH: &str = "v1/var/knot/identity";
/// The item in it.
const ITEM: &str = "id";

/// The name; `None` where this Nomad has no variables or does not let this server use them.
pub(super) async fn of(api: &Api, namespace: &str) -> Asked<Option<String>> {
    match read(api, namespace).await {
        Ok(Some(known)) => return Ok(Some(known)),
        Ok(None) => {}
        Err(failure) => return unless_refused(failure),
    }
    let body = json!({
        "Namespace": namespace, "Path": "knot/identity",
        "Items": { ITEM: Uuid::now_v7().to_string() },
    });
    // Only where there is none: of two servers that come at once one is refused, and reads the other's.
    match api.put_variable(PATH, &[("namespace", namespace), ("cas", "0")], &body).await {
        Ok(()) | Err(Failure::Raced) => {}
        Err(failure) => return unless_refused(failure),
    }
    read(api, namespace).await
}

async fn read(api: &Api, namespace: &str) -> Asked<Option<String>> {
    let variable: Option<Value> = found(api.get(PATH, &[("namespace", namespace)]).await)?;
    let item = |variable: &Value| Some(variable.get("Items")?.get(ITEM)?.as_str()?.to_owned());
    Ok(variable.as_ref().and_then(item))
}

fn unless_refused(failure: Failure) -> Asked<Option<String>> {
    match failure {
        Failure::Silent(why) => Err(Failure::Silent(why)),
        Failure::NotFound | Failure::Raced | Failure::Said(_) => {
            tracing::warn!(
                ?failure,
                "Nomad keeps no variable that says which Nomad it is: servers \
                cannot tell that they share it"
            );
            Ok(None)
        }
    }
}
