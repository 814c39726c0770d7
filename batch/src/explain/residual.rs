//! The pure part of naming what no reason explains: a cell's two numbers are held against each other partition by
//! partition and minute by minute, until few deliveries are left that it can be.

use std::collections::BTreeMap;

use reckon_schemas::sums::{SumOverflow, Sums};
use reckon_schemas::time::EventTime;

/// A part of a cell: one partition, one window.
pub(crate) type Part = (i32, EventTime);

/// What a part adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Events.
    pub(crate) count: i128,
    /// Sums.
    pub(crate) sums: Sums,
}

impl Amounts {
    /// These minus others.
    ///
    /// # Errors
    /// [`SumOverflow`] if a difference leaves 128 bits.
    pub(crate) fn minus(&self, other: &Amounts) -> Result<Amounts, SumOverflow> {
        let mut difference = Amounts { count: self.count - other.count, sums: self.sums.clone() };
        for (unit, sum) in other.sums.iter() {
            difference.sums.add(unit, sum.checked_neg().ok_or(SumOverflow)?)?;
        }
        difference.sums = difference.sums.iter().filter(|(_, sum)| *sum != 0).collect();
        Ok(difference)
    }

    fn is_nothing(&self) -> bool {
        self.count == 0 && self.sums.iter().all(|(_, sum)| sum == 0)
    }
}

/// What is wrong with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The speed layer lacks one of these deliveries.
    Lost,
    /// The speed layer has one of these deliveries twice.
    Doubled,
    /// The speed layer has another amount for one of these deliveries.
    Changed,
    /// The speed layer counted what the lake does not have; see whether the lake holds the whole log.
    NotInTheLake,
    /// More than one thing happened: it is some of these deliveries.
    Several,
}

/// A part whose two numbers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unexplained<D> {
    /// The partition.
    pub(crate) partition: i32,
    /// Where the window begins.
    pub(crate) start: EventTime,
    /// Speed minus what it should be.
    pub(crate) difference: Amounts,
    /// What is wrong.
    pub(crate) verdict: Verdict,
    /// The deliveries that it can be, in the order of the log.
    pub(crate) suspects: Vec<D>,
}

/// Every part in which the speed layer says something else than the deliveries that it accepted add up to.
///
/// # Errors
/// [`SumOverflow`] if a sum leaves 128 bits.
pub(crate) fn narrow<D: Clone>(
    said: &BTreeMap<Part, Amounts>,
    accepted: &BTreeMap<Part, Vec<(D, Sums)>>,
) -> Result<Vec<Unexplained<D>>, SumOverflow> {
    let mut parts: Vec<&Part> = said.keys().chain(accepted.keys()).collect();
    parts.sort_unstable();
    parts.dedup();
    let mut unexplained = Vec::new();
    for part in parts {
        let deliveries = accepted.get(part).map_or(&[][..], Vec::as_slice);
        let mut expected = Amounts::default();
        for (_, sums) in deliveries {
            expected.count += 1;
            expected.sums.add_all(sums)?;
        }
        let difference = said.get(part).cloned().unwrap_or_default().minus(&expected)?;
        if difference.is_nothing() {
            continue;
        }
        let (verdict, suspects) = suspects(&difference, deliveries)?;
        unexplained.push(Unexplained { partition: part.0, start: part.1, difference, verdict, suspects });
    }
    Ok(unexplained)
}

/// A lost or doubled delivery is one whose amounts are the difference.
fn suspects<D: Clone>(difference: &Amounts, deliveries: &[(D, Sums)]) -> Result<(Verdict, Vec<D>), SumOverflow> {
    let all = || deliveries.iter().map(|(delivery, _)| delivery.clone()).collect::<Vec<D>>();
    let (verdict, sign) = match difference.count {
        0 => return Ok((Verdict::Changed, all())),
        -1 => (Verdict::Lost, -1),
        1 => (Verdict::Doubled, 1),
        count if count > 0 && deliveries.is_empty() => return Ok((Verdict::NotInTheLake, Vec::new())),
        _ => return Ok((Verdict::Several, all())),
    };
    let mut suspects = Vec::new();
    for (delivery, sums) in deliveries {
        let own: Sums = sums.iter().map(|(unit, sum)| (unit, sum * sign)).filter(|(_, sum)| *sum != 0).collect();
        if own == difference.sums {
            suspects.push(delivery.clone());
        }
    }
    match (suspects.is_empty(), verdict) {
        (false, verdict) => Ok((verdict, suspects)),
        (true, Verdict::Doubled) => Ok((Verdict::NotInTheLake, Vec::new())),
        (true, _) => Ok((Verdict::Several, all())),
    }
}
