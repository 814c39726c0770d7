//! Cells in the order of the table's key. ClickHouse looks whether what it is given is in order, and then need not sort
//! it, which is two thirds of what taking it costs. Here it costs little, because numbers are sorted instead of names.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use reckon_schemas::window::Grain;

use super::cell_columns::CellColumns;
use crate::worker::windows::{ChangedCell, Series};

/// A cell with what its partition adds to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) partition: i32,
    pub(crate) version: i64,
    pub(crate) cell: ChangedCell<'a>,
}

/// Where a row belongs, in the order of the key: tenant and rollup, grain by name, start, event and dimensions, partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    tenant_and_rollup: u32,
    grain: u8,
    start_us: i64,
    series: u32,
    partition: i32,
    row: u32,
}

/// Grains in the order of their names.
fn rank(grain: Grain) -> u8 {
    let before = Grain::ALL.into_iter().filter(|other| other.name() < grain.name());
    u8::try_from(before.count()).expect("a few")
}

/// Blocks of these rows, in order.
pub(crate) fn blocks(rows: &[Row<'_>]) -> Vec<Bytes> {
    let (mut columns, mut pieces) = (CellColumns::default(), Vec::new());
    for row in in_order(rows) {
        columns.push(row);
        if columns.is_full() {
            pieces.extend(columns.take());
        }
    }
    pieces.extend(columns.take());
    pieces
}

fn in_order<'r, 'a>(rows: &'r [Row<'a>]) -> impl Iterator<Item = &'r Row<'a>> {
    // Partitions have a copy of a series each. A copy is known by its address, which is quicker than by its names.
    let mut numbers: HashMap<*const Series, u32> = HashMap::new();
    let mut names: HashMap<&Series, u32> = HashMap::new();
    let mut places: Vec<Place> = Vec::with_capacity(rows.len());
    let ranks_of_grains = Grain::ALL.map(rank);
    for (row, Row { partition, cell, .. }) in (0..).zip(rows) {
        let series = *numbers.entry(Arc::as_ptr(cell.series)).or_insert_with(|| {
            let next = u32::try_from(names.len()).expect("fewer than what waits for the store");
            *names.entry(cell.series).or_insert(next)
        });
        let (grain, start_us) = (ranks_of_grains[cell.window.grain.index()], cell.window.start.0);
        places.push(Place { tenant_and_rollup: 0, grain, start_us, series, partition: *partition, row });
    }
    let ranks = ranks(names);
    for place in &mut places {
        (place.tenant_and_rollup, place.series) = ranks[place.series as usize];
    }
    places.sort_unstable();
    places.into_iter().map(|place| &rows[place.row as usize])
}

/// By the numbers given: where the first series of the same tenant and rollup is among all, and where the series itself.
fn ranks(names: HashMap<&Series, u32>) -> Vec<(u32, u32)> {
    let mut ranks = vec![(0, 0); names.len()];
    let mut names: Vec<(&Series, u32)> = names.into_iter().collect();
    names.sort_unstable();
    let mut first = 0;
    for (rank, (series, number)) in (0..).zip(&names) {
        let before = names[first as usize].0;
        if (&before.tenant, &before.rollup) != (&series.tenant, &series.rollup) {
            first = rank;
        }
        ranks[*number as usize] = (first, rank);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use reckon_schemas::cell::{DimensionValues, Measures};
    use reckon_schemas::time::{EventTime, Zone};

    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_tables_key() {
        let measures = Measures::default();
        let series = |tenant: &str, rollup: &str, event: &str, values: &[&str]| {
            let (tenant, values) = (tenant.parse().expect("valid"), DimensionValues::new(values));
            Arc::new(Series { tenant, rollup: rollup.to_owned(), event: event.to_owned(), values })
        };
        // Two partitions with a copy of each.
        let copies: Vec<Arc<Series>> = (0..2)
            .flat_map(|_| {
                [
                    series("b", "total", "buy", &[]),
                    series("a", "total", "sell", &[]),
                    series("a", "store", "buy", &["10"]),
                    series("a", "store", "buy", &["1"]),
                    series("a", "country,store", "buy", &["DE", "1"]),
                    series("a", "country,store", "buy", &["D", "2"]),
                ]
            })
            .collect();
        let mut rows = Vec::new();
        for (at, series) in copies.iter().enumerate() {
            for (grain, minute) in Grain::KEPT.into_iter().flat_map(|grain| [(grain, 1_440), (grain, 0)]) {
                let window = grain.window_at(EventTime(minute * 60_000_000), &Zone::UTC);
                let cell = ChangedCell { series, window, measures: &measures };
                rows.push(Row { partition: i32::from(at < copies.len() / 2), version: 1, cell });
            }
        }
        let key = |row: &Row<'_>| {
            let Row { partition, cell: ChangedCell { series, window, .. }, .. } = *row;
            let mut dimensions = Vec::new();
            series.values.each(series.dimensions(), |value| dimensions.push(value.to_owned()));
            let names = (series.tenant.as_str().to_owned(), series.rollup.clone(), window.grain.name());
            (names, window.start, series.event.clone(), dimensions, partition)
        };
        let found: Vec<_> = in_order(&rows).map(key).collect();
        let mut expected: Vec<_> = rows.iter().map(key).collect();
        expected.sort();
        assert_eq!(found, expected);
    }
}
