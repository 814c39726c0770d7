//! What people save to look at again: dashboards. What is in one is checked before it is kept, so that a
//! saved chart is a question that can be asked.

pub(crate) mod chart;
pub(crate) mod dashboard;
