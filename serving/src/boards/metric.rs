//! Metrics that people write as a text and save under a name; a question names them like those of the catalog.

use reckon_schemas::catalog::Tenant;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::Error;
use crate::accounts::documents::Document;
use crate::problem::Problem;
use crate::query::formula::Formula;

/// The longest name.
const NAME_CHARS_MAX: usize = 64;
/// The longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 500;

/// A metric, as it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedMetric {
    /// What it is asked for by: 1 to 64 of `a-z`, `0-9` and `_`. The catalog must not have one of this name.
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    pub(crate) name: String,
    /// What it computes, as for `metric_text` of `/v1/query`.
    text: String,
    /// What it means, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 500)]
    description: String,
}

impl SavedMetric {
    /// Whether the tenant could ask for this.
    ///
    /// # Errors
    /// 422 or what is wrong with the text.
    pub(crate) fn check(&self, tenant: &Tenant) -> Result<(), Problem> {
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if !(1..=NAME_CHARS_MAX).contains(&self.name.len()) || !self.name.bytes().all(is_plain) {
            return Err(Problem::invalid_body("give a `name` of 1 to 64 of a-z, 0-9 and _"));
        }
        if tenant.metric(&self.name).is_some() {
            return Err(Problem::conflict("the catalog has a metric of this name"));
        }
        let description = &self.description;
        if description.chars().count() > DESCRIPTION_CHARS_MAX
            || description.chars().any(|c| c.is_control() && c != '\n')
        {
            return Err(Problem::invalid_body(format!(
                "the description has at most {DESCRIPTION_CHARS_MAX} characters"
            )));
        }
        Formula::parse(&self.text).map(|_| ()).map_err(|problem| Problem::invalid_body(problem.detail))
    }

    /// The body that is kept.
    pub(crate) fn kept(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::Broken(error.to_string()))
    }

    /// What was kept.
    pub(crate) fn read(document: &Document) -> Result<Self, Error> {
        Self::parse(&document.body).map_err(|error| Error::Broken(format!("metric {}: {error}", document.id)))
    }

    fn parse(body: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(body)
    }

    /// What a kept body computes; nothing if this build cannot read it any more.
    pub(crate) fn formula(body: &str) -> Option<Formula> {
        Formula::parse(&Self::parse(body).ok()?.text).ok()
    }
}
