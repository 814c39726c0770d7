//! Results as files: for spreadsheets, for programs, for paper.

mod cells;
mod page;
mod picture;
mod reconciliation;
mod tie_out;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

pub(crate) use self::cells::CellRow;
pub(crate) use self::reconciliation::{Reconciliation, write as write_reconciliation};
pub(crate) use self::tie_out::{summary as tie_out_summary, write as write_tie_out};

/// How a result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people, and a last line of JSON.
    #[default]
    Text,
    /// Everything, as one JSON document.
    Json,
    /// A line for every cell and measure, or for every reference.
    Csv,
    /// The same lines, for programs that read columns.
    Parquet,
    /// A page to print, with a picture.
    Html,
}

/// Writes a document to a file, whole or not at all; to standard output if no file is named.
pub(crate) fn deliver(document: &[u8], output: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = output else {
        return std::io::stdout().lock().write_all(document).context("writing to standard output");
    };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    std::fs::write(&unfinished, document).with_context(|| format!("writing {}", unfinished.display()))?;
    std::fs::rename(&unfinished, path).with_context(|| format!("writing {}", path.display()))?;
    tracing::info!(file = %path.display(), bytes = document.len(), "written");
    Ok(())
}
