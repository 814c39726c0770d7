//! Cells as columns of a block of `speed_cells_raw`.

use bytes::Bytes;
use reckon_schemas::sums::Unit;

use super::cell_order::Row;
use super::clickhouse::unsigned;
use crate::clickhouse_block::{self, Ends, Texts};

/// A block ends with so many rows, or with so many bytes of sketches, which may be large.
const ROWS_MAX: u64 = 65_536;
const SKETCH_BYTES_MAX: usize = 4 << 20;

/// The columns, in the order of [`LAYOUT`].
#[derive(Debug, Default)]
pub(super) struct CellColumns {
    rows: u64,
    tenant: Texts,
    rollup: Texts,
    grain: Texts,
    window_start: Vec<u8>,
    window_end: Vec<u8>,
    event: Texts,
    dimensions: Ends,
    dimension_values: Texts,
    partition: Vec<u8>,
    version: Vec<u8>,
    count: Vec<u8>,
    money: Ends,
    money_units: Texts,
    money_sums: Vec<u8>,
    users: Texts,
    /// The sketch of one row.
    sketch: Vec<u8>,
}

const LAYOUT: [(&str, &str); 12] = [
    ("tenant", "String"),
    ("rollup", "String"),
    ("grain", "String"),
    ("window_start", "DateTime64(6, 'UTC')"),
    ("window_end", "DateTime64(6, 'UTC')"),
    ("event", "String"),
    ("dimensions", "Array(String)"),
    ("partition", "Int32"),
    ("version", "UInt64"),
    ("count", "UInt64"),
    ("money", "Map(String, Int128)"),
    ("users", "String"),
];

impl CellColumns {
    /// The statement that takes these columns.
    pub(super) fn statement() -> String {
        clickhouse_block::insert_statement("speed_cells_raw", &LAYOUT)
    }

    /// Adds one row.
    pub(super) fn push(&mut self, row: &Row<'_>) {
        let (series, window, measures) = (row.cell.series, row.cell.window, row.cell.measures);
        self.rows += 1;
        self.tenant.push(series.tenant.as_str());
        self.rollup.push(&series.rollup);
        self.grain.push(window.grain.name());
        self.window_start.extend_from_slice(&window.start.0.to_le_bytes());
        self.window_end.extend_from_slice(&window.end.0.to_le_bytes());
        self.event.push(&series.event);
        let dimensions = series.dimensions();
        self.dimensions.push(dimensions);
        series.values.each(dimensions, |value| self.dimension_values.push(value));
        self.partition.extend_from_slice(&row.partition.to_le_bytes());
        self.version.extend_from_slice(&unsigned(row.version).to_le_bytes());
        self.count.extend_from_slice(&measures.count.to_le_bytes());
        self.money.push(measures.sums.iter().len());
        for (unit, sum) in measures.sums.iter() {
            match unit {
                Unit::Currency(currency) => self.money_units.push(currency.code()),
                Unit::Property(_) => self.money_units.push(&unit.to_string()),
            }
            self.money_sums.extend_from_slice(&sum.to_le_bytes());
        }
        self.sketch.clear();
        measures.users.write_clickhouse(&mut self.sketch);
        self.users.push_bytes(&self.sketch);
    }

    /// Whether there is as much as a block should hold.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.users.0.len() >= SKETCH_BYTES_MAX
    }

    /// The block so far, or nothing if it has no rows; the next one is empty.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        let filled = std::mem::take(self);
        if filled.rows == 0 {
            return Vec::new();
        }
        let columns = [
            vec![filled.tenant.0],
            vec![filled.rollup.0],
            vec![filled.grain.0],
            vec![filled.window_start],
            vec![filled.window_end],
            vec![filled.event.0],
            vec![filled.dimensions.bytes, filled.dimension_values.0],
            vec![filled.partition],
            vec![filled.version],
            vec![filled.count],
            vec![filled.money.bytes, filled.money_units.0, filled.money_sums],
            vec![filled.users.0],
        ];
        clickhouse_block::block(&LAYOUT, filled.rows, columns)
    }
}
