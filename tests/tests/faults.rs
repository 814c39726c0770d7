//! Faults: what must survive what, on real servers and with the real binary.

#[path = "faults/archive_crash.rs"]
mod archive_crash;
#[path = "faults/archive_log_changed.rs"]
mod archive_log_changed;
#[path = "faults/ballista.rs"]
mod ballista;
#[path = "faults/clickhouse_away.rs"]
mod clickhouse_away;
#[path = "faults/collect_input.rs"]
mod collect_input;
#[path = "faults/collect_log_away.rs"]
mod collect_log_away;
#[path = "faults/flipped_lake.rs"]
mod flipped_lake;
#[path = "faults/nightly_killed.rs"]
mod nightly_killed;
#[path = "faults/object_store.rs"]
mod object_store;
#[path = "faults/raw.rs"]
mod raw;
#[path = "faults/redis_lost.rs"]
mod redis_lost;
#[path = "faults/serving_behind.rs"]
mod serving_behind;
#[path = "faults/serving_connections.rs"]
mod serving_connections;
#[path = "faults/serving_routes_away.rs"]
mod serving_routes_away;
#[path = "faults/serving_stores_away.rs"]
mod serving_stores_away;
#[path = "faults/shuffled.rs"]
mod shuffled;
#[path = "faults/slow_bodies.rs"]
mod slow_bodies;
#[path = "faults/speed_crash.rs"]
mod speed_crash;
#[path = "faults/speed_scenes.rs"]
mod speed_scenes;
#[path = "faults/upkeep.rs"]
mod upkeep;
