//! Questions that name a metric that somebody saved: they are the question that its text is.

use std::borrow::Cow;
use std::sync::Arc;

use reckon_schemas::catalog::Tenant;
use tokio::sync::watch;

use super::Evaluator;
use super::params::Query;
use crate::accounts::documents::Copies;
use crate::boards::metric::SavedMetric;

/// What people saved, by tenant and name.
pub(crate) type Saved = watch::Receiver<Arc<Copies>>;

impl Evaluator {
    /// The question with what its metric computes, if that is a saved one.
    pub(crate) fn resolved<'a>(&self, query: &'a Query, tenant: &Tenant) -> Cow<'a, Query> {
        if query.formula.is_some() || tenant.metric(&query.metric).is_some() {
            return Cow::Borrowed(query);
        }
        let saved = self.saved.borrow();
        let body = saved.get(tenant.id.as_str()).and_then(|metrics| metrics.get(&query.metric));
        match body.and_then(|body| SavedMetric::formula(body)) {
            Some(formula) => Cow::Owned(Query { formula: Some(Arc::new(formula)), ..query.clone() }),
            None => Cow::Borrowed(query),
        }
    }
    /// The names of the metrics that people of this tenant saved.
    pub(crate) fn saved_metrics(&self, tenant: &Tenant) -> Vec<String> {
        let saved = self.saved.borrow();
        let mut names: Vec<String> =
            saved.get(tenant.id.as_str()).into_iter().flat_map(|names| names.keys().cloned()).collect();
        names.sort_unstable();
        names
    }
}
