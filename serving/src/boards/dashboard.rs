//! Dashboards: a name and some charts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::chart::Chart;
use crate::accounts::Error;
use crate::accounts::documents::{Document, Kind};
use crate::problem::Problem;

/// The shelf that dashboards are on.
pub(crate) const DASHBOARDS: Kind = Kind {
    name: "dashboard",
    count_max: 200,
    bytes_max: 64 * 1024,
    actions: ["dashboard.create", "dashboard.change", "dashboard.remove"],
    is_copied: false,
};

/// The most charts on a dashboard.
const CHARTS_MAX: usize = 50;
/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 100;

/// A dashboard, as it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dashboard {
    /// What it is called: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub(crate) name: String,
    /// The charts, in the order in which they are shown: at most 50.
    #[schema(max_items = 50)]
    pub(crate) charts: Vec<Chart>,
}

impl Dashboard {
    /// Whether who has these metrics could look at this.
    ///
    /// # Errors
    /// 422 that says what is wrong, and where.
    pub(crate) fn check(&self, has_metric: impl Fn(&str) -> bool) -> Result<(), Problem> {
        let characters = self.name.trim().chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&characters) || self.name.chars().any(char::is_control) {
            return Err(Problem::invalid_body("give a `name` of 1 to 100 characters in one line"));
        }
        if self.charts.len() > CHARTS_MAX {
            return Err(Problem::invalid_body(format!("a dashboard has at most {CHARTS_MAX} charts")));
        }
        self.charts.iter().enumerate().try_for_each(|(index, chart)| chart.check(index, &has_metric))
    }

    /// The name and the body that are kept.
    pub(crate) fn kept(&self) -> Result<(String, String), Error> {
        let body = serde_json::to_string(self).map_err(|error| Error::Broken(error.to_string()))?;
        Ok((self.name.trim().to_owned(), body))
    }

    /// What was kept.
    pub(crate) fn read(document: &Document) -> Result<Self, Error> {
        serde_json::from_str(&document.body)
            .map_err(|error| Error::Broken(format!("dashboard {}: {error}", document.id)))
    }
}
