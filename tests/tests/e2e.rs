//! The road from end to end, on real servers, with a slice of real data: HTTP, log, both layers, settlement, answer.

#[path = "e2e/grocer.rs"]
mod grocer;
#[path = "e2e/questions/mod.rs"]
mod questions;
#[path = "e2e/year.rs"]
mod year;
