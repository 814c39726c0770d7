//! `reckon rejected` and `reckon replay-rejected`: what the collector refused, to be corrected in a text editor and sent
//! again.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use comfy_table::Table;
use jiff::Timestamp;
use reckon_batch::rejects::{Reject, rejects};
use reckon_schemas::event::{Rejection, Source};
use reckon_schemas::ids::TenantId;
use reckon_speed::collect::{Corrected, ReplayError, replay};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::config::{ConfigError, Settings};
use crate::exit::Exit;
use crate::export;
use crate::report::{self, say};

/// How much of an item a table shows.
const SHOWN_CHARS: usize = 80;

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Whose items.
    #[arg(long)]
    tenant: TenantId,
    /// Only what was refused at this instant or later, e.g. 2026-11-01T00:00:00Z.
    #[arg(long)]
    since: Option<Timestamp>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The file to write, instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// A table for people, and one line of JSON that counts the rows.
    #[default]
    Table,
    /// One JSON object a line: correct `item` and give the file to `replay-rejected`.
    Ndjson,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// Whose items.
    #[arg(long)]
    tenant: TenantId,
    /// The file with the corrected items, as `reckon rejected --format ndjson` writes it. Lines that are left out are not
    /// sent.
    #[arg(long, value_name = "FILE")]
    correction: PathBuf,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    /// Topic, partition and offset of the reject.
    #[serde(default)]
    id: String,
    #[serde(default, skip_deserializing)]
    refused_at: Option<Timestamp>,
    #[serde(default)]
    source: Source,
    #[serde(default)]
    field: String,
    #[serde(default)]
    reason: String,
    /// The item, if it is JSON.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    item: Option<&'a RawValue>,
    /// Its text, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

/// Prints the rejected items of a tenant.
pub(crate) async fn list(settings: &Settings, arguments: ListArguments) -> Result<(), Exit> {
    settings.read_catalog()?.require(&arguments.tenant)?;
    let since = arguments.since.unwrap_or(Timestamp::MIN);
    let found = rejects(&settings.lake, &arguments.tenant, since).await?;
    let topic = &settings.kafka.topics.rejected;
    let text = match arguments.format {
        Format::Ndjson => lines(topic, &found)?,
        Format::Table => {
            format!("{}\n{}\n", table(topic, &found), json!({ "tenant": arguments.tenant, "rejected": found.len() }))
        }
    };
    match &arguments.output {
        Some(_) => export::deliver(text.as_bytes(), arguments.output.as_deref())?,
        None => say(text.trim_end()),
    }
    if found.is_empty() { Err(Exit::NothingToDo) } else { Ok(()) }
}

fn id(topic: &str, reject: &Reject) -> String {
    format!("{topic}/{}/{}", reject.partition, reject.offset)
}

fn lines(topic: &str, rejects: &[Reject]) -> anyhow::Result<String> {
    let mut text = String::new();
    for reject in rejects {
        let item = serde_json::from_str::<&RawValue>(&reject.raw).ok().filter(|item| item.get().starts_with('{'));
        let line = Line {
            id: id(topic, reject),
            refused_at: Some(reject.log_time),
            source: Source::ALL.into_iter().find(|source| source.name() == reject.source).unwrap_or_default(),
            field: reject.field.clone(),
            reason: reject.reason.clone(),
            item,
            raw: item.is_none().then(|| reject.raw.clone()),
        };
        // A line is a line: what the item has of line breaks is between its tokens.
        text.push_str(&serde_json::to_string(&line)?.replace(['\n', '\r'], " "));
        text.push('\n');
    }
    Ok(text)
}

fn table(topic: &str, rejects: &[Reject]) -> Table {
    let mut table = report::table(["id", "refused at", "door", "field", "reason", "item"]);
    for reject in rejects {
        let item: String = reject.raw.chars().take(SHOWN_CHARS).collect();
        let (id, at) = (id(topic, reject), reject.log_time.to_string());
        table.add_row([&id, &at, &reject.source, &reject.field, &reject.reason, &item]);
    }
    table
}

/// Sends corrected items again and prints what became of them.
pub(crate) async fn replay_rejected(settings: &Settings, arguments: ReplayArguments) -> Result<(), Exit> {
    settings.read_catalog()?.require(&arguments.tenant)?;
    let wrong = |text: String| Exit::Config(ConfigError::Rejected(text));
    let text = std::fs::read_to_string(&arguments.correction)
        .with_context(|| format!("cannot read {}", arguments.correction.display()))?;
    let (ids, items) = read(&text, &arguments.correction).map_err(wrong)?;
    if items.is_empty() {
        say(&json!({ "sent": 0, "accepted": 0, "rejected": [] }).to_string());
        return Err(Exit::NothingToDo);
    }
    let sent = replay(&settings.kafka, &settings.collect, &arguments.tenant, &items).await;
    let outcome = sent.map_err(|error| match error {
        ReplayError::Unwritten => Exit::Retryable(error.into()),
        ReplayError::Configuration(_) => wrong(error.to_string()),
    })?;
    tell(&ids, &outcome)
}

/// The lines of a file with corrections: what they are called, and the items. Nothing is sent if a line cannot be read.
fn read(text: &str, file: &Path) -> Result<(Vec<String>, Vec<Corrected>), String> {
    let (mut ids, mut items) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{} line {}", file.display(), number + 1);
        let line: Line<'_> = serde_json::from_str(line).map_err(|error| format!("{place}: {error}"))?;
        let item = line.item.ok_or_else(|| format!("{place}: `item` is missing: the corrected item, as JSON"))?;
        ids.push(if line.id.is_empty() { place } else { line.id });
        items.push(Corrected { source: line.source, item: item.get().to_owned() });
    }
    Ok((ids, items))
}

fn tell(ids: &[String], outcome: &[Option<Rejection>]) -> Result<(), Exit> {
    let rejected: Vec<_> = ids.iter().zip(outcome).filter_map(|(id, again)| Some((id, again.as_ref()?))).collect();
    for (id, Rejection { field, reason }) in &rejected {
        say(&format!("{id} is rejected again: {field} {reason}"));
    }
    let listed: Vec<_> =
        rejected.iter().map(|(id, again)| json!({ "id": id, "field": again.field, "reason": again.reason })).collect();
    let accepted = outcome.len() - rejected.len();
    say(&json!({ "sent": outcome.len(), "accepted": accepted, "rejected": listed }).to_string());
    match rejected.len() {
        0 => Ok(()),
        again => Err(Exit::RejectedAgain(format!("{again} of {} items were rejected again", outcome.len()))),
    }
}
