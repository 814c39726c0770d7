//! Who may do what: keys, people, sessions, bounds, the audit log and what people save, on SQLite and on PostgreSQL.

mod alerts;
mod audit;
mod away;
mod boards;
mod canary;
mod collector;
mod keys;
mod migrations;
mod people;
mod provider;
mod quotas;
mod scene;
mod streams;
mod tenants;

/// The same test on both stores.
macro_rules! on_both_stores {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() -> anyhow::Result<()> {
                super::$test(super::Database::sqlite()?).await
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $test() -> anyhow::Result<()> {
                super::$test(super::Database::postgres().await?).await
            })+
        }
    };
}
pub(crate) use on_both_stores;
