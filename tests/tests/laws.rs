//! The laws that need no server: pure code against oracles.

#[path = "laws/event_schema.rs"]
mod event_schema;
#[path = "laws/tidy.rs"]
mod tidy;
#[path = "laws/top.rs"]
mod top;
#[path = "laws/windows.rs"]
mod windows;
