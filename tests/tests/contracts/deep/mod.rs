//! Questions that no rollup answers: single events, in ClickHouse and in the lake.

mod exact;
mod funnels;
mod limits;
mod live;
mod neighbour;
mod planner;
mod scene;
