//! The read path on what the other layers' tables hold: settled before the horizon, provisional after it.

mod live;
mod numbers;
mod refusals;
mod scene;
mod speed_only;
