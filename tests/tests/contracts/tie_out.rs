//! A ledger's export against events that went the whole way: every break is named, kept, and resolved when it is over.

use anyhow::{Context, Result, ensure};
use reckon_tests::lake::until_conserved;
use reckon_tests::stack::repository;
use reckon_tests::{Stack, World};
use serde_json::{Value, json};

struct Run {
    code: i32,
    stdout: String,
    json: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn breaks_with_a_provider_are_named_kept_and_resolved() -> Result<()> {
    let world = world_of(&[
        sale("order-1", "purchase", "2026-03-07T15:00:00Z", "19.99", json!({})),
        sale("order-2", "purchase", "2026-03-08T03:29:40Z", "1250.00", json!({})),
        // The provider booked it four minutes later, on the next day: the same payment all the same.
        sale("order-3", "purchase", "2026-03-08T04:58:00Z", "7.50", json!({})),
        sale("refund-1", "refund", "2026-03-09T09:59:58Z", "-19.99", json!({})),
        sale("order-5", "purchase", "2026-03-09T12:00:00Z", "31.00", json!({})),
        sale("order-8", "purchase", "2026-03-09T16:00:00Z", "12.00", json!({})),
        sale("order-9", "purchase", "2026-03-09T17:00:00Z", "80.05", json!({})),
        // Delivered again, and of no interest to a provider of payments.
        sale("order-9", "purchase", "2026-03-09T17:00:00Z", "80.05", json!({})),
        sale("coupon-1", "coupon", "2026-03-09T17:00:00Z", "-5.00", json!({})),
        sale("order-old", "purchase", "2026-02-20T17:00:00Z", "3.00", json!({})),
    ])
    .await?;
    let ledger = std::fs::read_to_string(repository().join("tests/fixtures/ledgers/stripe.csv"))?;
    let first = tie_out(&world, "stripe", &ledger, &["--as-of", "2026-03-20"])?;
    ensure!(first.code == 21, "exit {}: {}", first.code, first.stdout);
    let kinds = ["matched", "different", "missing_here", "missing_there"];
    let usd = kinds.map(|kind| {
        let tally = &first.json["totals"]["USD"][kind];
        [&tally["ours"], &tally["theirs"]].map(|side| format!("{} {}", side["items"], side["amount"]))
    });
    let expected = [
        ["4 \"1257.50\"", "4 \"1257.50\""],
        ["1 \"31.00\"", "2 \"62.00\""],
        ["0 \"0.00\"", "2 \"69.00\""],
        ["2 \"92.05\"", "0 \"0.00\""],
    ];
    ensure!(usd == expected, "{usd:?}");
    ensure!(first.json["ageing"][0] == json!({"kind": "different", "days": "8-30", "breaks": 1}), "{}", first.json);
    ensure!(
        first.json["breaks"] == 6 && first.json["repeated_rows"] == 1 && first.json["outside"] == 1,
        "{}",
        first.json
    );
    ensure!(first.json["days_in"] == "America/New_York", "{}", first.json);

    let document = exported(&world, "stripe", &ledger, "json")?;
    let document: Value = serde_json::from_str(&document)?;
    let named: Vec<String> = document["references"]
        .as_array()
        .context("references")?
        .iter()
        .filter(|row| row["kind"] != "matched")
        .map(|row| ["kind", "reference", "currency", "shape"].map(|key| row[key].as_str().unwrap_or("?")).join(" "))
        .collect();
    let expected = [
        "missing_here (txn_11) USD 0:1",
        "different order-5 USD 1:2",
        "missing_here order-8 EUR 0:1",
        "missing_there order-8 USD 1:0",
        "missing_there order-9 USD 1:0",
        "missing_here order-x USD 0:1",
    ];
    ensure!(sorted(named.clone()) == sorted(expected.map(str::to_owned).to_vec()), "{named:?}");
    let matched = document["references"].as_array().into_iter().flatten().find(|row| row["reference"] == "order-3");
    ensure!(matched.is_some_and(|row| row["note"] == "the ledger's day is 2026-03-08"), "{matched:?}");

    let csv = exported(&world, "stripe", &ledger, "csv")?;
    ensure!(
        csv.lines().count() == 11 && csv.contains("different,order-5,USD,2026-03-09,31.00,62.00,-31.00,1:2,"),
        "{csv}"
    );
    let page = exported(&world, "stripe", &ledger, "html")?;
    ensure!(page.contains("6 open breaks") && page.contains("order-x") && !page.contains("http"), "{page}");

    // The same again changes nothing; a tolerance is one; what the provider corrected is resolved, the rest stays open.
    ensure!(open(&world).await? == 6);
    let corrected = ledger
        .replace("txn_6,", "txn_6x,")
        .replace(",31.00,1.20,29.80,charge,order 5 once more,order-5,", ",80.00,1.20,78.80,charge,order 9,order-9,");
    let second = tie_out(&world, "stripe", &corrected, &["--tolerance", "0.05"])?;
    ensure!(second.code == 21 && second.json["resolved"] == 2 && second.json["breaks"] == 4, "{}", second.json);
    ensure!(open(&world).await? == 4);
    let exact = tie_out(&world, "stripe", &corrected, &["--from", "2026-03-09", "--to", "2026-03-09"])?;
    ensure!(exact.json["resolved"] == 0 && exact.json["breaks"] == 5, "{}", exact.json);
    // Another ledger's breaks are its own.
    let narrow = tie_out(&world, "stripe", &corrected, &["--from", "2026-03-07", "--to", "2026-03-07"])?;
    ensure!(narrow.code == 0 && narrow.json["resolved"] == 0, "{}", narrow.json);
    ensure!(open(&world).await? == 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_s_statement_is_matched_in_its_own_days() -> Result<()> {
    let order = |number: &str| json!({ "order_id": number });
    let euro = |id: &str, name: &str, at: &str, amount: &str, number: &str| {
        let mut item = sale(id, name, at, amount, order(number));
        item["money"]["currency"] = "EUR".into();
        item
    };
    let world = world_of(&[
        // Half past midnight in Berlin; in the tenant's New York it is still the 6th.
        euro("e-1", "purchase", "2026-03-06T23:30:00Z", "1234.56", "A-1001"),
        euro("e-2", "refund", "2026-03-09T10:00:00Z", "-34.56", "A-1001"),
        euro("e-3", "purchase", "2026-03-08T10:00:00Z", "50.00", "A-1002"),
    ])
    .await?;
    let statement = std::fs::read_to_string(repository().join("tests/fixtures/ledgers/bank.csv"))?;
    let run = tie_out(&world, "bank", &statement, &[])?;
    ensure!(run.code == 21 && run.json["days_in"] == "Europe/Berlin", "{}", run.stdout);
    let euro = &run.json["totals"]["EUR"];
    ensure!(euro["matched"]["references"] == 2 && euro["matched"]["ours"]["amount"] == "1250.00", "{euro}");
    ensure!(euro["missing_here"]["theirs"]["amount"] == "99.00" && run.json["breaks"] == 1, "{euro}");

    let broken = statement.replace("1.234,56", "1,234.56");
    let refused = tie_out(&world, "bank", &broken, &[])?;
    ensure!(refused.code == 78, "half a ledger is not matched: exit {}", refused.code);
    ensure!(open(&world).await? == 1, "and changes nothing");
    Ok(())
}

fn sale(id: &str, name: &str, at: &str, amount: &str, properties: Value) -> Value {
    json!({
        "event_id": id, "name": name, "occurred_at": at, "user_id": "u",
        "money": { "amount": amount, "currency": "USD" }, "properties": properties,
    })
}

async fn world_of(items: &[Value]) -> Result<World> {
    let world = World::new(&Stack::shared()?)?;
    let (mut collector, mut archiver) = (world.start_collector().await?, world.start("archive")?);
    world.send(items).await?;
    until_conserved(&world).await?;
    ensure!(collector.stop()?.success() && archiver.stop()?.success());
    Ok(world)
}

fn arguments<'a>(world: &'a World, mapping: &'a str, ledger: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["tie-out", "--tenant", &world.tenant, "--ledger", ledger, "--mapping", mapping];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

fn files(world: &World, name: &str, ledger: &str) -> Result<(String, String)> {
    let file = world.config().with_file_name(format!("{name}.csv"));
    std::fs::write(&file, ledger)?;
    let mapping = repository().join(format!("deploy/ledgers/{name}.toml"));
    Ok((file.to_string_lossy().into_owned(), mapping.to_string_lossy().into_owned()))
}

fn tie_out(world: &World, name: &str, ledger: &str, more: &[&str]) -> Result<Run> {
    let (ledger, mapping) = files(world, name, ledger)?;
    let finished = world.run(&arguments(world, &mapping, &ledger, more))?;
    let json = finished.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    Ok(Run { code: finished.code, json, stdout: format!("{}\n{}", finished.stdout, finished.log) })
}

fn exported(world: &World, name: &str, ledger: &str, format: &str) -> Result<String> {
    let (ledger, mapping) = files(world, name, ledger)?;
    let output = world.config().with_file_name(format!("tie-out.{format}"));
    let output = output.to_string_lossy().into_owned();
    let more = ["--as-of", "2026-03-20", "--format", format, "--output", &output];
    let finished = world.run(&arguments(world, &mapping, &ledger, &more))?;
    ensure!(finished.code == 21, "{}", finished.log);
    Ok(std::fs::read_to_string(output)?)
}

async fn open(world: &World) -> Result<u64> {
    let sql = "SELECT count() FROM ledger_breaks WHERE tenant = ? AND state = 'open'";
    Ok(world.clickhouse_client().query(sql).bind(&world.tenant).fetch_one().await?)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}
