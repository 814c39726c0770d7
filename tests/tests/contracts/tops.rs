//! The most frequent values: exact once a day is settled, and until then as exact as the answer says.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reckon_tests::books::{Books, TUNING, day, purchases};
use reckon_tests::purchases::Purchase;
use reckon_tests::{Stack, World};
use serde_json::Value;

/// Store and purchases: the most first, and among equals in the order of the stores.
fn expected<'a>(purchases: impl Iterator<Item = &'a Purchase>) -> Vec<(String, u64)> {
    let mut stores = BTreeMap::<String, u64>::new();
    purchases.for_each(|purchase| *stores.entry(purchase.store.clone()).or_default() += 1);
    let mut stores: Vec<_> = stores.into_iter().collect();
    stores.sort_by(|(store, count), (other, other_count)| other_count.cmp(count).then_with(|| store.cmp(other)));
    stores.truncate(3);
    stores
}

fn found(answer: &Value) -> Vec<(String, u64)> {
    let groups = answer["groups"].as_array().cloned().unwrap_or_default();
    let store = |group: &Value| group["dimensions"]["store"].as_str().unwrap_or_default().to_owned();
    groups.iter().map(|group| (store(group), group["total"]["value"].as_u64().unwrap_or_default())).collect()
}

/// Every number of the groups says this of itself.
fn assert_said(answer: &Value, method: &str, state: &str) -> Result<()> {
    for group in answer["groups"].as_array().context("groups")? {
        let total = &group["total"];
        ensure!(total["method"] == method && total["state"] == state && total["error_bound"] == 0, "{answer:#}");
    }
    Ok(())
}

async fn ask(books: &Books, from: &str, to: &str, grain: &str) -> Result<Value> {
    let path = format!("/v1/query?metric=stores&grain={grain}&from={from}&to={to}");
    books.world.query(&path).await
}

/// 200 purchases, one every seven minutes, from three days ago on; the first fifty are delivered twice.
async fn settled() -> Result<(Books, jiff::Timestamp, String)> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    let from = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_hours(72))?;
    let past = purchases(0x5eed_4501, 200, &from.to_string(), 7);
    books.send(&past).await?;
    books.send(&past[..50]).await?;
    books.sent.truncate(past.len());
    let run = books.nightly()?["reports"][0]["run_id"].as_str().context("a run")?.to_owned();
    Ok((books, from, run))
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_ones_are_exact_and_a_range_of_both_layers_says_which_part_is() -> Result<()> {
    let (mut books, from, _) = settled().await?;
    let _serving = books.world.start_serving().await?;
    let first_day = day(&books.sent[0]);
    let until = from.checked_add(jiff::SignedDuration::from_hours(5))?;
    for (grain, to) in [("1d", until), ("1h", until), ("5m", until)] {
        let answer = ask(&books, &from.to_string(), &to.to_string(), grain).await?;
        // The answer is widened to whole windows, and says to which.
        let border = |name: &str| -> Result<i64> {
            Ok(answer[name].as_str().context("an instant")?.parse::<jiff::Timestamp>()?.as_microsecond())
        };
        let range = border("from")?..border("to")?;
        let expected = expected(books.sent.iter().filter(|purchase| range.contains(&purchase.at_us)));
        ensure!(found(&answer) == expected, "{grain}: {expected:?} {answer:#}");
        assert_said(&answer, "exact", "settled")?;
        ensure!(answer["truncated"] == true && answer["groups"][0]["total"]["run_id"].is_string(), "{answer:#}");
        ensure!(answer["coverage"][0]["layer"] == "batch", "{answer:#}");
    }
    // Today is not over: what the speed layer has of it comes from its sketch.
    let now = jiff::Timestamp::now();
    let today = |number: i32| Purchase {
        id: format!("today-{number}"),
        at_us: now.as_microsecond() - 1,
        store: "9".to_owned(),
        ..books.sent[0].clone()
    };
    let today: Vec<Purchase> = (0..300).map(today).collect();
    books.send(&today).await?;
    let all = expected(books.sent.iter());
    ensure!(all[0] == ("9".to_owned(), 300), "{all:?}");
    let tomorrow = now.checked_add(jiff::SignedDuration::from_hours(24))?.to_string();
    reckon_tests::until("today's purchases", std::time::Duration::from_secs(60), || async {
        Ok(found(&ask(&books, &first_day, &tomorrow, "1d").await?) == all)
    })
    .await?;
    let answer = ask(&books, &first_day, &tomorrow, "1d").await?;
    assert_said(&answer, "frequent_items", "provisional")?;
    let parts = answer["groups"][1]["parts"].as_array().context("parts")?;
    let said: Vec<(&Value, &Value)> = parts.iter().map(|part| (&part["layer"], &part["number"]["method"])).collect();
    ensure!(said == [(&"batch".into(), &"exact".into()), (&"speed".into(), &"frequent_items".into())], "{answer:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_verified_with_its_most_frequent_values() -> Result<()> {
    let (books, _, run) = settled().await?;
    let good = books.run(0, &["verify", "--run", &run])?;
    ensure!(good["wrong"] == 0, "{good}");
    let own = format!("WHERE tenant = '{}' AND grain = '1h'", books.world.tenant);
    books.tamper(&format!("ALTER TABLE settled_tops_raw UPDATE counts = arrayMap(c -> c + 1, counts) {own}")).await?;
    let tampered = books.run(13, &["verify", "--run", &run])?;
    let findings = tampered["verifications"][0]["findings"].as_array().cloned().unwrap_or_default();
    ensure!(!findings.is_empty() && findings.iter().all(|finding| finding["what"] == "top"), "{tampered}");
    Ok(())
}
