//! The one binary, reckon
fn main() {}
