//! What people save to look at again: dashboards, and metrics that are written as a text. What is in one is checked
//! before it is kept, so that a saved chart is a question that can be asked.

pub(crate) mod chart;
pub(crate) mod dashboard;
pub(crate) mod metric;
