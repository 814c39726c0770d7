//! A tie-out in every format.

use reckon_batch::tie_out::{Age, Kind, Row, Tally, TieOut};
use reckon_schemas::csv;
use reckon_schemas::money::Currency;
use serde::Serialize;
use serde_json::json;

use super::Format;
use super::page::{grouped, render};

const COLUMNS: [&str; 13] = [
    "kind",
    "reference",
    "currency",
    "day",
    "ours",
    "theirs",
    "difference",
    "shape",
    "days_open",
    "age",
    "note",
    "events",
    "rows",
];

/// The document. Parquet is refused: a tie-out is for people and spreadsheets.
pub(crate) fn write(format: Format, tie_out: &TieOut) -> anyhow::Result<Vec<u8>> {
    let rows = || tie_out.groups.iter().map(|group| Ok(tie_out.row(group)?)).collect::<anyhow::Result<Vec<Row>>>();
    match format {
        Format::Csv => Ok(csv::document(&COLUMNS, rows()?.into_iter().map(cells))?),
        Format::Parquet => anyhow::bail!("a tie-out is written as text, json, csv or html"),
        Format::Text | Format::Json => {
            let mut document = serde_json::to_vec_pretty(&json!({
                "tie_out": summary(tie_out)?,
                "references": rows()?,
                "repeated": tie_out.repeated.iter().map(|item| json!({
                    "row": item.name, "reference": item.reference, "currency": item.currency,
                    "amount": item.currency.format_minor(item.minor.into()), "day": item.day,
                })).collect::<Vec<_>>(),
            }))?;
            document.push(b'\n');
            Ok(document)
        }
        Format::Html => page(tie_out),
    }
}

fn cells(row: Row) -> [String; 13] {
    [
        row.kind.to_owned(),
        row.reference,
        row.currency.code().to_owned(),
        row.day.to_string(),
        row.ours.unwrap_or_default(),
        row.theirs.unwrap_or_default(),
        row.difference,
        row.shape,
        row.days_open.map(|days| days.to_string()).unwrap_or_default(),
        row.age.map(|age| age.name().to_owned()).unwrap_or_default(),
        row.note,
        row.events,
        row.rows,
    ]
}

/// Everything but the single references; also the last line of standard output.
pub(crate) fn summary(tie_out: &TieOut) -> anyhow::Result<serde_json::Value> {
    let mut totals = serde_json::Map::new();
    for (currency, kinds) in tie_out.totals()? {
        let amount = |(items, minor): (u64, i128)| json!({ "items": items, "amount": currency.format_minor(minor) });
        let kinds = kinds.into_iter().map(|(kind, tally)| {
            let tally =
                json!({ "references": tally.groups, "ours": amount(tally.ours), "theirs": amount(tally.theirs) });
            (kind.name().to_owned(), tally)
        });
        totals.insert(currency.code().to_owned(), serde_json::Value::Object(kinds.collect()));
    }
    let ageing: Vec<serde_json::Value> = tie_out
        .ageing()
        .into_iter()
        .map(|((kind, age), breaks)| json!({ "kind": kind.name(), "days": age.name(), "breaks": breaks }))
        .collect();
    Ok(json!({
        "tenant": tie_out.tenant, "ledger": tie_out.ledger, "run_id": tie_out.run_id,
        "lake_version": tie_out.lake_version, "days_in": tie_out.basis, "from": tie_out.from, "to": tie_out.to,
        "as_of": tie_out.as_of, "tolerance": tie_out.tolerance, "breaks": tie_out.breaks().len(),
        "resolved": tie_out.resolved, "totals": totals, "ageing": ageing, "ledger_rows": tie_out.ledger_rows,
        "repeated_rows": tie_out.repeated.len(), "ignored_rows": tie_out.ignored, "outside": tie_out.outside,
    }))
}

#[derive(Serialize)]
struct TotalLine {
    currency: Currency,
    kind: &'static str,
    references: String,
    ours: [String; 2],
    theirs: [String; 2],
    difference: String,
}

fn total_line(currency: Currency, kind: Kind, tally: &Tally) -> TotalLine {
    let side = |(items, minor): (u64, i128)| [grouped(&items.to_string()), grouped(&currency.format_minor(minor))];
    let difference = tally.ours.1.saturating_sub(tally.theirs.1);
    TotalLine {
        currency,
        kind: kind.name(),
        references: grouped(&tally.groups.to_string()),
        ours: side(tally.ours),
        theirs: side(tally.theirs),
        difference: grouped(&currency.format_minor(difference)),
    }
}

fn page(tie_out: &TieOut) -> anyhow::Result<Vec<u8>> {
    let totals: Vec<TotalLine> = tie_out
        .totals()?
        .iter()
        .flat_map(|(currency, kinds)| kinds.iter().map(|(kind, tally)| total_line(*currency, *kind, tally)))
        .collect();
    let ageing = tie_out.ageing();
    let aged = |kind: Kind| {
        let breaks = Age::ALL.map(|age| ageing.get(&(kind, age)).copied().unwrap_or(0).to_string());
        (kind.name(), breaks)
    };
    let ageing: Vec<(&str, [String; 4])> =
        [Kind::Different, Kind::MissingHere, Kind::MissingThere].into_iter().map(aged).collect();
    let breaks =
        tie_out.breaks().into_iter().map(|group| Ok(tie_out.row(group)?)).collect::<anyhow::Result<Vec<Row>>>()?;
    let ignored: Vec<String> = tie_out.ignored.iter().map(|(name, rows)| format!("{rows} × {name}")).collect();
    let content = json!({
        "tenant": tie_out.tenant, "ledger": tie_out.ledger, "run_id": tie_out.run_id,
        "lake_version": tie_out.lake_version, "basis": tie_out.basis, "from": tie_out.from, "to": tie_out.to,
        "as_of": tie_out.as_of, "tolerance": tie_out.tolerance, "open": breaks.len(), "resolved": tie_out.resolved,
        "ledger_rows": tie_out.ledger_rows, "repeated": tie_out.repeated.len(), "ignored": ignored,
        "ages": Age::ALL.map(Age::name), "totals": totals, "ageing": ageing, "breaks": breaks,
    });
    render("tie_out.html", &content)
}
