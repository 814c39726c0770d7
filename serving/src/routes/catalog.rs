//! What can be asked for.

use axum::Json;
use reckon_schemas::catalog::{Measure, Metric};
use reckon_schemas::window::Grain;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Reader;
use crate::problem::Problem;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct CatalogAnswer {
    /// The tenant of the key.
    tenant: String,
    /// The zone that its days are in.
    time_zone: String,
    /// The numbers.
    metrics: Vec<MetricAnswer>,
    /// Their dimensions: names joined by `,`; `total` has none.
    rollups: Vec<String>,
    /// The lengths of windows.
    grains: Vec<&'static str>,
}

/// A number that can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct MetricAnswer {
    /// The name to ask by.
    name: String,
    /// The events that count.
    event: String,
    /// What is counted of them: `count`, `money`, `sum`, `users`, `active_users` or `top`.
    #[schema(value_type = String)]
    measure: Measure,
    /// For money: its ISO 4217 code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    currency: Option<reckon_schemas::money::Currency>,
    /// For sums and the most frequent values: of which property.
    #[serde(skip_serializing_if = "Option::is_none")]
    property: Option<String>,
    /// For the most frequent values: how many there are at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
}

/// What can be asked for.
#[utoipa::path(get, path = "/v1/catalog", tag = "read", security(("read_key" = [])),
    responses(
        (status = 200, description = "Metrics, rollups and grains", body = CatalogAnswer),
        (status = 401, description = "The key is not valid", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn catalog(reader: Reader) -> Json<CatalogAnswer> {
    let tenant = reader.0;
    let metric = |metric: &Metric| MetricAnswer {
        name: metric.name.clone(),
        event: metric.event.clone(),
        measure: metric.measure,
        currency: metric.currency,
        property: metric.property.clone(),
        limit: (metric.measure == Measure::Top).then(|| metric.top_limit()),
    };
    Json(CatalogAnswer {
        tenant: tenant.id.to_string(),
        time_zone: tenant.time_zone.name().to_owned(),
        metrics: tenant.metrics.iter().map(metric).collect(),
        rollups: tenant.counted_rollups().iter().map(ToString::to_string).collect(),
        grains: Grain::ALL.map(Grain::name).to_vec(),
    })
}
