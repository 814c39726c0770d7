//! What the speed layer alone can answer: windows of one second, active users, the most frequent values.

use std::ops::Range;

use anyhow::Result;
use reckon_schemas::cell::DimensionValues;
use reckon_schemas::redis_keys::{self, CellTotals, USERS_BESIDE_MAX};
use reckon_schemas::stores;
use reckon_schemas::sums::{Sums, Unit};
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::top::TopSketch;
use reckon_schemas::window::Grain;
use serde_json::{Value, json};

use super::scene::{CANARY, FIRST, ITEMS_OF_ONE, SECOND, Scene, THIRD, at, hex, sketch};

impl Scene {
    /// One event of each user so many seconds ago, of one and a half items, counted by a partition at every grain.
    pub(super) async fn count_in_redis(
        &self,
        event: &str,
        seconds_ago: i64,
        partition: i32,
        users: Range<u32>,
    ) -> Result<()> {
        let client = redis::Client::open(self.redis.url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let now = EventTime::from_timestamp(jiff::Timestamp::now());
        let at = now.plus_micros(-seconds_ago * 1_000_000);
        let mut sums = Sums::new();
        sums.add("#quantity".parse::<Unit>()?, users.len() as i128 * ITEMS_OF_ONE)?;
        let (count, values, sketch) = (users.len() as u64, DimensionValues::default(), sketch(users));
        let beside = (sketch.counted() <= Some(USERS_BESIDE_MAX)).then(|| sketch.clone());
        let totals = CellTotals { version: 1, count, sums, users: beside.clone() }.encode();
        let mut write = redis::pipe();
        for grain in Grain::ALL {
            let window = grain.window_at(at, &Zone::UTC);
            let key = redis_keys::cells(&self.tenant, &window, "total", event);
            write.hset(key, redis_keys::cell_field(partition, &values), &totals).ignore();
            if beside.is_none() {
                let key = redis_keys::users(&self.tenant, &window, "total", event, partition, &values);
                write.set(key, sketch.to_redis()).ignore();
            }
        }
        let start_s = Grain::Second.window_at(at, &Zone::UTC).start.0 / 1_000_000;
        write.cmd("ZADD").arg(redis_keys::event_names(&self.tenant)).arg("GT").arg(start_s).arg(event).ignore();
        write.query_async::<()>(&mut connection).await?;
        Ok(())
    }

    pub(super) fn other_tenant(&self) -> &str {
        self.catalog.tenants[1].id.as_str()
    }

    /// A partition's views of pages on one day, in ClickHouse.
    pub(super) async fn top_in_clickhouse(
        &self,
        tenant: &str,
        day: &str,
        partition: i32,
        version: i64,
        pages: &[String],
    ) -> Result<()> {
        let (start, end) = days([FIRST, SECOND, THIRD], day)?;
        let bytes = hex(&top(pages).to_bytes());
        self.sql(&format!(
            "INSERT INTO speed_tops_raw VALUES ('{tenant}', 'page', '1d', '{start}', '{end}', 'view', {partition}, \
             {version}, unhex('{bytes}'))"
        ))
        .await
    }

    /// The same in Redis.
    pub(super) async fn top_in_redis(&self, day: &str, partition: i32, version: i64, pages: &[String]) -> Result<()> {
        let client = redis::Client::open(self.redis.url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let window = Grain::Day.window_at(at(&format!("{day}T16:00:00Z"))?, &Zone::parse("America/New_York")?);
        let mut write = redis::pipe();
        let key = redis_keys::top(&self.tenant, &window, "page", "view");
        write.hset(key, partition, redis_keys::top_value(version, &top(pages))).ignore();
        write.query_async::<()>(&mut connection).await?;
        Ok(())
    }
}

fn top(pages: &[String]) -> TopSketch {
    let mut sketch = TopSketch::new();
    pages.iter().for_each(|page| sketch.insert(page));
    sketch
}

/// The borders of the day that begins on this date in New York.
fn days(windows: [(&'static str, &'static str); 3], day: &str) -> Result<(&'static str, &'static str)> {
    let found = windows.into_iter().find(|(start, _)| start.starts_with(day));
    found.ok_or_else(|| anyhow::anyhow!("{day} is none of the scene's days"))
}

/// Events as the speed layer counts them, by how many seconds ago: in Redis, at every grain, each by a partition of its
/// own.
async fn count_lately(scene: &Scene) -> Result<()> {
    for (partition, (event, seconds_ago, users)) in (0_i32..).zip([
        ("purchase", 2, 0..3),
        ("purchase", 150, 2..6),
        ("view", 100, 5..8),
        ("purchase", 290, 20..22),
        // Too long ago, the first of them by little.
        ("purchase", 302, 200..201),
        ("purchase", 400, 100..110),
    ]) {
        scene.count_in_redis(event, seconds_ago, partition, users).await?;
    }
    Ok(())
}

#[tokio::test]
async fn active_users_slide_by_the_second_over_all_partitions_and_events() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let ask = async |path: &str| node.ask(&scene.read_key, path).await;
    let (_, nobody) = ask("/v1/query?metric=active").await?;
    assert_eq!((&nobody["total"]["value"], &nobody["gaps"]), (&json!(0), &json!([])), "{nobody:#}");
    count_lately(&scene).await?;
    let (status, answer) = ask("/v1/query?metric=active").await?;
    assert_eq!((status, &answer["total"]["value"]), (200, &json!(10)), "{answer:#}");
    let total = &answer["total"];
    assert_eq!((&total["method"], &total["state"]), (&json!("hll"), &json!("provisional")));
    assert!(total["error_bound"].is_u64() && total["as_of"].is_string(), "{answer:#}");
    assert!(answer["speed_lag_ms"].is_i64() && answer["horizon"].is_string(), "{answer:#}");
    let length = |answer: &Value| -> Result<i64> {
        let at = |name: &str| anyhow::Ok(answer[name].as_str().unwrap_or_default().parse::<jiff::Timestamp>()?);
        Ok(at("to")?.as_second() - at("from")?.as_second())
    };
    assert_eq!(length(&answer)?, 300);
    let (_, answer) = ask("/v1/query?metric=active_buyers").await?;
    assert_eq!(answer["total"]["value"], 8, "{answer:#}");
    // It has a range of its own, and no groups.
    for (rest, parameter) in [("from=2026-03-07", "from"), ("to=2026-03-07", "to"), ("by=department", "by")] {
        let (status, problem) = ask(&format!("/v1/query?metric=active&{rest}")).await?;
        assert_eq!((status, &problem["parameter"]), (422, &json!(parameter)), "{problem}");
    }
    // Nobody else's users.
    let (_, theirs) = node.ask(&scene.other_key, "/v1/query?metric=active").await?;
    assert_eq!(theirs["total"]["value"], 0);
    // It is pushed like other numbers.
    let mut stream = node.open(&scene.read_key, "/v1/live?metric=active", None).await?;
    let first = stream.chunk().await?.unwrap_or_default();
    assert!(String::from_utf8_lossy(&first).contains("event: snapshot"), "{first:?}");
    Ok(())
}

#[tokio::test]
async fn seconds_are_counted_in_redis_and_refused_where_they_are_gone() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    count_lately(&scene).await?;
    let ask = async |path: &str| node.ask(&scene.read_key, path).await;
    let (status, answer) = ask("/v1/query?metric=purchases&grain=1s").await?;
    assert_eq!((status, &answer["total"]["value"]), (200, &json!(3 + 4 + 2)), "{answer:#}");
    assert_eq!(answer["groups"][0]["points"].as_array().map(Vec::len), Some(3));
    assert_eq!(answer["total"]["state"], "provisional");
    let (_, answer) = ask("/v1/query?metric=items&grain=1s").await?;
    assert_eq!(answer["total"]["value"], "13.5", "{answer:#}");
    let gone = "from=2026-03-09T12:00:00Z&to=2026-03-09T12:01:00Z";
    let (status, problem) = ask(&format!("/v1/query?metric=purchases&grain=1s&{gone}")).await?;
    assert_eq!((status, &problem["parameter"]), (422, &json!("from")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("600 s") && detail.contains("1m")));
    // Nobody listens on port 9 of this machine; without Redis there is no answer, rather than a zero.
    let node = scene.serve(&scene.clickhouse, &stores::Redis { url: "redis://127.0.0.1:9/".to_owned() }).await?;
    for metric in ["purchases&grain=1s", "active"] {
        let (status, problem) = node.ask(&scene.read_key, &format!("/v1/query?metric={metric}")).await?;
        assert_eq!((status, &problem["type"]), (503, &json!("unavailable")), "{problem}");
    }
    Ok(())
}

#[tokio::test]
async fn the_most_frequent_values_come_with_their_bounds_from_the_fresher_store() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let other = scene.other_tenant();
    let pages = |counts: &[(&str, u64)]| {
        let names = counts.iter().flat_map(|(page, count)| (0..*count).map(move |_| (*page).to_owned()));
        names.collect::<Vec<String>>()
    };
    let rare: Vec<String> = (0..2_000).map(|page| format!("/product/{page}")).collect();
    // A settled day; an older state of what is in Redis; a partition that is in ClickHouse only; somebody else's.
    scene.top_in_clickhouse(&scene.tenant, "2026-03-07", 0, 3, &pages(&[("/", 5), ("/cart", 1)])).await?;
    scene.top_in_clickhouse(&scene.tenant, "2026-03-09", 0, 5, &pages(&[("/", 70)])).await?;
    scene.top_in_clickhouse(&scene.tenant, "2026-03-09", 1, 4, &pages(&[("/cart", 60), ("/help", 2)])).await?;
    scene.top_in_clickhouse(other, "2026-03-09", 0, 9, &pages(&[(CANARY, 1_000)])).await?;
    let newer = [pages(&[("/", 100), ("/sale", 50)]), rare].concat();
    scene.top_in_redis("2026-03-09", 0, 6, &newer).await?;

    let ask = async |rest: &str| {
        let path = format!("/v1/query?metric=pages&from=2026-03-07&to=2026-03-10&{rest}");
        node.ask(&scene.read_key, &path).await
    };
    let (status, answer) = ask("grain=1d").await?;
    assert_eq!((status, &answer["total"]["value"]), (200, &json!(5 + 1 + 62 + 150 + 2_000)), "{answer:#}");
    assert_eq!((&answer["total"]["state"], &answer["total"]["method"]), (&json!("provisional"), &json!("exact")));
    assert_eq!((&answer["truncated"], &answer["rollup"]), (&json!(true), &json!("page")));
    let groups = answer["groups"].as_array().cloned().unwrap_or_default();
    let found: Vec<_> = groups.iter().map(|group| group["dimensions"]["page"].as_str().unwrap_or_default()).collect();
    assert_eq!(found, ["/", "/cart", "/sale"], "{answer:#}");
    for (group, true_count) in groups.iter().zip([105, 61, 50]) {
        let number = |name: &str| group["total"][name].as_u64().unwrap_or_default();
        let (at_most, error_bound) = (number("value"), number("error_bound"));
        assert!((at_most - error_bound..=at_most).contains(&true_count), "{group:#}");
        assert!(0 < error_bound && error_bound < 20, "{group:#}");
        assert_eq!(
            (&group["total"]["method"], &group["total"]["state"]),
            (&json!("frequent_items"), &json!("provisional"))
        );
    }
    assert!(!answer.to_string().contains(CANARY));
    for (rest, parameter) in [("grain=1m", "grain"), ("grain=1d&by=page", "by"), ("grain=1d&filter=page:/", "filter")] {
        let (status, problem) = ask(rest).await?;
        assert_eq!((status, &problem["parameter"]), (422, &json!(parameter)), "{problem}");
    }
    Ok(())
}

#[tokio::test]
async fn sums_of_a_property_are_decimal_and_settled_like_money() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let path = "/v1/query?metric=items&from=2026-03-07&to=2026-03-10&grain=1d";
    let (_, answer) = node.ask(&scene.read_key, path).await?;
    // One and a half per purchase: 100 settled, 100 restated, 15 provisional.
    assert_eq!((&answer["total"]["value"], &answer["unit"]), (&json!("322.5"), &json!("quantity")), "{answer:#}");
    assert_eq!(answer["groups"][0]["points"][0]["number"]["value"], "150");
    scene.flush_to_redis(6, 550).await?;
    let (_, answer) = node.ask(&scene.read_key, path).await?;
    assert_eq!(answer["total"]["value"], "324");
    let (_, catalog) = node.ask(&scene.read_key, "/v1/catalog").await?;
    let metrics = catalog["metrics"].as_array().cloned().unwrap_or_default();
    let items = metrics.iter().find(|metric| metric["name"] == "items").cloned().unwrap_or_default();
    assert_eq!((&items["measure"], &items["property"]), (&json!("sum"), &json!("quantity")));
    Ok(())
}
