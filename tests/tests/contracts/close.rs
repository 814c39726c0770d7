//! A month is closed, disturbed by late events, adjusted, verified, tampered with, and opened again.

use anyhow::{Context, Result, ensure};
use reckon_tests::books::{Books, PERIOD, TUNING, day, micros, purchases};
use reckon_tests::purchases::{Purchase, sums};
use reckon_tests::{Stack, World};
use serde_json::Value;

/// A month from its second day on, and the first days of the next one.
fn a_month() -> Vec<Purchase> {
    purchases(0x5eed_4001, 1_000, "2026-03-02T15:00:00Z", 48)
}

fn march(purchases: &[Purchase]) -> Vec<Purchase> {
    purchases.iter().filter(|purchase| day(purchase).starts_with(PERIOD)).cloned().collect()
}

async fn closed_march() -> Result<Books> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    books.send(&a_month()).await?;
    books.nightly()?;
    books.run_for_tenant(0, &["close", "--period", PERIOD, "--sign-off", "Ada Lovelace"])?;
    Ok(books)
}

/// A ledger without a row.
const LEDGER_HEAD: &str = "balance_transaction_id,created_utc,currency,gross,reporting_category,\
                           payment_metadata[event_id],refund_metadata[event_id]\n";

fn late() -> Vec<Purchase> {
    purchases(0x5eed_4003, 5, "2026-03-20T16:00:00Z", 60)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_closed_when_its_checklist_is_done() -> Result<()> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    books.send(&a_month()).await?;
    let close = ["close", "--period", PERIOD, "--sign-off", "Ada Lovelace"];
    let open = |answer: &Value, name: &str| {
        let items = answer["checklist"]["items"].as_array().cloned().unwrap_or_default();
        items.iter().find(|item| item["name"] == name).map_or(Value::Null, |item| item["open"].clone())
    };
    let refused = books.run_for_tenant(12, &close)?;
    ensure!(refused["closed"] == false && open(&refused, "settled") == 31, "{refused}");
    books.run_for_tenant(11, &["final", "--date", "2026-03-15"])?;
    books.nightly()?;
    let gate = books.run_for_tenant(0, &["final", "--date", "2026-03-15"])?;
    ensure!(gate["final"] == true && gate["state"] == "settled", "{gate}");
    let tomorrow = jiff::Zoned::now().date().tomorrow()?.to_string();
    books.run_for_tenant(11, &["final", "--date", &tomorrow, "--wait", "2s"])?;
    ensure!(books.world.run(&["final", "--date", "2026-03-15", "--tenant", "nobody"])?.code == 78);

    // Late events before the close: the day is restated, and what changed is on record.
    let before = books.settled_days().await?;
    books.send(&purchases(0x5eed_4002, 3, "2026-03-10T16:00:00Z", 60)).await?;
    let refused = wait_until_refused(&books, &close, "unchanged").await?;
    ensure!(refused["reason"].as_str().is_some_and(|text| text.contains("2026-03-10")), "{refused}");
    books.nightly()?;
    let after = books.settled_days().await?;
    ensure!(after == Books::expected_days(&books.sent), "{after:?}");
    assert_changes(&books.rows("changes")?, &before["2026-03-10"], &after["2026-03-10"])?;
    let csv = books.world.run(&["changes", "--tenant", &books.world.tenant, "--format", "csv"])?;
    ensure!(csv.stdout.lines().count() == books.rows("changes")?.len() + 1, "{}", csv.stdout);
    ensure!(csv.stdout.ends_with("\r\n"), "the CSV of every other export: {:?}", csv.stdout);

    // An unexplained cell stops a close, until somebody accepts it and says why.
    let first = "WHERE tenant = '{t}' AND day = '2026-03-05'".replace("{t}", &books.world.tenant);
    books.tamper(&format!("ALTER TABLE settlements UPDATE residual_cells = 2 {first}")).await?;
    let refused = books.run_for_tenant(12, &close)?;
    ensure!(open(&refused, "residuals") == 2 && open(&refused, "settled") == 0, "{refused}");
    let accepted = [close.as_slice(), &["--accept", "two cells of a known outage"]].concat();
    let closed = books.run_for_tenant(0, &accepted)?;
    ensure!(closed["closing"]["days"] == 31 && closed["closing"]["signed_by"] == "Ada Lovelace", "{closed}");
    let reason: String =
        books.world.clickhouse_client().query("SELECT reason FROM periods WHERE action = 'closed'").fetch_one().await?;
    ensure!(reason == "two cells of a known outage");
    ensure!(books.world.run(&[accepted.as_slice(), &["--tenant", &books.world.tenant]].concat())?.code == 99);
    let states = books.states().await?;
    ensure!(states.iter().all(|(day, state, ..)| (state == "closed") == day.starts_with(PERIOD)), "{states:?}");
    ensure!(states[0].0 == "2026-03-01", "the day before the first event is closed with the others");

    // Everybody who asks is told.
    let _serving = books.world.start_serving().await?;
    let answer = books.world.query("/v1/query?metric=revenue&grain=1d&from=2026-03-05&to=2026-03-20").await?;
    ensure!(answer["total"]["state"] == "closed", "{answer}");
    reckon_tests::lists::assert_listed(&books.world, &books.rows("changes")?).await
}

/// Deliveries that contradict each other and a ledger that does not agree are for a person to judge, before the month is
/// locked; a conflict that a later run found anew is still one.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_and_open_breaks_stop_a_close() -> Result<()> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    let month = a_month();
    books.send(&month).await?;
    let mut other = month[100].clone();
    other.cents += 1;
    reckon_tests::counted::produce(&books.world, &[other]).await?;
    books.nightly()?;
    let listed: Vec<(String, String, String)> = books
        .world
        .clickhouse_client()
        .query("SELECT event_id, first_content, other_content FROM conflicts")
        .fetch_all()
        .await?;
    ensure!(listed.len() == 1 && listed[0].0 == month[100].id && listed[0].1 != listed[0].2, "{listed:?}");
    books.run(0, &["nightly", "--full"])?;

    let ledger = books.world.config().with_file_name("payments.csv");
    std::fs::write(&ledger, LEDGER_HEAD)?;
    let (from, to) = (day(&month[0]), "2026-03-03");
    let mapping = reckon_tests::stack::repository().join("deploy/ledgers/stripe.toml");
    let (ledger, mapping) = (ledger.to_str().context("UTF-8")?, mapping.to_str().context("UTF-8")?);
    let tied = ["tie-out", "--ledger", ledger, "--mapping", mapping, "--from", &from, "--to", to];
    let breaks = books.run_for_tenant(21, &tied)?["breaks"].as_u64().context("breaks")?;
    ensure!(breaks > 10, "every purchase of two days is missing there: {breaks}");

    let refused = books.run_for_tenant(12, &["close", "--period", PERIOD, "--sign-off", "Ada Lovelace"])?;
    let items = refused["checklist"]["items"].as_array().context("items")?;
    let open: Vec<_> =
        items.iter().filter(|item| item["open"] != 0).map(|item| (&item["name"], &item["open"])).collect();
    let (conflicts, ledger_breaks) = (Value::from("conflicts"), Value::from("ledger_breaks"));
    let expected = [(&conflicts, &Value::from(1)), (&ledger_breaks, &Value::from(breaks))];
    ensure!(open == expected, "{refused}");
    Ok(())
}

/// The archive needs a moment; then the close has to notice what it brought.
async fn wait_until_refused(books: &Books, close: &[&str], name: &str) -> Result<Value> {
    let limit = std::time::Duration::from_secs(30);
    reckon_tests::until("the late events in the lake", limit, || async {
        let archived = reckon_tests::lake::archived_offsets(&books.world, reckon_schemas::lake::EVENTS_TABLE).await?;
        Ok(archived.values().map(Vec::len).sum::<usize>() == books.sent.len())
    })
    .await?;
    let refused = books.run_for_tenant(12, close)?;
    let items = refused["checklist"]["items"].as_array().context("items")?;
    let open: Vec<_> = items.iter().filter(|item| item["open"] != 0).map(|item| item["name"].clone()).collect();
    ensure!(open == [name], "{refused}");
    Ok(refused)
}

/// The total's row of the day says what both settlements said.
fn assert_changes(
    changes: &[Value],
    before: &reckon_tests::purchases::Sums,
    after: &reckon_tests::purchases::Sums,
) -> Result<()> {
    ensure!(changes.iter().all(|change| change["day"] == "2026-03-10" && change["reason"] == "late_events"));
    let of = |measure: &str| {
        let found = changes.iter().find(|change| change["rollup"] == "total" && change["measure"] == measure);
        found.with_context(|| format!("no change of {measure}: {changes:?}"))
    };
    let dollars = |cents: i128| format!("{}.{:02}", cents / 100, cents % 100);
    let money = of("money")?;
    ensure!(money["before"] == dollars(before.cents) && money["after"] == dollars(after.cents), "{money}");
    let count = of("count")?;
    let texts = [before.count, after.count].map(|count| Value::from(count.to_string()));
    ensure!([count["before"].clone(), count["after"].clone()] == texts, "{count}");
    ensure!(changes.iter().any(|change| change["rollup"] == "department"), "{changes:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn late_events_of_a_closed_month_are_adjustments_once_each() -> Result<()> {
    let mut books = closed_march().await?;
    let (settled, states) = (books.settled_days().await?, books.states().await?);
    let again = march(&books.sent)[..20].to_vec();
    books.send(&[late(), again, late()].concat()).await?;
    let report = books.nightly()?;
    ensure!(report["adjusted"][0]["events"] == 5 && report["settled"] == 0, "{report}");

    // Closed numbers stay; what came is dated today, with a reference to where it belongs.
    ensure!(books.settled_days().await? == settled && books.states().await? == states);
    assert_adjusted(&books, &late()).await?;
    let rows = books.rows("adjustments")?;
    ensure!(rows.iter().all(|row| row["day"] == "2026-03-20" && row["period"] == PERIOD && row["in_force"] == true));
    ensure!(rows.iter().all(|row| row["posted_day"].as_str() > Some("2026-04")), "{rows:?}");

    assert_told(&books).await?;

    // Whatever is cut short or run again: each event once.
    ensure!(books.world.run(&["nightly"])?.code == 99);
    let tenant = &books.world.tenant;
    books.tamper(&format!("ALTER TABLE periods DELETE WHERE tenant = '{tenant}' AND action = 'adjusted'")).await?;
    books.world.run(&["nightly"])?;
    assert_adjusted(&books, &late()).await?;
    let more = purchases(0x5eed_4004, 2, "2026-03-21T16:00:00Z", 60);
    books.send(&[more.clone(), late()].concat()).await?;
    let report = books.nightly()?;
    ensure!(report["adjusted"][0]["events"] == 2, "{report}");
    assert_adjusted(&books, &[late(), more].concat()).await?;

    // A job from before the close that comes back writes what nobody sees.
    books
        .tamper(
            "INSERT INTO settlements (tenant, day, run_id, state, window_start, window_end, deliveries, events, \
             lake_version, content_hash, residual_cells, settled_at) \
             SELECT tenant, day, 'stale', 'restated', window_start, window_end, 1, 1, 1, 'x', 0, now64(6) + 3600 \
             FROM settlements_current WHERE day = '2026-03-20'",
        )
        .await?;
    ensure!(books.states().await? == states);
    Ok(())
}

/// Who asks for the month is told what belongs there, who asks for the days since what is posted there; the numbers of
/// neither have it.
async fn assert_told(books: &Books) -> Result<()> {
    let mut serving = books.world.start_serving().await?;
    let tomorrow = jiff::Zoned::now().date().tomorrow()?;
    let cents: i64 = late().iter().map(|purchase| purchase.cents).sum();
    let amount = Value::from(format!("{}.{:02}", cents / 100, cents % 100));
    for (range, kind) in [
        ("from=2026-03-01&to=2026-04-01".to_owned(), "belongs_here"),
        (format!("from=2026-04-10&to={tomorrow}"), "posted_here"),
    ] {
        let answer = books.world.query(&format!("/v1/query?metric=revenue&grain=1d&{range}")).await?;
        let told = serde_json::json!([{ "period": PERIOD, "kind": kind, "events": 5, "amount": amount }]);
        ensure!(answer["adjustments"] == told, "{kind}: {answer}");
        let filtered = format!("/v1/query?metric=purchases&grain=1d&filter=store:{}&{range}", late()[0].store);
        let answer = books.world.query(&filtered).await?;
        let events = late().iter().filter(|purchase| purchase.store == late()[0].store).count();
        ensure!(
            answer["adjustments"][0]["events"] == events && answer["adjustments"][0]["amount"] == events,
            "{answer}"
        );
    }
    let users = books.world.query("/v1/query?metric=households&grain=1d&from=2026-03-01&to=2026-04-01").await?;
    ensure!(users["adjustments"][0]["events"] == 5 && users["adjustments"][0]["amount"].is_null(), "{users}");
    let before = books.world.query("/v1/query?metric=revenue&grain=1d&from=2026-04-10&to=2026-04-20").await?;
    ensure!(before["adjustments"] == serde_json::json!([]), "{before}");
    // Each event in the hour that it happened in.
    for hour in 15..22 {
        let range = format!("from=2026-03-20T{hour}:00:00Z&to=2026-03-20T{}:00:00Z", hour + 1);
        let answer = books.world.query(&format!("/v1/query?metric=purchases&grain=1h&{range}")).await?;
        let start = micros(&format!("2026-03-20T{hour}:00:00Z"));
        let events = late().iter().filter(|one| (start..start + 3_600_000_000).contains(&one.at_us)).count();
        let told = answer["adjustments"].as_array().context("adjustments")?;
        ensure!(told.iter().filter_map(|one| one["events"].as_u64()).sum::<u64>() == events as u64, "{answer}");
    }
    ensure!(serving.stop()?.success());
    Ok(())
}

/// The adjustments in force are these purchases, each once.
async fn assert_adjusted(books: &Books, purchases: &[Purchase]) -> Result<()> {
    let sql = "SELECT toUInt64(sum(count)), toInt128(sum(money['USD'])), toUInt64(uniqExact(event_id)), \
               toUInt64(uniqExact(user_key)) FROM adjustments WHERE rollup = {rollup:String} AND in_force";
    let expected = sums(purchases, |_| ()).remove(&()).context("purchases")?;
    for rollup in ["total", "department", "store"] {
        let query = books.world.clickhouse_client().query(sql).param("rollup", rollup);
        let found: (u64, i128, u64, u64) = query.fetch_one().await?;
        let expected = (expected.count, expected.cents, expected.count, expected.users);
        ensure!(found == expected, "{rollup}: {found:?} instead of {expected:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reopened_month_counts_what_was_adjusted() -> Result<()> {
    let mut books = closed_march().await?;
    let april = ["close", "--period", "2026-04", "--sign-off", "Ada Lovelace"];
    books.send(&late()).await?;
    books.nightly()?;
    books.run_for_tenant(0, &april)?;
    let reopen = ["reopen", "--sign-off", "Grace Hopper", "--reason", "an audit", "--period"];
    let refused = books.world.run(&[reopen.as_slice(), &[PERIOD, "--tenant", &books.world.tenant]].concat())?;
    ensure!(refused.code == 12 && refused.log.contains("2026-04"), "the latest first: {}", refused.log);
    books.run_for_tenant(0, &[reopen.as_slice(), &["2026-04"]].concat())?;
    books.run_for_tenant(0, &[reopen.as_slice(), &[PERIOD]].concat())?;
    let states = books.states().await?;
    ensure!(states.iter().all(|(_, state, ..)| state == "settled"), "{states:?}");
    ensure!(books.rows("adjustments")?.iter().all(|row| row["in_force"] == false));

    books.nightly()?;
    ensure!(books.settled_days().await? == Books::expected_days(&books.sent));
    let states = books.states().await?;
    let restated: Vec<&str> =
        states.iter().filter(|(_, state, ..)| state == "restated").map(|(day, ..)| day.as_str()).collect();
    ensure!(restated == ["2026-03-20"], "{restated:?}");
    books.run_for_tenant(0, &["close", "--period", PERIOD, "--sign-off", "Ada Lovelace"])?;
    ensure!(books.world.run(&["nightly"])?.code == 99, "what was counted is not adjusted again");
    let actions: Vec<(String, u32)> = books
        .world
        .clickhouse_client()
        .query("SELECT action, generation FROM periods WHERE period = '2026-03' AND action != 'adjusted' ORDER BY at")
        .fetch_all()
        .await?;
    let expected = [("closed", 1), ("reopened", 2), ("closed", 3)].map(|(action, number)| (action.to_owned(), number));
    ensure!(actions == expected, "{actions:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_is_verified_and_a_flipped_digit_is_named() -> Result<()> {
    let mut books = closed_march().await?;
    books.send(&late()).await?;
    books.nightly()?;
    let run = books.states().await?[5].2.clone();
    let good = books.run(0, &["verify", "--run", &run, "--chain"])?;
    ensure!(good["verified"] == true && good["verifications"][0]["cells"].as_u64() > Some(9_000), "{good}");
    ensure!(good["verifications"][1]["manifests"] == 3, "a settlement, a close, a posting: {good}");

    // One cent in one cell of one minute.
    let cell = "rollup = 'store' AND grain = '1m' AND day = '2026-03-07'";
    let (start, cents): (i64, i128) = books
        .world
        .clickhouse_client()
        .query(&format!(
            "SELECT toUnixTimestamp64Micro(window_start), money['USD'] FROM settled_cells_raw WHERE {cell} \
             ORDER BY window_start LIMIT 1"
        ))
        .fetch_one()
        .await?;
    let place = format!("{cell} AND toUnixTimestamp64Micro(window_start) = {start}");
    let set = |cents: i128| {
        format!("ALTER TABLE settled_cells_raw UPDATE money = map('USD', toInt128({cents})) WHERE {place}")
    };
    books.tamper(&set(cents + 1)).await?;
    let bad = books.run(13, &["verify", "--run", &run])?;
    let finding = &bad["verifications"][0]["findings"][0];
    let dollars =
        |cents: i128| format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
    let named = finding["place"]
        .as_str()
        .is_some_and(|text| text.starts_with("2026-03-07 store purchase") && text.ends_with("USD"));
    ensure!(bad["wrong"] == 1 && named, "{bad}");
    ensure!(finding["stored"] == dollars(cents + 1) && finding["expected"] == dollars(cents), "{bad}");
    books.tamper(&set(cents)).await?;
    books.run(0, &["verify", "--run", &run])?;

    // A day's fingerprint, a file of the lake, a manifest.
    books
        .tamper("ALTER TABLE settlements UPDATE content_hash = 'x' WHERE day = '2026-03-08' AND state = 'closed'")
        .await?;
    let bad = books.run(13, &["verify", "--chain"])?;
    ensure!(bad.to_string().contains("2026-03-08"), "{bad}");
    let folder = books.world.store().join("runs").join(&books.world.tenant);
    let first = folder.join(format!("{:020}.json", 1));
    let text = std::fs::read_to_string(&first)?;
    std::fs::write(&first, text.replace("America/New_York", "America/Chicago"))?;
    let bad = books.run(13, &["verify", "--chain"])?;
    ensure!(bad.to_string().contains("manifest 1 was changed"), "{bad}");
    ensure!(
        books.world.run(&["verify", "--run", &run])?.code == 13,
        "the configuration is not the one that was signed"
    );
    std::fs::write(&first, text)?;
    let newest = folder.join(format!("{:020}.json", 3));
    let lake_file = flip_a_byte(&books)?;
    let bad = books.run(13, &["verify", "--run", &run])?;
    ensure!(bad.to_string().contains(&lake_file), "{bad}");
    std::fs::remove_file(newest)?;
    books.run(13, &["verify", "--chain"])?;
    Ok(())
}

/// Flips a byte in the middle of a file of the lake; returns its name.
fn flip_a_byte(books: &Books) -> Result<String> {
    let folder = books.world.store().join("lake/events").join(format!("tenant={}", books.world.tenant));
    let day = std::fs::read_dir(folder)?.next().context("a day")??.path();
    let file = std::fs::read_dir(day)?.next().context("a file")??.path();
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes)?;
    Ok(file.file_name().context("a name")?.to_string_lossy().into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forecast_learns_from_earlier_days() -> Result<()> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    // A purchase a minute for twelve days that ended four days ago, all of which came before their days were over or
    // much later; then one day of half as many.
    let now = jiff::Timestamp::now().as_microsecond();
    let day_us = 86_400_000_000;
    let sent = reckon_tests::purchases::generate(0x5eed_4005, 1_600, now - 16 * day_us, 10 * 60_000_000);
    books.send(&sent).await?;
    let limit = std::time::Duration::from_secs(30);
    reckon_tests::until("the purchases in the lake", limit, || async {
        let archived = reckon_tests::lake::archived_offsets(&books.world, reckon_schemas::lake::EVENTS_TABLE).await?;
        Ok(archived.values().map(Vec::len).sum::<usize>() == books.sent.len())
    })
    .await?;
    let date = jiff::Timestamp::from_microsecond(now - 6 * day_us)?;
    let date = date.to_zoned(jiff::tz::TimeZone::get("America/New_York")?).date().to_string();
    let forecast = books.run_for_tenant(0, &["forecast", "--date", &date])?;
    ensure!(forecast["state"] == "provisional" && forecast["days_learned"].as_u64() >= Some(9), "{forecast}");
    // They were all logged today, so that at the age of this day nearly everything of older days was still to come.
    ensure!(forecast["complete"].as_f64().is_some_and(|share| share < 0.01), "{forecast}");
    ensure!(forecast["complete_at"].as_str().is_some() && forecast["assumptions"].as_array().is_some(), "{forecast}");
    Ok(())
}
