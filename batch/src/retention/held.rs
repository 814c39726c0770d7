//! What a version of the lake holds as a whole.

use deltalake::DeltaTable;
use jiff::civil::Date;
use reckon_schemas::lake::EXPIRED_ID;
use reckon_schemas::time::{EventTime, Zone, day_number, day_of_number};

use crate::Error;
use crate::lake::{LakeError, transaction_version};

/// From which date on a version of a table holds everything that it was given: dates of universal time, as files are
/// filed under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The first date; none if nothing has expired yet.
    pub(crate) since: Option<Date>,
}

impl Held {
    /// As of the version that the table was loaded at.
    ///
    /// # Errors
    /// [`LakeError`] if the table's log cannot be read.
    pub(crate) async fn of(table: &DeltaTable) -> Result<Self, LakeError> {
        let since = match transaction_version(table, EXPIRED_ID).await? {
            None => None,
            Some(days) => Some(date_of(days).ok_or_else(|| LakeError::Damaged {
                table: table.table_url().to_string(),
                reason: format!("{EXPIRED_ID} says day {days}"),
            })?),
        };
        Ok(Self { since })
    }

    /// Whether nothing of a calendar day has expired.
    pub(crate) fn holds(self, day: Date, zone: &Zone) -> bool {
        self.since.is_none_or(|since| Zone::UTC.day_of(zone.day_start(day)) >= since)
    }

    /// Refuses what asks for a day that the lake does not hold any more.
    ///
    /// # Errors
    /// [`Error::Config`] that says since when it is gone.
    pub(crate) fn check(self, day: Date, zone: &Zone) -> Result<(), Error> {
        match self.since {
            Some(since) if !self.holds(day, zone) => Err(Error::Config(format!(
                "{day} has expired: the lake holds what happened since {}",
                EventTime(Zone::UTC.day_start(since).0)
            ))),
            _ => Ok(()),
        }
    }
}

/// The version of the transaction identifier that stands for a date.
pub(super) fn number_of(date: Date) -> i64 {
    i64::from(day_number(date))
}

fn date_of(days: i64) -> Option<Date> {
    i32::try_from(days).ok().map(day_of_number).filter(|date| number_of(*date) == days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_day_is_held_if_all_of_its_dates_are() {
        let held = Held { since: Some(date(2026, 8, 2)) };
        assert!(held.holds(date(2026, 8, 2), &Zone::UTC) && !held.holds(date(2026, 8, 1), &Zone::UTC));
        // The second begins on the first there, and some of it has expired.
        let tokyo = Zone::parse("Asia/Tokyo").expect("known");
        assert!(!held.holds(date(2026, 8, 2), &tokyo) && held.holds(date(2026, 8, 3), &tokyo));
        let new_york = Zone::parse("America/New_York").expect("known");
        assert!(held.holds(date(2026, 8, 2), &new_york) && !held.holds(date(2026, 8, 1), &new_york));
        assert!(Held::default().holds(date(1970, 1, 1), &tokyo));
        let error = held.check(date(2026, 8, 2), &tokyo).expect_err("a part of it is gone").to_string();
        assert!(error.contains("2026-08-02T00:00:00Z"), "{error}");
    }

    #[test]
    fn dates_are_numbers_and_back() {
        for date in [date(1969, 12, 31), date(1970, 1, 1), date(2026, 11, 28)] {
            assert_eq!(date_of(number_of(date)), Some(date));
        }
        assert_eq!((date_of(i64::MAX), date_of(i64::from(i32::MAX))), (None, None), "beyond the calendar");
    }
}
