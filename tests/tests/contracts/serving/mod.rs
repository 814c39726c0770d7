//! The read path on what the other layers' tables hold: settled before the horizon, provisional after it.

mod asking;
mod cache;
mod catalog;
mod comparing;
mod formulas;
mod grafana;
mod heat;
mod lists;
pub(crate) mod live;
mod noisy;
mod numbers;
mod refusals;
mod scene;
mod shapes;
mod speed_only;
mod views;
mod websocket;
