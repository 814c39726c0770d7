//! Grafana's JSON data source (the plugin `simpod-json-datasource`), under `/v1/grafana`: the same questions, answered
//! in the shapes that Grafana draws. A table also carries what a line cannot: method, error bound and state.

mod frames;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::try_join_all;
use jiff::Timestamp;
use reckon_schemas::catalog::{Measure, Tenant};
use reckon_schemas::window::Grain;
use serde::Deserialize;
use serde_json::json;
use utoipa::{OpenApi, ToSchema};

use self::frames::{Frame, line, table};
use super::App;
use super::questions::aged;
use crate::access::Reader;
use crate::problem::Problem;
use crate::query::params::Query;
use crate::query::question::Question;

/// The most questions of a panel.
const TARGETS_MAX: usize = 20;
/// Grafana asks for values of dimensions that occurred in the last days.
const VALUES_OF_DAYS: i64 = 7;
/// The longest name of a range that moves, in bytes: `now-30d`.
const MOVING_BYTES_MAX: usize = 16;

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
    /// The same as people chose it.
    #[serde(default)]
    raw: RawRange,
}

/// The time as people chose it, such as `now-6h` to `now`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct RawRange {
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

/// The metrics to choose from, those that people saved among them, and what else a question may say.
#[utoipa::path(post, path = "/v1/grafana/metrics", tag = "grafana", security(("read_key" = [])),
    responses(
        (status = 200, description = "Metrics", body = Vec<serde_json::Value>),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn metrics(State(app): State<App>, reader: Reader) -> Json<Vec<serde_json::Value>> {
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
    let metric = |name: String| json!({ "label": name, "value": name, "payloads": payloads });
    let names = has_windows.map(|metric| metric.name.clone()).chain(app.evaluator.saved_metrics(tenant));
    Json(names.map(metric).collect())
}

/// Answers the questions of a panel. It costs one query of the quota for each of them.
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
pub(crate) async fn query(State(app): State<App>, reader: Reader, body: Body<PanelQuery>) -> Result<Response, Problem> {
    let panel = read(body)?;
    if panel.targets.len() > TARGETS_MAX {
        return Err(Problem::unreadable_query(format!("more than {TARGETS_MAX} targets")));
    }
    let targets: Vec<&Target> =
        panel.targets.iter().filter(|target| !target.hide && !target.target.is_empty()).collect();
    app.access.charge(&reader.0, targets.len().saturating_sub(1))?;
    let (range, now) = (panel.range.moving(), Timestamp::now());
    let answers = targets.iter().map(async |target| {
        let question = Question { query: question(target, &panel)?, compared: None };
        app.answers.answer_over(range.as_deref(), &question, &reader.0, now).await
    });
    let answers = try_join_all(answers).await?;
    let mut frames = Vec::new();
    for (target, answer) in targets.into_iter().zip(&answers) {
        match target.payload.as_ref().map_or("", |payload| payload.format.as_str()) {
            "table" => frames.push(table(target, answer)),
            _ => frames.extend(answer.groups.iter().map(|group| line(target, answer, group))),
        }
    }
    let age_ms = answers.iter().map(|answer| answer.age_ms).max().unwrap_or(0);
    let stale = answers.iter().filter_map(|answer| answer.stale).max_by_key(|stale| stale.age_ms);
    Ok(aged(Json(frames), age_ms, stale))
}

/// The values of a dimension, for a dashboard's variable. Headers say how old they are (`Age`), and why if they are older
/// than they should be (`Reckon-Stale`).
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
) -> Result<Response, Problem> {
    let dimension = read(body)?.payload.target;
    values_of(&app, &reader.0, &dimension, |value| json!({ "__text": value, "__value": value })).await
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

/// The values of one of them. Headers say how old they are (`Age`), and why if they are older than they should be
/// (`Reckon-Stale`).
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
) -> Result<Response, Problem> {
    values_of(&app, &reader.0, &read(body)?.key, |value| json!({ "text": value })).await
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

/// What occurred lately, by the first metric that counts: the largest first. A plain list, so only the headers can say how
/// old it is.
async fn values_of(
    app: &App,
    tenant: &Arc<Tenant>,
    dimension: &str,
    shape: impl Fn(&str) -> serde_json::Value,
) -> Result<Response, Problem> {
    let counted = tenant.metrics.iter().find(|metric| metric.measure == Measure::Count);
    let counted = counted.ok_or_else(|| Problem::not_found("no metric of this tenant counts events"))?;
    let now = Timestamp::now();
    let from = now - jiff::SignedDuration::from_hours(24 * VALUES_OF_DAYS);
    let pairs = [("metric", counted.name.clone()), ("from", from.to_string()), ("to", now.to_string())];
    let pairs = pairs.into_iter().chain([("grain", "1d".to_owned()), ("by", dimension.to_owned())]);
    let pairs: Vec<(String, String)> = pairs.map(|(name, value)| (name.to_owned(), value)).collect();
    let question = Question { query: Query::parse(&pairs)?, compared: None };
    let answer = app.answers.answer_over(Some("the last days"), &question, tenant, now).await?;
    let values = answer.groups.iter().filter_map(|group| group.dimensions.get(dimension));
    let values: Vec<_> = values.map(|value| shape(value)).collect();
    Ok(aged(Json(values), answer.age_ms, answer.stale))
}

impl PanelRange {
    /// What a range is called that moves on with the time: how far it reaches back, which is the same in every zone.
    fn moving(&self) -> Option<String> {
        let RawRange { from, to } = &self.raw;
        let is_plain =
            from.strip_prefix("now-").is_some_and(|back| back.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        (to == "now" && is_plain && from.len() <= MOVING_BYTES_MAX).then(|| format!("{from} to {to}"))
    }
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
    fn a_range_that_moves_is_named_where_everybody_means_the_same() {
        let moving = |from: &str, to: &str| {
            let raw = RawRange { from: from.to_owned(), to: to.to_owned() };
            PanelRange { from: String::new(), to: String::new(), raw }.moving()
        };
        assert_eq!(moving("now-6h", "now").as_deref(), Some("now-6h to now"));
        for (from, to) in
            [("now/d", "now/d"), ("now-1d/d", "now"), ("2026-03-01", "now"), ("now-6h", "now-1h"), ("", "")]
        {
            assert_eq!(moving(from, to), None, "{from} {to}");
        }
    }

    #[test]
    fn points_are_as_wide_as_the_screen_shows() {
        let widths = [0, 60_000, 60_001, 3_600_000, 3_600_001];
        assert_eq!(widths.map(|ms| grain_of(ms).name()), ["1m", "1m", "5m", "1h", "1d"]);
    }
}
