//! The picture of drift by reason over time: bars from zero, what speed has too much upwards, what it lacks downwards.
//! Geometry only; the template draws it. Numbers become floats here and nowhere else, because a pixel is no cent.

use std::collections::BTreeMap;

use serde::Serialize;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;
/// More bars than this cannot be told apart: neighbours are added up.
const BARS_MAX: usize = 370;
const LABELS_MAX: usize = 9;

/// What the template draws.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) zero: f64,
    pub(super) bars: Vec<Bar>,
    pub(super) lines: Vec<Line>,
    pub(super) labels: Vec<Label>,
    /// The kinds that occur, in order, for the legend.
    pub(super) kinds: Vec<&'static str>,
}

/// A piece of a bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Bar {
    pub(super) kind: &'static str,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// What is read when it is pointed at.
    pub(super) text: String,
}

/// A horizontal line with its value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    pub(super) y: f64,
    pub(super) text: String,
}

/// A name on the axis of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Label {
    pub(super) x: f64,
    pub(super) text: String,
}

/// The amounts of one day or hour, by kind.
pub(super) struct Column {
    pub(super) label: String,
    pub(super) amounts: BTreeMap<&'static str, i128>,
}

/// Draws columns; `order` is that of the kinds from zero outwards, `shown` writes an amount.
pub(super) fn draw(title: &str, columns: &[Column], order: &[&'static str], shown: impl Fn(i128) -> String) -> Picture {
    let together = columns.len().div_ceil(BARS_MAX).max(1);
    let columns: Vec<Column> = columns.chunks(together).map(add_up).collect();
    let side = |column: &Column, sign: i128| {
        column.amounts.values().map(|amount| (amount * sign).max(0)).fold(0_i128, i128::saturating_add)
    };
    let up = columns.iter().map(|column| side(column, 1)).max().unwrap_or(0);
    let down = columns.iter().map(|column| side(column, -1)).max().unwrap_or(0);
    let step = step(up.max(down));
    let (up, down) =
        (up.div_euclid(step) + i128::from(up % step != 0), down.div_euclid(step) + i128::from(down % step != 0));
    let (up, down) = if up + down == 0 { (1, 0) } else { (up, down) };
    let scale = (HEIGHT - TOP - BOTTOM) / ((up + down) as f64 * step as f64);
    let zero = TOP + up as f64 * step as f64 * scale;
    let slot = (WIDTH - LEFT - RIGHT) / columns.len().max(1) as f64;
    let gap = (slot * 0.18).min(6.0);
    let mut picture = Picture {
        title: title.to_owned(),
        width: WIDTH,
        height: HEIGHT,
        left: LEFT,
        right: WIDTH - RIGHT,
        zero,
        ..Picture::default()
    };
    for (index, column) in columns.iter().enumerate() {
        let x = LEFT + slot * index as f64 + gap / 2.0;
        let (mut above, mut below) = (zero, zero);
        for kind in order {
            let amount = column.amounts.get(kind).copied().unwrap_or(0);
            if amount == 0 {
                continue;
            }
            let height = amount.unsigned_abs() as f64 * scale;
            let y = if amount > 0 { above - height } else { below };
            if amount > 0 {
                above -= height
            } else {
                below += height
            }
            let text = format!("{}: {} {}", column.label, kind.replace('_', " "), shown(amount));
            picture.bars.push(Bar { kind, x, y, width: slot - gap, height, text });
            if !picture.kinds.contains(kind) {
                picture.kinds.push(kind);
            }
        }
    }
    picture.kinds.sort_by_key(|kind| order.iter().position(|known| known == kind));
    picture.lines = (-down..=up).map(|at| line(at, step, zero, scale, &shown)).collect();
    let every = columns.len().div_ceil(LABELS_MAX).max(1);
    let labelled = columns.iter().enumerate().step_by(every);
    picture.labels = labelled
        .map(|(index, column)| {
            let begins = column.label.split(" to ").next().unwrap_or_default();
            Label { x: LEFT + slot * (index as f64 + 0.5), text: begins.to_owned() }
        })
        .collect();
    picture
}

fn line(at: i128, step: i128, zero: f64, scale: f64, shown: &impl Fn(i128) -> String) -> Line {
    Line { y: zero - (at * step) as f64 * scale, text: shown(at * step) }
}

fn add_up(columns: &[Column]) -> Column {
    let mut amounts: BTreeMap<&'static str, i128> = BTreeMap::new();
    for (kind, amount) in columns.iter().flat_map(|column| &column.amounts) {
        let sum = amounts.entry(kind).or_insert(0);
        *sum = sum.saturating_add(*amount);
    }
    let label = match columns {
        [first, .., last] => format!("{} to {}", first.label, last.label),
        [only] => only.label.clone(),
        [] => String::new(),
    };
    Column { label, amounts }
}

/// A round number, so that some three lines lie on each side: 1, 2 or 5 and zeros.
fn step(largest: i128) -> i128 {
    let wanted = largest / 3;
    let mut step = 1_i128;
    for factor in [2, 5, 10].into_iter().cycle() {
        let next = match factor {
            2 => step * 2,
            5 => step / 2 * 5,
            _ => step * 2,
        };
        if next > wanted || next > i128::MAX / 100 {
            break;
        }
        step = next;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(label: &str, amounts: &[(&'static str, i128)]) -> Column {
        Column { label: label.to_owned(), amounts: amounts.iter().copied().collect() }
    }

    #[test]
    fn bars_are_as_long_as_their_amounts_and_stand_on_each_other() {
        let columns = [column("a", &[("late", -30), ("duplicate", 10), ("overflow", -10)]), column("b", &[])];
        let picture = draw("drift", &columns, &["late", "duplicate", "overflow"], |amount| amount.to_string());
        let [late, duplicate, overflow] = &picture.bars[..] else { panic!("{:?}", picture.bars) };
        let equal = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(equal(late.y, picture.zero) && equal(overflow.y, late.y + late.height));
        assert!(equal(duplicate.y + duplicate.height, picture.zero));
        assert!(equal(late.height, 3.0 * duplicate.height) && equal(duplicate.height, overflow.height));
        assert!(equal(late.x, duplicate.x) && late.x >= LEFT);
        assert_eq!(picture.kinds, ["late", "duplicate", "overflow"]);
        assert_eq!(picture.labels.len(), 2);
        assert!(picture.lines.iter().any(|line| line.text == "0" && equal(line.y, picture.zero)));
        let inside = |y: f64| (0.0..=HEIGHT).contains(&y);
        assert!(picture.lines.iter().all(|line| inside(line.y)) && inside(overflow.y + overflow.height));
    }

    #[test]
    fn many_days_are_added_up_and_none_is_lost() {
        let columns: Vec<Column> = (0..1000).map(|day| column(&day.to_string(), &[("late", -1)])).collect();
        let picture = draw("drift", &columns, &["late"], |amount| amount.to_string());
        assert!(picture.bars.len() <= BARS_MAX && picture.labels.len() <= LABELS_MAX + 1);
        let unit = picture.bars.iter().map(|bar| bar.height).fold(0.0, f64::max) / 3.0;
        let sum: f64 = picture.bars.iter().map(|bar| bar.height / unit).sum();
        assert!((sum - 1000.0).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn lines_stand_at_round_numbers() {
        for (largest, expected) in [(0, 1), (1, 1), (5, 1), (6, 2), (29, 5), (30, 10), (100, 20), (12_187, 2_000)] {
            assert_eq!(step(largest), expected, "{largest}");
        }
        let nothing = draw("drift", &[], &["late"], |amount| amount.to_string());
        assert!(nothing.bars.is_empty() && nothing.zero.is_finite());
    }
}
