//! Logs go to standard error, so that standard output carries results only.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the log writer. `RECKON_LOG` filters, e.g. `info,reckon_speed=debug`.
pub(crate) fn install(format: LogFormat) {
    let filter = EnvFilter::try_from_env("RECKON_LOG").unwrap_or_else(|_| {
        EnvFilter::new("info,librdkafka=error,rdkafka=error,deltalake_core=warn,deltalake_core::kernel::transaction=off,delta_kernel=warn,buoyant_kernel=warn")
    });
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Auto if !is_terminal => builder.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Text => builder.with_target(false).compact().init(),
    }
}
