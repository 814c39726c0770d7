//! Prometheus metrics, on a listener of their own that is not for the public.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Upper bounds of the histograms that end in seconds: from a flush that hardly took a millisecond to a store in trouble.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// How often measurements are put into their buckets when nobody asks for them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Serves what the parts of this process tell about themselves at `http://address/metrics`, until shutdown.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn serve(address: SocketAddr, shutdown: CancellationToken) -> anyhow::Result<()> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .install_recorder()?;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot serve metrics on {address}: set `listen.metrics` to a free address"))?;
    tracing::info!(address = %listener.local_addr()?, "metrics at /metrics");
    let upkeep = recorder.clone();
    let ended = shutdown.clone();
    tokio::spawn(async move {
        while tokio::time::timeout(UPKEEP_INTERVAL, ended.cancelled()).await.is_err() {
            upkeep.run_upkeep();
        }
    });
    let router = Router::new().route("/metrics", get(move || std::future::ready(recorder.render())));
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(())
}
