//! A worker's ways to the two stores, through proxies: to hold or to lose what goes over them.

use anyhow::Result;

use super::PATIENCE;
use crate::proxy::{Direction, Proxy, Way};
use crate::{Member, World, until};

/// Both ways.
pub struct Via {
    pub redis: Proxy,
    pub clickhouse: Proxy,
    redis_url: String,
    clickhouse_url: String,
}

impl Via {
    /// Proxies in front of a world's stores.
    pub async fn open(world: &World) -> Result<Self> {
        let (redis, redis_url) = Proxy::before(&world.redis.url).await?;
        let (clickhouse, clickhouse_url) = Proxy::before(&world.clickhouse.url).await?;
        Ok(Self { redis, clickhouse, redis_url, clickhouse_url })
    }

    /// A worker that goes through them.
    pub fn member(&self, name: impl Into<String>) -> Member {
        Member {
            name: name.into(),
            redis: Some(self.redis_url.clone()),
            clickhouse: Some(self.clickhouse_url.clone()),
            variables: vec![],
        }
    }

    /// Changes one direction of both.
    pub fn set(&self, direction: Direction, way: Way) {
        self.redis.set(direction, way);
        self.clickhouse.set(direction, way);
    }

    /// Waits until something is held on the way to, or from, both stores.
    pub async fn until_held(&self, direction: Direction) -> Result<()> {
        until("something on its way to or from both stores", PATIENCE, || async {
            Ok(self.redis.held(direction) > 0 && self.clickhouse.held(direction) > 0)
        })
        .await
    }

    /// Ends the connections of a worker that is gone, and lets the next one through.
    pub fn reset(&self) {
        for proxy in [&self.redis, &self.clickhouse] {
            proxy.close_connections();
            proxy.set(Direction::Requests, Way::Open);
            proxy.set(Direction::Answers, Way::Open);
        }
    }
}
