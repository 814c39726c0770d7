//! Prometheus metrics, on a listener of their own that is not for the public.

use std::net::SocketAddr;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusBuilder;

/// Upper bounds of the histograms that end in seconds: from a flush that hardly took a millisecond to a store in trouble.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Serves what the parts of this process tell about themselves at `http://address/metrics`.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(metrics_exporter_prometheus::Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .and_then(PrometheusBuilder::install)
        .with_context(|| format!("cannot serve metrics on {address}: set `listen.metrics` to a free address"))?;
    tracing::info!(%address, "metrics at /metrics");
    Ok(())
}
