//! OpenLineage run events (2-0-2): what a job read, wrote and settled, to a file or a server.
//!
//! Telling is not the job: an event that cannot be delivered is logged, and the job goes on.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reckon_batch::nightly::{Outcome, Posted, Report};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::Settings;
use crate::exit::Exit;

const EVENT_SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const FACET_SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet";
const VERSION_SCHEMA: &str =
    "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet";
const ERROR_SCHEMA: &str =
    "https://openlineage.io/spec/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet";
const PRODUCER: &str = concat!("urn:reckon:", env!("CARGO_PKG_VERSION"));
const TIMEOUT: Duration = Duration::from_secs(10);

/// The section `lineage` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Lineage {
    /// Where events go: `file:///path`, to which one line of JSON is added for each, or `http(s)://…`, which gets a POST
    /// with each. Nowhere if absent.
    pub(crate) url: Option<String>,
    /// The namespace of the jobs.
    pub(crate) namespace: String,
}

impl Default for Lineage {
    fn default() -> Self {
        Self { url: None, namespace: "reckon".to_owned() }
    }
}

/// What a job reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// A table of the lake.
    Lake(&'static str),
    /// A table in ClickHouse.
    Table(&'static str),
    /// The log's topics.
    Log,
    /// The manifests beside the lake.
    Manifests,
}

/// A job that is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Its name: that of its command.
    pub(crate) name: &'static str,
    /// What it reads.
    pub(crate) reads: &'static [Data],
    /// What it writes.
    pub(crate) writes: &'static [Data],
}

/// A run of a job, which is told of where that is configured.
pub(crate) struct Run<'a> {
    settings: &'a Settings,
    job: Option<Job>,
    id: Uuid,
    /// What a nightly settled.
    settled: Mutex<Option<Outcome>>,
}

impl<'a> Run<'a> {
    /// Tells that a job begins; nothing of what is no job.
    pub(crate) async fn start(settings: &'a Settings, job: Option<Job>) -> Self {
        let run = Self { settings, job, id: Uuid::now_v7(), settled: Mutex::new(None) };
        run.emit("START", json!({})).await;
        run
    }

    /// Notes what was settled, for the event that tells of the end.
    pub(crate) fn settled(&self, outcome: &Outcome) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome.clone());
    }

    /// What was settled, tenant by tenant.
    pub(crate) fn reports(&self) -> Vec<Report> {
        self.noted(|outcome| outcome.reports.clone()).unwrap_or_default()
    }

    /// Tells how the job ended. What was published is complete, also with unexplained drift or open breaks.
    pub(crate) async fn end(&self, result: &Result<(), Exit>) {
        match result {
            Ok(()) | Err(Exit::NothingToDo | Exit::UnexplainedDrift(_) | Exit::OpenBreaks(_)) => {
                let settled = self.noted(settlement);
                self.emit("COMPLETE", settled.map_or(json!({}), |facet| json!({ "reckon_settlement": facet }))).await;
            }
            Err(error) => {
                let message = json!({
                    "_producer": PRODUCER, "_schemaURL": ERROR_SCHEMA,
                    "message": error.to_string(), "programmingLanguage": "RUST",
                });
                self.emit("FAIL", json!({ "errorMessage": message })).await;
            }
        }
    }

    fn noted<T>(&self, of: impl FnOnce(&Outcome) -> T) -> Option<T> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(of)
    }

    async fn emit(&self, event_type: &str, facets: Value) {
        let (Some(job), Some(url)) = (self.job, &self.settings.lineage.url) else { return };
        let datasets = |data: &[Data]| data.iter().flat_map(|data| self.datasets(*data)).collect::<Vec<_>>();
        let event = json!({
            "eventType": event_type,
            "eventTime": jiff::Timestamp::now().to_string(),
            "producer": PRODUCER,
            "schemaURL": EVENT_SCHEMA,
            "run": { "runId": self.id, "facets": facets },
            "job": { "namespace": self.settings.lineage.namespace, "name": job.name },
            "inputs": datasets(job.reads),
            "outputs": datasets(job.writes),
        });
        if let Err(error) = deliver(url, &event).await {
            tracing::warn!("the lineage event {event_type} could not be delivered to {url}: {error:#}");
        }
    }

    fn datasets(&self, data: Data) -> Vec<Value> {
        let dataset = |namespace: &str, name: &str| json!({ "namespace": namespace, "name": name });
        match data {
            Data::Lake(name) => vec![self.lake(dataset(&self.settings.lake.url, name))],
            Data::Manifests => vec![dataset(&self.settings.lake.url, "runs")],
            Data::Log => {
                let kafka = &self.settings.kafka;
                let namespace = format!("kafka://{}", kafka.brokers.split(',').next().unwrap_or_default());
                [&kafka.topics.events, &kafka.topics.rejected].map(|topic| dataset(&namespace, topic)).to_vec()
            }
            Data::Table(name) => {
                let clickhouse = &self.settings.clickhouse;
                let address = clickhouse.url.split_once("://").map_or(clickhouse.url.as_str(), |(_, address)| address);
                // A password in the address stays here.
                let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
                vec![dataset(&format!("clickhouse://{address}"), &format!("{}.{name}", clickhouse.database))]
            }
        }
    }

    /// With the version that was counted, if one was.
    fn lake(&self, mut dataset: Value) -> Value {
        let version = |outcome: &Outcome| outcome.reports.iter().map(|report| report.lake_version).max();
        if let Some(version) = self.noted(version).flatten() {
            let version = json!({
                "_producer": PRODUCER, "_schemaURL": VERSION_SCHEMA, "datasetVersion": version.to_string(),
            });
            dataset["facets"] = json!({ "version": version });
        }
        dataset
    }
}

/// The settlement as a facet of the run.
fn settlement(outcome: &Outcome) -> Value {
    let Outcome { reports, posted, .. } = outcome;
    let settled = |report: &Report| {
        json!({
            "tenant": report.tenant, "runId": report.run_id, "lakeVersion": report.lake_version,
            "firstDay": report.first_day, "lastDay": report.last_day, "days": report.days,
            "deliveries": report.deliveries, "events": report.events, "horizon": report.horizon,
            "explained": report.explained,
        })
    };
    let adjusted = |posted: &Posted| {
        json!({
            "tenant": posted.tenant, "period": posted.period, "runId": posted.run_id, "postedDay": posted.posted_day,
            "events": posted.events,
        })
    };
    json!({
        "_producer": PRODUCER, "_schemaURL": FACET_SCHEMA,
        "settlements": reports.iter().map(settled).collect::<Vec<_>>(),
        "adjustments": posted.iter().map(adjusted).collect::<Vec<_>>(),
    })
}

async fn deliver(url: &str, event: &Value) -> anyhow::Result<()> {
    if let Some(path) = url.strip_prefix("file://") {
        // One write for the whole line: lines of jobs that run at the same time do not mix.
        let line = format!("{event}\n");
        std::fs::File::options().create(true).append(true).open(path)?.write_all(line.as_bytes())?;
        return Ok(());
    }
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    client.post(url).json(event).send().await?.error_for_status()?;
    Ok(())
}
