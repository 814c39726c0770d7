//! Who may do what: keys, people, sessions, bounds, the audit log and what people save, on SQLite and on PostgreSQL.

mod away;
mod boards;
mod canary;
mod collector;
mod keys;
mod people;
mod provider;
mod quotas;
mod scene;

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
