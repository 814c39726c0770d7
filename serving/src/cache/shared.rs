//! Answers that all nodes share, in Redis: one of them computes, the others wait for it, at most for as long as a lock
//! lives. A node that was paused while it computed writes nothing over what a later one has written: its fence is lower.

use std::io::Read;
use std::time::Duration;

use reckon_schemas::redis_keys;
use redis::Script;
use uuid::Uuid;

use super::entry::{Entry, Key};
use crate::stores::StoreError;
use crate::stores::redis::Redis;
use crate::tuning::Tuning;

/// Gives the entry if it is another than the one that the caller knows already, else the lock with a fence if it is free.
const LOOK: &str = r"
local known = tonumber(string.match(redis.call('GETRANGE', KEYS[1], 0, 20), '^%d+') or '0')
if known ~= 0 and known ~= tonumber(ARGV[3]) then return {redis.call('GET', KEYS[1]), false} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {false, redis.call('INCR', KEYS[3])} end
return {false, false}";

/// Keeps an entry unless one with a higher fence is there, makes room for it, and gives the lock back.
const PUT: &str = r"
local known = tonumber(string.match(redis.call('GETRANGE', KEYS[1], 0, 20), '^%d+') or '0')
if known <= tonumber(ARGV[1]) and tonumber(ARGV[4]) > 0 then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
  redis.call('ZADD', KEYS[4], ARGV[5], KEYS[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[6])
  while redis.call('ZCARD', KEYS[4]) > tonumber(ARGV[7]) do redis.call('DEL', redis.call('ZPOPMIN', KEYS[4])[1]) end
  redis.call('PEXPIRE', KEYS[4], ARGV[8])
end
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end
return 1";

const RELEASE: &str = r"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1";

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    redis: Redis,
    lock: Duration,
    entries_max: usize,
    entry_bytes_max: usize,
    index_life: Duration,
}

/// What there is.
pub(crate) enum Looked {
    /// An entry, and its fence to look on with if it is no good.
    Entry(Box<Entry>, i64),
    /// Something that this build cannot read.
    Unreadable(i64),
    /// Nothing, and the right to compute it.
    Lease(Lease),
    /// Nothing yet: another node computes it.
    Wait,
}

/// The right to compute an answer. Who computed without one writes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    owner: String,
    fence: i64,
}

impl Shared {
    pub(crate) fn new(redis: Redis, tuning: &Tuning) -> Self {
        let lives = [tuning.cache_settled, tuning.cache_history, tuning.cache_recent, tuning.cache_moving];
        Self {
            redis,
            lock: tuning.cache_lock,
            entries_max: tuning.cache_entries_max,
            entry_bytes_max: tuning.cache_entry_bytes_max,
            index_life: lives.into_iter().max().unwrap_or_default() * 2,
        }
    }

    /// Looks for an entry other than the one whose fence is `known` (0: any).
    ///
    /// # Errors
    /// Redis is away.
    pub(crate) async fn look(&self, key: &Key, known: i64) -> Result<Looked, StoreError> {
        let owner = Uuid::new_v4().to_string();
        let script = Script::new(LOOK);
        let mut look = script.key(entry_key(key));
        look.key(lock_key(key)).key(redis_keys::cache_fence(&key.tenant));
        look.arg(&owner).arg(millis(self.lock)).arg(known);
        let (found, fence) = self.redis.run::<(Option<Vec<u8>>, Option<i64>)>(&look).await?;
        Ok(match (found, fence) {
            (Some(bytes), _) => decode(&bytes),
            (None, Some(fence)) => Looked::Lease(Lease { owner, fence }),
            (None, None) => Looked::Wait,
        })
    }

    /// Keeps what was computed under a lease for as long as it lives.
    ///
    /// # Errors
    /// Redis is away.
    pub(crate) async fn put(
        &self,
        key: &Key,
        lease: &Lease,
        entry: &Entry,
        now: jiff::Timestamp,
    ) -> Result<(), StoreError> {
        let Some(bytes) = encode(lease.fence, entry).filter(|bytes| bytes.len() <= self.entry_bytes_max) else {
            return self.release(key, lease).await;
        };
        let script = Script::new(PUT);
        let mut put = script.key(entry_key(key));
        put.key(lock_key(key)).key(redis_keys::cache_fence(&key.tenant)).key(redis_keys::cache_index(&key.tenant));
        put.arg(lease.fence).arg(&lease.owner).arg(bytes).arg(millis(entry.left(now))).arg(entry.until_ms);
        put.arg(now.as_millisecond()).arg(self.entries_max).arg(millis(self.index_life));
        self.redis.run::<i64>(&put).await.map(|_| ())
    }

    /// Lets somebody else compute.
    ///
    /// # Errors
    /// Redis is away.
    pub(crate) async fn release(&self, key: &Key, lease: &Lease) -> Result<(), StoreError> {
        let script = Script::new(RELEASE);
        let mut release = script.key(lock_key(key));
        release.arg(&lease.owner);
        self.redis.run::<i64>(&release).await.map(|_| ())
    }
}

fn entry_key(key: &Key) -> String {
    redis_keys::cache_entry(&key.tenant, &key.hash)
}

fn lock_key(key: &Key) -> String {
    redis_keys::cache_lock(&key.tenant, &key.hash)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The fence in digits, a space, and the entry as compressed JSON.
fn encode(fence: i64, entry: &Entry) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(entry).ok()?;
    let mut bytes = format!("{fence} ").into_bytes();
    bytes.extend(zstd::bulk::compress(&json, 1).ok()?);
    Some(bytes)
}

/// More than any answer is; what claims to be more is not ours.
const JSON_BYTES_MAX: u64 = 256 << 20;

fn decode(bytes: &[u8]) -> Looked {
    let space = bytes.iter().position(|byte| *byte == b' ').unwrap_or(0);
    let fence = std::str::from_utf8(&bytes[..space]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let json = bytes.get(space + 1..).and_then(|bytes| decompressed(bytes, JSON_BYTES_MAX));
    match json.and_then(|json| serde_json::from_slice(&json).ok()) {
        Some(entry) => Looked::Entry(Box::new(entry), fence),
        None => Looked::Unreadable(fence),
    }
}

/// `None` if it cannot be read, or is longer than `bytes_max`: a few bytes may stand for many.
fn decompressed(bytes: &[u8], bytes_max: u64) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    zstd::stream::read::Decoder::new(bytes).ok()?.take(bytes_max + 1).read_to_end(&mut all).ok()?;
    (all.len() as u64 <= bytes_max).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_bounded_by_what_comes_out() {
        let bytes = zstd::bulk::compress(&[b' '; 100_000], 1).expect("compresses");
        assert!(bytes.len() < 1_000, "{}", bytes.len());
        assert_eq!(decompressed(&bytes, 100_000).map(|all| all.len()), Some(100_000));
        assert_eq!(decompressed(&bytes, 99_999), None);
        assert_eq!(decompressed(b"something else", 100_000), None);
    }
}
