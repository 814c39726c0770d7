//! Grafana's JSON data source (the plugin `simpod-json-datasource`), under `/v1/grafana`: the same questions, answered
//! in the shapes that Grafana draws. A table also carries what a line cannot: method, error bound and state.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use reckon_schemas::catalog::{Measure, Tenant};
use reckon_schemas::window::Grain;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{OpenApi, ToSchema};

use super::App;
use crate::access::Reader;
use crate::answer::{Answer, Group, Number, Value};
use crate::problem::Problem;
use crate::query::params::Query;

/// The most questions of a panel.
const TARGETS_MAX: usize = 20;
/// Grafana asks for values of dimensions that occurred in the last days.
const VALUES_OF_DAYS: i64 = 7;

#[derive(OpenApi)]
#[openapi(
    paths(test_connection, metrics, query, variable, tag_keys, tag_values),
    tags((name = "grafana", description = "The same numbers for Grafana's JSON data source, whose address is /v1/grafana"))
)]
pub(super) struct Description;

type Body<T> = Result<Json<T>, JsonRejection>;

/// What a panel asks for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PanelQuery {
    range: PanelRange,
    /// The width of a point on the screen, in milliseconds: decides about the grain where a target does not.
    #[serde(default)]
    interval_ms: u64,
    targets: Vec<Target>,
    /// Filters of the whole dashboard.
    #[serde(default)]
    adhoc_filters: Vec<AdhocFilter>,
}

/// The time that the panel shows.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PanelRange {
    from: String,
    to: String,
}

/// One question of a panel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Target {
    /// The metric.
    target: String,
    #[serde(default)]
    ref_id: String,
    #[serde(default)]
    hide: bool,
    #[serde(default)]
    payload: Option<Payload>,
}

/// What the editor of a question lets people choose.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Payload {
    /// A grain; by the width of a point if it is empty.
    grain: String,
    /// Dimensions to group by, separated by commas.
    by: String,
    /// `dimension:value`, separated by commas.
    filter: String,
    /// `timeseries` (the default) or `table`.
    format: String,
}

/// A filter of the dashboard; only `=` is understood.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AdhocFilter {
    key: String,
    operator: String,
    value: String,
}

/// What dashboards' variables and filters ask for.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TagKey {
    key: String,
}

/// What a variable of a dashboard asks for: the values of a dimension.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Variable {
    payload: VariablePayload,
}

/// The dimension of a variable.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct VariablePayload {
    target: String,
}

/// A line, or a table.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Frame {
    /// `[value, milliseconds]` in order. Grafana draws floating point numbers; the exact ones are in tables, as text.
    #[serde(rename_all = "camelCase")]
    Line {
        target: String,
        ref_id: String,
        #[schema(value_type = Vec<Vec<f64>>)]
        datapoints: Vec<(f64, i64)>,
    },
    /// One row a window and group.
    #[serde(rename_all = "camelCase")]
    Table {
        #[serde(rename = "type")]
        kind: &'static str,
        ref_id: String,
        columns: Vec<serde_json::Value>,
        rows: Vec<Vec<serde_json::Value>>,
    },
}

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/v1/grafana", get(test_connection))
        .route("/v1/grafana/", get(test_connection))
        .route("/v1/grafana/metrics", post(metrics))
        .route("/v1/grafana/query", post(query))
        .route("/v1/grafana/variable", post(variable))
        .route("/v1/grafana/tag-keys", post(tag_keys))
        .route("/v1/grafana/tag-values", post(tag_values))
}

/// Whether the data source can be used with this key.
#[utoipa::path(get, path = "/v1/grafana", tag = "grafana", security(("read_key" = [])),
    responses(
        (status = 200, description = "It can"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn test_connection(_reader: Reader) -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// The metrics to choose from, and what else a question may say.
#[utoipa::path(post, path = "/v1/grafana/metrics", tag = "grafana", security(("read_key" = [])),
    responses(
        (status = 200, description = "Metrics", body = Vec<serde_json::Value>),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn metrics(reader: Reader) -> Json<Vec<serde_json::Value>> {
    let tenant = &reader.0;
    let select = |label: &str, name: &str, values: Vec<String>| {
        let options: Vec<_> = values.iter().map(|value| json!({ "label": value, "value": value })).collect();
        json!({ "label": label, "name": name, "type": "select", "options": options })
    };
    let rollups = tenant.counted_rollups().iter().map(ToString::to_string).filter(|name| name != "total").collect();
    let grains = Grain::ALL.iter().map(|grain| grain.name().to_owned()).collect();
    let payloads = json!([
        select("Grain", "grain", grains),
        select("Group by", "by", rollups),
        { "label": "Filter", "name": "filter", "type": "input", "placeholder": "dimension:value, dimension:value" },
        select("Format", "format", vec!["timeseries".to_owned(), "table".to_owned()]),
    ]);
    let has_windows = tenant.metrics.iter().filter(|metric| metric.measure != Measure::ActiveUsers);
    let metric = |name: &String| json!({ "label": name, "value": name, "payloads": payloads });
    Json(has_windows.map(|metric_| metric(&metric_.name)).collect())
}

/// Answers the questions of a panel.
#[utoipa::path(post, path = "/v1/grafana/query", tag = "grafana", security(("read_key" = [])), request_body = PanelQuery,
    responses(
        (status = 200, description = "Lines and tables", body = Vec<Frame>),
        (status = 400, description = "The question cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such metric", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be answered", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Over quota; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store of settled numbers is away; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn query(
    State(app): State<App>,
    reader: Reader,
    body: Body<PanelQuery>,
) -> Result<Json<Vec<Frame>>, Problem> {
    let panel = read(body)?;
    if panel.targets.len() > TARGETS_MAX {
        return Err(Problem::unreadable_query(format!("more than {TARGETS_MAX} targets")));
    }
    let mut frames = Vec::new();
    for target in panel.targets.iter().filter(|target| !target.hide && !target.target.is_empty()) {
        let query = question(target, &panel)?;
        let answer = app.evaluator.answer(&query, &reader.0, Timestamp::now()).await?;
        match target.payload.as_ref().map_or("", |payload| payload.format.as_str()) {
            "table" => frames.push(table(target, &answer)),
            _ => frames.extend(answer.groups.iter().map(|group| line(target, group))),
        }
    }
    Ok(Json(frames))
}

/// The values of a dimension, for a dashboard's variable.
#[utoipa::path(post, path = "/v1/grafana/variable", tag = "grafana", security(("read_key" = [])), request_body = Variable,
    responses(
        (status = 200, description = "Values of the last 7 days", body = Vec<serde_json::Value>),
        (status = 400, description = "The request cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such dimension", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn variable(
    State(app): State<App>,
    reader: Reader,
    body: Body<Variable>,
) -> Result<Json<Vec<serde_json::Value>>, Problem> {
    let dimension = read(body)?.payload.target;
    let values = values_of(&app, &reader.0, &dimension).await?;
    Ok(Json(values.iter().map(|value| json!({ "__text": value, "__value": value })).collect()))
}

/// The dimensions that a dashboard can be filtered by.
#[utoipa::path(post, path = "/v1/grafana/tag-keys", tag = "grafana", security(("read_key" = [])),
    responses(
        (status = 200, description = "Dimensions", body = Vec<serde_json::Value>),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn tag_keys(reader: Reader) -> Json<Vec<serde_json::Value>> {
    let keys = dimensions(&reader.0);
    Json(keys.iter().map(|key| json!({ "type": "string", "text": key })).collect())
}

/// The values of one of them.
#[utoipa::path(post, path = "/v1/grafana/tag-values", tag = "grafana", security(("read_key" = [])), request_body = TagKey,
    responses(
        (status = 200, description = "Values of the last 7 days", body = Vec<serde_json::Value>),
        (status = 400, description = "The request cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such dimension", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn tag_values(
    State(app): State<App>,
    reader: Reader,
    body: Body<TagKey>,
) -> Result<Json<Vec<serde_json::Value>>, Problem> {
    let values = values_of(&app, &reader.0, &read(body)?.key).await?;
    Ok(Json(values.iter().map(|value| json!({ "text": value })).collect()))
}

fn read<T>(body: Body<T>) -> Result<T, Problem> {
    let Json(body) = body.map_err(|rejection| Problem::unreadable_query(rejection.body_text()))?;
    Ok(body)
}

/// The question in the words of `GET /v1/query`, so that there is one reading of it.
fn question(target: &Target, panel: &PanelQuery) -> Result<Query, Problem> {
    let nothing = Payload::default();
    let payload = target.payload.as_ref().unwrap_or(&nothing);
    let grain = if payload.grain.is_empty() { grain_of(panel.interval_ms).name() } else { &payload.grain };
    let mut pairs = vec![
        ("metric".to_owned(), target.target.clone()),
        ("from".to_owned(), panel.range.from.clone()),
        ("to".to_owned(), panel.range.to.clone()),
        ("grain".to_owned(), grain.to_owned()),
        ("by".to_owned(), payload.by.clone()),
    ];
    let filters = payload.filter.split(',').map(str::trim).filter(|filter| !filter.is_empty());
    pairs.extend(filters.map(|filter| ("filter".to_owned(), filter.to_owned())));
    for AdhocFilter { key, operator, value } in &panel.adhoc_filters {
        if operator != "=" {
            return Err(Problem::not_answerable("filter", format!("`{key} {operator} …`: only `=` is understood")));
        }
        pairs.push(("filter".to_owned(), format!("{key}:{value}")));
    }
    Query::parse(&pairs)
}

/// The finest grain of which a window is as wide as a point.
fn grain_of(interval_ms: u64) -> Grain {
    match interval_ms {
        0..=60_000 => Grain::Minute,
        60_001..=300_000 => Grain::FiveMinutes,
        300_001..=3_600_000 => Grain::Hour,
        _ => Grain::Day,
    }
}

fn dimensions(tenant: &Tenant) -> BTreeSet<String> {
    let rollups = tenant.counted_rollups();
    rollups.iter().flat_map(|rollup| rollup.dimensions().iter().map(ToString::to_string)).collect()
}

/// What occurred lately, by the first metric that counts: the largest first.
async fn values_of(app: &App, tenant: &Tenant, dimension: &str) -> Result<Vec<String>, Problem> {
    let counted = tenant.metrics.iter().find(|metric| metric.measure == Measure::Count);
    let counted = counted.ok_or_else(|| Problem::not_found("no metric of this tenant counts events"))?;
    let now = Timestamp::now();
    let from = now - jiff::SignedDuration::from_hours(24 * VALUES_OF_DAYS);
    let pairs = [("metric", counted.name.clone()), ("from", from.to_string()), ("to", now.to_string())];
    let pairs = pairs.into_iter().chain([("grain", "1d".to_owned()), ("by", dimension.to_owned())]);
    let pairs: Vec<(String, String)> = pairs.map(|(name, value)| (name.to_owned(), value)).collect();
    let answer = app.evaluator.answer(&Query::parse(&pairs)?, tenant, now).await?;
    Ok(answer.groups.iter().filter_map(|group| group.dimensions.get(dimension).cloned()).collect())
}

fn line(target: &Target, group: &Group) -> Frame {
    let values: Vec<&str> = group.dimensions.values().map(String::as_str).collect();
    let name = if values.is_empty() { target.target.clone() } else { values.join(", ") };
    let datapoints = group.points.iter().map(|point| (drawn(&point.number), point.start.as_millisecond())).collect();
    Frame::Line { target: name, ref_id: target.ref_id.clone(), datapoints }
}

/// A line on a screen is no place for the last digit: that is in tables.
fn drawn(number: &Number) -> f64 {
    match &number.value {
        #[expect(clippy::cast_precision_loss, reason = "Grafana draws floating point numbers")]
        Value::Integer(value) => *value as f64,
        Value::Decimal(text) => text.parse().unwrap_or(f64::NAN),
        // As JSON it is null: a line has a hole there.
        Value::Undefined => f64::NAN,
    }
}

fn table(target: &Target, answer: &Answer) -> Frame {
    let names: Vec<&String> = answer.groups.iter().take(1).flat_map(|group| group.dimensions.keys()).collect();
    let column = |text: &str, kind: &str| json!({ "text": text, "type": kind });
    let mut columns = vec![column("time", "time")];
    columns.extend(names.iter().map(|name| column(name, "string")));
    columns.push(column(&target.target, "string"));
    columns.extend(["state", "method", "error bound", "run"].map(|name| column(name, "string")));
    let rows = answer.groups.iter().flat_map(|group| {
        group.points.iter().map(|point| {
            let number = &point.number;
            let mut row = vec![json!(point.start.as_millisecond())];
            row.extend(group.dimensions.values().map(|value| json!(value)));
            row.push(json!(number.value));
            row.extend([json!(number.state), json!(number.method), json!(number.error_bound), json!(number.run_id)]);
            row
        })
    });
    Frame::Table { kind: "table", ref_id: target.ref_id.clone(), columns, rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(text: &str) -> PanelQuery {
        serde_json::from_str(text).expect("a panel's question")
    }

    #[test]
    fn a_panel_s_question_is_one_of_ours() {
        let range = r#""range":{"from":"2026-03-07T00:00:00.000Z","to":"2026-03-08T00:00:00.000Z","raw":{}}"#;
        let panel = panel(&format!(
            r#"{{{range},"intervalMs":300000,"maxDataPoints":500,"adhocFilters":[{{"key":"store","operator":"=","value":"1"}}],
                "targets":[{{"refId":"A","target":"revenue","payload":{{"by":"department","filter":"department:A, department:B"}}}}]}}"#
        ));
        let asked = question(&panel.targets[0], &panel).expect("a question");
        let pairs = [
            ("metric", "revenue"),
            ("from", "2026-03-07T00:00:00Z"),
            ("to", "2026-03-08T00:00:00Z"),
            ("grain", "5m"),
            ("by", "department"),
            ("filter", "department:A"),
            ("filter", "department:B"),
            ("filter", "store:1"),
        ];
        let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(asked, Query::parse(&pairs).expect("a question"));
    }

    #[test]
    fn other_operators_are_refused() {
        let mut panel = panel(r#"{"range":{"from":"2026-03-07","to":"2026-03-08"},"targets":[{"target":"revenue"}]}"#);
        assert!(question(&panel.targets[0], &panel).is_ok());
        panel.adhoc_filters.push(AdhocFilter { key: "a".into(), operator: "!=".into(), value: "b".into() });
        assert_eq!(question(&panel.targets[0], &panel).expect_err("not `=`").status, 422);
    }

    #[test]
    fn points_are_as_wide_as_the_screen_shows() {
        let widths = [0, 60_000, 60_001, 3_600_000, 3_600_001];
        assert_eq!(widths.map(|ms| grain_of(ms).name()), ["1m", "1m", "5m", "1h", "1d"]);
    }
}
