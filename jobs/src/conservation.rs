//! `reckon conservation`: the proof that the lake holds the log.

use comfy_table::{Cell, Table};
use reckon_batch::conservation::{self, Partition, Range, Why};

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::{self, right, say};

/// The most ranges of a partition that fit into a table; the JSON has all of them.
const RANGES_SHOWN: usize = 3;

/// Prints a table and, as the last line, JSON.
pub(crate) async fn run(settings: &Settings) -> Result<(), Exit> {
    let conservation = conservation::run(&settings.kafka, &settings.lake).await?;
    say(&table(&conservation.partitions).to_string());
    say(&serde_json::to_string(&conservation).map_err(anyhow::Error::from)?);
    if conservation.holds {
        return Ok(());
    }
    let wrong = conservation.partitions.iter().filter(|partition| !partition.holds()).map(named);
    Err(Exit::NotConserved(wrong.collect::<Vec<_>>().join("; ")))
}

fn table(partitions: &[Partition]) -> Table {
    let mut table = report::table([
        "topic",
        "partition",
        "log",
        "in the lake",
        "records",
        "no record",
        "not yet archived",
        "expired",
        "missing",
        "gone",
        "doubled",
        "",
    ]);
    for partition in partitions {
        let count = |why| right(partition.count(why).to_string());
        table.add_row(vec![
            Cell::new(&partition.topic),
            right(partition.partition.to_string()),
            Cell::new(partition.log),
            Cell::new(shown(&partition.ranges)),
            right(partition.archived.to_string()),
            count(Why::NoRecord),
            count(Why::NotYetArchived),
            count(Why::Expired),
            count(Why::Missing),
            count(Why::Gone),
            right(partition.doubled_count.to_string()),
            Cell::new(if partition.holds() { "holds" } else { "DOES NOT HOLD" }),
        ]);
    }
    table
}

fn shown(ranges: &[Range]) -> String {
    let mut texts: Vec<String> = ranges.iter().take(RANGES_SHOWN).map(ToString::to_string).collect();
    if ranges.len() > RANGES_SHOWN {
        texts.push(format!("and {} more", ranges.len() - RANGES_SHOWN));
    }
    texts.join(", ")
}

/// What is wrong with a partition, offsets included.
fn named(partition: &Partition) -> String {
    let lost = partition.holes.iter().filter(|hole| hole.why.is_loss());
    let mut wrong: Vec<String> = lost.map(|hole| format!("{} {}", hole.range, hole.why.name())).collect();
    if partition.doubled_count > 0 {
        wrong.push(format!("{} offsets twice, from {:?} on", partition.doubled_count, partition.doubled.first()));
    }
    format!("{} partition {}: {}", partition.topic, partition.partition, wrong.join(", "))
}
