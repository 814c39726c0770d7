//! OpenLineage run events (2-0-2): what a job read, wrote and settled, to a file or a server.
//!
//! Telling is not the job: an event that cannot be delivered is logged, and the job goes on.

use std::io::Write;
use std::time::Duration;

use reckon_batch::nightly::{Posted, Report};
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

/// A run of a job that is told of.
pub(crate) struct Run<'a> {
    settings: &'a Settings,
    job: &'static str,
    id: Uuid,
}

impl<'a> Run<'a> {
    /// Tells that a job begins.
    pub(crate) async fn start(settings: &'a Settings, job: &'static str) -> Self {
        let run = Self { settings, job, id: Uuid::now_v7() };
        run.emit("START", json!({}), &[]).await;
        run
    }

    /// Tells how a settlement ended. What was published is complete, also with unexplained drift.
    pub(crate) async fn end(&self, reports: &[Report], posted: &[Posted], result: &Result<(), Exit>) {
        match result {
            Ok(()) | Err(Exit::NothingToDo | Exit::UnexplainedDrift(_)) => {
                self.emit("COMPLETE", json!({ "reckon_settlement": settlement(reports, posted) }), reports).await;
            }
            Err(error) => {
                let message = json!({
                    "_producer": PRODUCER, "_schemaURL": ERROR_SCHEMA,
                    "message": error.to_string(), "programmingLanguage": "RUST",
                });
                self.emit("FAIL", json!({ "errorMessage": message }), &[]).await;
            }
        }
    }

    async fn emit(&self, event_type: &str, facets: Value, reports: &[Report]) {
        let Some(url) = &self.settings.lineage.url else { return };
        let event = json!({
            "eventType": event_type,
            "eventTime": jiff::Timestamp::now().to_string(),
            "producer": PRODUCER,
            "schemaURL": EVENT_SCHEMA,
            "run": { "runId": self.id, "facets": facets },
            "job": { "namespace": self.settings.lineage.namespace, "name": self.job },
            "inputs": [self.lake(reports)],
            "outputs": self.tables(),
        });
        if let Err(error) = deliver(url, &event).await {
            tracing::warn!("the lineage event {event_type} could not be delivered to {url}: {error:#}");
        }
    }

    fn lake(&self, reports: &[Report]) -> Value {
        let mut dataset = json!({ "namespace": self.settings.lake.url, "name": reckon_schemas::lake::EVENTS_TABLE });
        if let Some(version) = reports.iter().map(|report| report.lake_version).max() {
            let version = json!({
                "_producer": PRODUCER, "_schemaURL": VERSION_SCHEMA, "datasetVersion": version.to_string(),
            });
            dataset["facets"] = json!({ "version": version });
        }
        dataset
    }

    fn tables(&self) -> Value {
        let clickhouse = &self.settings.clickhouse;
        let address = clickhouse.url.split_once("://").map_or(clickhouse.url.as_str(), |(_, address)| address);
        // A password in the address stays here.
        let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
        let table = |name: &str| json!({ "namespace": format!("clickhouse://{address}"), "name": format!("{}.{name}", clickhouse.database) });
        json!(["settled_cells_raw", "drift", "settlements"].map(table))
    }
}

/// The settlement as a facet of the run.
fn settlement(reports: &[Report], posted: &[Posted]) -> Value {
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
