//! The sketch against the servers that have to read it as their own: Redis and ClickHouse.

use anyhow::{Context, Result, ensure};
use clickhouse::Row;
use reckon_schemas::sketch::{HASHES_MAX, Sketch, hash_user};
use reckon_tests::Stack;
use redis::AsyncTypedCommands;
use redis::aio::MultiplexedConnection;
use serde::{Serialize, Serializer};
use std::ops::Range;
use std::sync::LazyLock;
use uuid::Uuid;

/// Around every switch: ClickHouse's forms at 16 and 512, Redis's sparse form up to some 1,650 users.
const SIZES: [u64; 17] =
    [0, 1, 2, 15, 16, 17, 127, 128, 511, 512, 513, 1_000, 1_600, 1_700, 10_000, 100_000, 10_000_000];

/// Sizes whose users can be sent to a server one by one.
const SIZES_TO_SEND: usize = 16;

/// One sketch for each of `SIZES`, filled in one pass.
static SKETCHES: LazyLock<Vec<(u64, Sketch)>> = LazyLock::new(|| {
    let (mut sketch, mut users) = (Sketch::new(), 0);
    let filled = SIZES.iter().map(|size| {
        insert(&mut sketch, users..*size);
        users = *size;
        (users, sketch.clone())
    });
    filled.collect()
});

fn user(number: u64) -> String {
    format!("household-{number}")
}

fn insert(sketch: &mut Sketch, users: Range<u64>) {
    users.for_each(|number| sketch.insert(user(number).as_bytes()));
}

fn sketch_of(users: Range<u64>) -> Sketch {
    let mut sketch = Sketch::new();
    insert(&mut sketch, users);
    sketch
}

/// The same users as registers: what is left of them once a server has turned hashes into registers.
fn as_registers(sketch: &Sketch) -> Result<Sketch> {
    Ok(Sketch::from_redis(&sketch.to_redis())?)
}

async fn redis_connection() -> Result<MultiplexedConnection> {
    let client = redis::Client::open(Stack::shared()?.redis.as_str())?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// A key of this run alone, gone by itself even when the test fails before it cleans up.
async fn set(redis: &mut MultiplexedConnection, value: &[u8]) -> Result<String> {
    let key = format!("contract:sketch:{}", Uuid::now_v7());
    redis.set_ex(&key, value, 300).await?;
    Ok(key)
}

async fn get(redis: &mut MultiplexedConnection, key: &str) -> Result<Sketch> {
    let bytes: Vec<u8> = redis::cmd("GET").arg(key).query_async(redis).await?;
    Ok(Sketch::from_redis(&bytes)?)
}

/// `PFADD` of plain user ids, as anybody else would do it.
async fn add(redis: &mut MultiplexedConnection, key: &str, users: Range<u64>) -> Result<()> {
    let users: Vec<_> = users.map(user).collect();
    for batch in users.chunks(1_000) {
        redis::cmd("PFADD").arg(key).arg(batch).exec_async(redis).await?;
    }
    Ok(())
}

#[tokio::test]
async fn redis_counts_the_users_we_count() -> Result<()> {
    let mut redis = redis_connection().await?;
    for (users, sketch) in SKETCHES.iter() {
        let key = set(&mut redis, &sketch.to_redis()).await?;
        let counted: u64 = redis::cmd("PFCOUNT").arg(&key).query_async(&mut redis).await?;
        assert_eq!(counted, as_registers(sketch)?.estimate(), "{users} users");
        if *users > HASHES_MAX as u64 {
            assert_eq!(counted, sketch.estimate(), "{users} users");
        } else {
            assert_eq!(sketch.estimate(), *users);
        }
        let off = counted.abs_diff(*users);
        assert!(off as f64 <= 0.0243 * *users as f64, "{users} users, Redis counts {counted}");
    }
    Ok(())
}

#[tokio::test]
async fn redis_unites_our_users_with_those_it_was_given() -> Result<()> {
    let mut redis = redis_connection().await?;
    for (users, ours) in SKETCHES.iter().take(SIZES_TO_SEND) {
        // A third of the added users are known.
        let added = users * 2 / 3..users * 5 / 3 + 1;
        let mut union = as_registers(ours)?;
        insert(&mut union, added.clone());

        let theirs = set(&mut redis, &Sketch::new().to_redis()).await?;
        add(&mut redis, &theirs, added.clone()).await?;
        let read = get(&mut redis, &theirs).await?;
        assert_eq!(read, as_registers(&sketch_of(added.clone()))?, "PFADD alone, {users} users");

        let key = set(&mut redis, &ours.to_redis()).await?;
        let merged = set(&mut redis, &Sketch::new().to_redis()).await?;
        let keys = [&merged, &key, &theirs];
        redis::cmd("PFMERGE").arg(&keys[..]).exec_async(&mut redis).await?;
        assert_eq!(get(&mut redis, &merged).await?, union, "PFMERGE, {users} users");

        let both: u64 = redis::cmd("PFCOUNT").arg(&keys[1..]).query_async(&mut redis).await?;
        assert_eq!(both, union.estimate(), "PFCOUNT of two keys, {users} users");

        add(&mut redis, &key, added).await?;
        assert_eq!(get(&mut redis, &key).await?, union, "PFADD to ours, {users} users");
    }
    Ok(())
}

/// A `String` column holds the state; what reads it casts it.
const STATE: &str = "CAST(users, 'AggregateFunction(uniqCombined64(14), UInt64)')";

#[derive(Row, Serialize)]
struct StoredSketch {
    size: u64,
    partition: u32,
    users: State,
}

struct State(Vec<u8>);

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[derive(Row, Serialize)]
struct Number {
    number: u64,
}

/// A client and a table of this test alone.
async fn clickhouse_table(columns: &str) -> Result<(clickhouse::Client, String)> {
    let client = clickhouse::Client::default().with_url(Stack::shared()?.clickhouse.as_str());
    let table = format!("contract_sketch_{}", Uuid::now_v7().simple());
    let create = format!("CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY tuple()");
    client.query(&create).execute().await.with_context(|| create)?;
    Ok((client, table))
}

/// The union of the stored states of one size, as ClickHouse counts it and as a sketch again.
async fn union_of(client: &clickhouse::Client, table: &str, size: u64) -> Result<(u64, Sketch)> {
    let select = |aggregate: &str| format!("SELECT {aggregate} FROM {table} WHERE size = {size}");
    let count = client.query(&select(&format!("uniqCombined64Merge(14)({STATE})")));
    let counted = count.fetch_one::<u64>().await?;
    let state = select(&format!("CAST(uniqCombined64MergeState(14)({STATE}), 'String')"));
    let bytes = client.query(&state).fetch_bytes("RawBLOB")?.collect().await?;
    Ok((counted, Sketch::from_clickhouse(&bytes)?))
}

/// ClickHouse corrects for empty registers in its own way, so that its number may differ by a little.
fn ensure_near(counted: u64, sketch: &Sketch) -> Result<()> {
    let estimate = sketch.estimate();
    let near = counted.abs_diff(estimate) as f64 <= 0.01 * estimate as f64;
    ensure!(near, "ClickHouse counts {counted}, the sketch {estimate}");
    Ok(())
}

#[tokio::test]
async fn clickhouse_counts_the_users_we_count() -> Result<()> {
    let (client, table) = clickhouse_table("size UInt64, partition UInt32, users String").await?;
    let mut insert = client.insert::<StoredSketch>(&table).await?;
    for (size, sketch) in SKETCHES.iter() {
        let users = State(sketch.to_clickhouse());
        insert.write(&StoredSketch { size: *size, partition: 0, users }).await?;
    }
    insert.end().await?;
    for (size, sketch) in SKETCHES.iter() {
        let (counted, read) = union_of(&client, &table, *size).await?;
        if *size <= HASHES_MAX as u64 {
            assert_eq!(counted, *size);
        }
        ensure_near(counted, sketch)?;
        assert_eq!(&read, sketch, "{size} users");
    }
    client.query(&format!("DROP TABLE {table}")).execute().await?;
    Ok(())
}

#[tokio::test]
async fn clickhouse_unites_the_states_of_partitions() -> Result<()> {
    let (client, table) = clickhouse_table("size UInt64, partition UInt32, users String").await?;
    let mut insert = client.insert::<StoredSketch>(&table).await?;
    let mut unions = Vec::new();
    for (index, (left, ours)) in (0_u64..).zip(SKETCHES.iter()) {
        for (right, theirs) in [(0, 0..0), (1, 5..9), (2, 10..330), (3, 300..2_000)] {
            let size = index * 10 + right;
            let theirs = sketch_of(theirs);
            for (partition, sketch) in [(0, ours), (1, &theirs)] {
                let users = State(sketch.to_clickhouse());
                insert.write(&StoredSketch { size, partition, users }).await?;
            }
            let mut union = ours.clone();
            union.merge(&theirs);
            unions.push((size, *left, union));
        }
    }
    insert.end().await?;
    for (size, left, union) in unions {
        let (counted, read) = union_of(&client, &table, size).await?;
        ensure_near(counted, &union).with_context(|| format!("{left} users and others"))?;
        // ClickHouse may go over to registers a little earlier, at a repeated hash.
        assert_eq!(as_registers(&read)?, as_registers(&union)?, "{left} users and others");
    }
    client.query(&format!("DROP TABLE {table}")).execute().await?;
    Ok(())
}

#[tokio::test]
async fn states_that_clickhouse_fills_itself_are_the_same() -> Result<()> {
    let (client, table) = clickhouse_table("number UInt64").await?;
    let users = SIZES[SIZES_TO_SEND - 1];
    let numbers: Vec<_> = (0..users).map(|number| before_clickhouse_hash(hash_user(user(number).as_bytes()))).collect();
    let mut insert = client.insert::<Number>(&table).await?;
    for number in &numbers {
        insert.write(&Number { number: *number }).await?;
    }
    insert.end().await?;
    for (size, sketch) in SKETCHES.iter().take(SIZES_TO_SEND) {
        // `ORDER BY tuple()` keeps the order of insertion within the one part there is.
        let select = format!(
            "SELECT CAST(uniqCombined64State(14)(number), 'String') \
             FROM (SELECT number FROM {table} LIMIT {size}) SETTINGS max_threads = 1"
        );
        let bytes = client.query(&select).fetch_bytes("RawBLOB")?.collect().await?;
        assert_eq!(&Sketch::from_clickhouse(&bytes)?, sketch, "{size} users");
    }
    client.query(&format!("DROP TABLE {table}")).execute().await?;
    Ok(())
}

/// Hashes that no user may ever have: the one that an empty slot of a hash table looks like, and those
/// with the highest rank, for which Redis has no sparse form.
#[tokio::test]
async fn extreme_hashes_are_read_like_any_other() -> Result<()> {
    let mut redis = redis_connection().await?;
    let (client, table) = clickhouse_table("size UInt64, partition UInt32, users String").await?;
    let mut insert = client.insert::<StoredSketch>(&table).await?;
    let mut sketches = Vec::new();
    for size in [3, 30, 3_000] {
        let mut sketch = sketch_of(3..size);
        for hash in [0, 1, u64::MAX] {
            sketch.insert_hash(hash);
        }
        let key = set(&mut redis, &sketch.to_redis()).await?;
        let counted: u64 = redis::cmd("PFCOUNT").arg(&key).query_async(&mut redis).await?;
        assert_eq!(counted, as_registers(&sketch)?.estimate(), "{size} hashes");
        let users = State(sketch.to_clickhouse());
        insert.write(&StoredSketch { size, partition: 0, users }).await?;
        sketches.push((size, sketch));
    }
    insert.end().await?;
    for (size, sketch) in sketches {
        let (counted, read) = union_of(&client, &table, size).await?;
        ensure_near(counted, &sketch)?;
        assert_eq!(read, sketch, "{size} hashes");
    }
    client.query(&format!("DROP TABLE {table}")).execute().await?;
    Ok(())
}

/// The number that ClickHouse's `intHash64`, which it applies to every `UInt64` that it counts, turns
/// into this hash. `intHash64` is a bijection: three shifts and two multiplications, undone in turn.
fn before_clickhouse_hash(hash: u64) -> u64 {
    let unshift = |x: u64| x ^ x >> 33;
    let first = unshift(hash).wrapping_mul(inverse(0xc4ce_b9fe_1a85_ec53));
    unshift(unshift(first).wrapping_mul(inverse(0xff51_afd7_ed55_8ccd)))
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the right bits.
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |x, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x))))
}
