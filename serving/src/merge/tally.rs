//! What is counted, in a form that can be added up without losing what is known about it.

use reckon_schemas::sketch::Sketch;

use super::MergeError;

/// A number on its way into an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// Events, or minor units of one currency.
    Sum(i128),
    /// Distinct users.
    Users(Users),
    /// How often a value occurred that is one of the most frequent; of no use for adding up.
    Frequent {
        /// At least so often.
        at_least: u64,
        /// At most so often.
        at_most: u64,
    },
}

/// Distinct users do not add up: of a union there is either an exact count that was made for it, or a sketch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Users {
    /// The exact number, if it was counted for exactly this set.
    pub(crate) exact: Option<u64>,
    /// The set as a sketch, if it was read.
    pub(crate) sketch: Option<Sketch>,
}

impl Tally {
    pub(crate) fn exact_users(count: u64) -> Self {
        Self::Users(Users { exact: Some(count), sketch: None })
    }

    pub(crate) fn sketched_users(sketch: Sketch) -> Self {
        Self::Users(Users { exact: None, sketch: Some(sketch) })
    }

    /// Adds what was counted of other events.
    ///
    /// # Errors
    /// [`MergeError::Overflow`] if a sum leaves 128 bits, [`MergeError::Incomplete`] if users are to be united of
    /// which only the number is known.
    pub(crate) fn add(&mut self, other: &Tally) -> Result<(), MergeError> {
        match (self, other) {
            (Tally::Sum(sum), Tally::Sum(more)) => {
                *sum = sum.checked_add(*more).ok_or(MergeError::Overflow)?;
                Ok(())
            }
            (Tally::Users(_), Tally::Users(more)) if more.is_none() => Ok(()),
            (Tally::Users(users), Tally::Users(more)) if users.is_none() => {
                *users = more.clone();
                Ok(())
            }
            (Tally::Users(users), Tally::Users(more)) => {
                let (Some(sketch), Some(more)) = (&mut users.sketch, &more.sketch) else {
                    return Err(MergeError::Incomplete);
                };
                sketch.merge(more);
                users.exact = None;
                Ok(())
            }
            _ => Err(MergeError::Incomplete),
        }
    }

    /// How many; to order groups by.
    pub(crate) fn size(&self) -> i128 {
        match self {
            Tally::Sum(sum) => *sum,
            Tally::Users(users) => i128::from(users.count()),
            Tally::Frequent { at_most, .. } => i128::from(*at_most),
        }
    }
}

impl Users {
    /// The number of users: exact if that is known, otherwise the sketch's estimate.
    pub(crate) fn count(&self) -> u64 {
        self.exact.or_else(|| self.sketch.as_ref().map(Sketch::estimate)).unwrap_or(0)
    }
}

impl Users {
    /// Whether there are none, so that a union with them is the other set, and as exact as that was.
    fn is_none(&self) -> bool {
        self.exact == Some(0) || self.exact.is_none() && self.sketch.as_ref().is_none_or(Sketch::is_empty)
    }
}

/// Adds up; nothing at all is `zero`.
pub(crate) fn sum<'a>(mut tallies: impl Iterator<Item = &'a Tally>, zero: &Tally) -> Result<Tally, MergeError> {
    let Some(first) = tallies.next() else { return Ok(zero.clone()) };
    let mut total = first.clone();
    tallies.try_for_each(|tally| total.add(tally))?;
    Ok(total)
}
