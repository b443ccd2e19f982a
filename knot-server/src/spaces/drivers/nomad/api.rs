//! Nomad's HTTP API, as much of it as spaces need: <https://developer.hashicorp.com/nomad/api-docs>.
//!
//! Nomad answers HTTP 500 for much that is no fault of its own, and says what it means in prose only:
//! that a thing is not there, that another was quicker. The prose is read here and nowhere else.

use std::time::Duration;

use reqwest::{Method, Url};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::model::{Allocation, Evaluation, JobStub, Registered};
use crate::spaces::drivers::{Error, Platform};

/// How long Nomad may take to answer a question.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a blocking query may wait for news. Nomad adds up to a sixteenth of it.
const WAIT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const MAX_ANSWER: usize = 64 << 20;
/// The most of what Nomad said that is shown.
const MAX_SAID: usize = 1_000;

/// A Nomad server, and who is asking.
pub(super) struct Api {
    http: reqwest::Client,
    address: Url,
    token: Option<String>,
    region: Option<String>,
}

/// Why a request had no useful answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer, or not in time. What was asked may or may not have been done.
    Silent(String),
    /// What was asked for is not there.
    NotFound,
    /// Another has changed the job or variable since it was read. Nothing was done.
    Raced,
    /// Nomad refused, and this is what it said.
    Said(String),
}

/// An answer, or why there is none.
pub(super) type Asked<T> = Result<T, Failure>;

/// An answer with the index that a later question can wait beyond.
pub(super) struct Indexed<T> {
    pub(super) value: T,
    pub(super) index: u64,
}

impl Api {
    pub(super) fn new(
        http: reqwest::Client,
        address: Url,
        token: Option<String>,
        region: Option<String>,
    ) -> Self {
        Self { http, address, token, region }
    }

    /// Nomad's version.
    pub(super) async fn version(&self) -> Asked<String> {
        // Needs no token, and is answered only where there is a leader.
        let _leader: Value = self.get("v1/status/leader", &[]).await?;
        let own = self.get::<Value>("v1/agent/self", &[]).await;
        let version = |own: &Value| own.pointer("/member/Tags/build")?.as_str().map(str::to_owned);
        Ok(own.ok().as_ref().and_then(version).unwrap_or_else(|| "of unknown version".to_owned()))
    }

    /// Jobs of any namespace whose id begins so, with their metadata.
    pub(super) async fn jobs(&self, prefix: &str) -> Asked<Vec<JobStub>> {
        let query = [("namespace", "*"), ("meta", "true"), ("prefix", prefix)];
        let found: Option<Vec<JobStub>> = self.get("v1/jobs", &query).await?;
        Ok(found.unwrap_or_default())
    }

    /// Allocations of any namespace of jobs whose id begins so.
    pub(super) async fn allocations_of_jobs(&self, prefix: &str) -> Asked<Vec<Allocation>> {
        let filter = format!("JobID matches \"^{prefix}\"");
        let query = [("namespace", "*"), ("filter", &filter)];
        let found: Option<Vec<Allocation>> = self.get("v1/allocations", &query).await?;
        Ok(found.unwrap_or_default())
    }

    /// All of a job, as Nomad has it.
    pub(super) async fn job(&self, namespace: &str, id: &str) -> Asked<Option<Value>> {
        found(self.get(&format!("v1/job/{id}"), &[("namespace", namespace)]).await)
    }

    /// A job's allocations. With an index, once there are newer ones than it or the wait is over.
    pub(super) async fn allocations(
        &self,
        namespace: &str,
        job: &str,
        beyond: Option<u64>,
    ) -> Asked<Indexed<Vec<Allocation>>> {
        let path = format!("v1/job/{job}/allocations");
        let (index, wait) = (beyond.unwrap_or(0).to_string(), format!("{}s", WAIT.as_secs()));
        let mut query = vec![("namespace", namespace)];
        if beyond.is_some() {
            query.extend([("index", index.as_str()), ("wait", wait.as_str())]);
        }
        let (value, index): (Option<Vec<Allocation>>, _) =
            self.read(self.request(Method::GET, &path, &query)?.timeout(ANSWER + WAIT * 2)).await?;
        Ok(Indexed { value: value.unwrap_or_default(), index })
    }

    /// What Nomad's scheduler made of a job, in no order.
    pub(super) async fn evaluations(&self, namespace: &str, job: &str) -> Asked<Vec<Evaluation>> {
        let path = format!("v1/job/{job}/evaluations");
        let found: Option<Vec<Evaluation>> = self.get(&path, &[("namespace", namespace)]).await?;
        Ok(found.unwrap_or_default())
    }

    /// Registers a job if it still has the index: 0 where it must not be there.
    pub(super) async fn register(
        &self,
        namespace: &str,
        job: &Value,
        index: u64,
    ) -> Asked<Registered> {
        let body = json!({ "Job": job, "EnforceIndex": true, "JobModifyIndex": index });
        self.send(Method::POST, "v1/jobs", &[("namespace", namespace)], &body).await
    }

    /// Removes a job for good. It has no compare-and-set: for jobs of dead spaces only.
    pub(super) async fn purge(&self, namespace: &str, job: &str) -> Asked<()> {
        let path = format!("v1/job/{job}");
        self.delete(&path, &[("namespace", namespace), ("purge", "true")]).await
    }

    /// A job of HCL as JSON, with Nomad's defaults in it.
    pub(super) async fn parse(&self, namespace: &str, hcl: &str) -> Asked<Value> {
        let body = json!({ "JobHCL": hcl, "Canonicalize": true });
        self.send(Method::POST, "v1/jobs/parse", &[("namespace", namespace)], &body).await
    }

    /// Sends a signal to a task.
    pub(super) async fn signal(
        &self,
        namespace: &str,
        allocation: &str,
        task: &str,
        signal: &str,
    ) -> Asked<()> {
        let path = format!("v1/client/allocation/{allocation}/signal");
        let body = json!({ "Signal": signal, "Task": task });
        let _: Value = self.send(Method::POST, &path, &[("namespace", namespace)], &body).await?;
        Ok(())
    }

    /// The last bytes that a task wrote to one of its outputs.
    pub(super) async fn log(
        &self,
        namespace: &str,
        allocation: &str,
        task: &str,
        output: &str,
        bytes: usize,
    ) -> Asked<Vec<u8>> {
        let path = format!("v1/client/fs/logs/{allocation}");
        let offset = bytes.to_string();
        let query = [
            ("namespace", namespace),
            ("task", task),
            ("type", output),
            ("origin", "end"),
            ("offset", &offset),
            ("plain", "true"),
        ];
        let answer = self.answer(self.request(Method::GET, &path, &query)?).await?;
        body(answer, bytes).await
    }

    /// Makes a namespace, or changes its description.
    pub(super) async fn put_namespace(&self, name: &str, description: &str) -> Asked<()> {
        let body = json!({ "Name": name, "Description": description });
        let sent = self.request(Method::POST, "v1/namespace", &[])?.json(&body);
        self.answer(sent).await.map(drop)
    }

    /// Writes a variable, if the query's `cas` allows it.
    pub(super) async fn put_variable(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Asked<()> {
        self.answer(self.request(Method::PUT, path, query)?.json(body)).await.map(drop)
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Asked<T> {
        Ok(self.read(self.request(Method::GET, path, query)?).await?.0)
    }

    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Asked<T> {
        Ok(self.read(self.request(method, path, query)?.json(body)).await?.0)
    }

    pub(super) async fn delete(&self, path: &str, query: &[(&str, &str)]) -> Asked<()> {
        self.answer(self.request(Method::DELETE, path, query)?).await.map(drop)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Asked<reqwest::RequestBuilder> {
        let url = self.address.join(path).map_err(|error| Failure::Said(error.to_string()))?;
        let mut request = self.http.request(method, url).timeout(ANSWER).query(query);
        if let Some(region) = &self.region {
            request = request.query(&[("region", region)]);
        }
        if let Some(token) = &self.token {
            request = request.header("X-Nomad-Token", token);
        }
        Ok(request)
    }

    async fn read<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Asked<(T, u64)> {
        let answer = self.answer(request).await?;
        let index = answer.headers().get("X-Nomad-Index").and_then(|index| index.to_str().ok());
        let index = index.and_then(|index| index.parse().ok()).unwrap_or(0);
        let bytes = body(answer, MAX_ANSWER).await?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Said(format!("its answer cannot be read: {error}")))?;
        Ok((value, index))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Asked<reqwest::Response> {
        let answer = request.send().await.map_err(silent)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let said = body(answer, MAX_SAID).await?;
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        Err(meaning(status, said))
    }
}

/// What an answer that is no success means.
fn meaning(status: u16, said: String) -> Failure {
    let said_small = said.to_ascii_lowercase();
    // A variable that is written with a compare-and-set answers by its status.
    if status == 409 || said_small.contains("enforcing job modify index") {
        Failure::Raced
    } else if status == 404 || (status == 500 && said_small.contains("not found")) {
        Failure::NotFound
    } else if matches!(status, 429 | 502..=504) || said_small.contains("no cluster leader") {
        Failure::Silent(format!("HTTP {status}: {said}"))
    } else {
        Failure::Said(format!("HTTP {status}: {said}"))
    }
}

/// Reads an answer's body, at most so many bytes of it.
async fn body(mut answer: reqwest::Response, most: usize) -> Asked<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < most {
        let Some(piece) = answer.chunk().await.map_err(silent)? else { break };
        bytes.extend_from_slice(&piece);
    }
    bytes.truncate(most);
    Ok(bytes)
}

fn silent(error: reqwest::Error) -> Failure {
    Failure::Silent(crate::causes::with_causes(&error.without_url()))
}

/// Makes nothing of what is not there.
pub(super) fn found<T>(asked: Asked<T>) -> Asked<Option<T>> {
    match asked {
        Ok(value) => Ok(Some(value)),
        Err(Failure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Failure {
    /// As an error of the engine that could not do `action`.
    pub(super) fn on(self, action: &'static str) -> Error {
        let platform = Platform::Nomad;
        match self {
            Self::Silent(cause) => Error::Unreachable { platform, cause },
            Self::NotFound => Error::Unknown { platform, action, cause: "not found".to_owned() },
            Self::Raced => {
                let cause = "another server changed the job at the same time".to_owned();
                Error::Unknown { platform, action, cause }
            }
            Self::Said(cause) if cause.contains("no space left on device") => {
                Error::DiskFull { platform, cause }
            }
            Self::Said(cause) => Error::Unknown { platform, action, cause },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nomad_means_is_read_from_what_it_says() {
        let means = |status, said: &str| meaning(status, said.to_owned());
        assert!(matches!(means(404, "job not found"), Failure::NotFound));
        assert!(matches!(means(500, "volume not found: knot-1"), Failure::NotFound));
        for raced in [
            "Enforcing job modify index 0: job already exists",
            "Enforcing job modify index 3: job exists with conflicting job modify index: 11",
            "Enforcing job modify index 5: job does not exist",
        ] {
            assert!(matches!(means(500, raced), Failure::Raced), "{raced}");
        }
        assert!(matches!(means(500, "No cluster leader"), Failure::Silent(_)));
        assert!(matches!(means(403, "Permission denied"), Failure::Said(_)));
    }
}
