//! Two hundred random questions about what is settled: the merged answer is what DuckDB finds in the source files.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::catalog::Catalog;
use reckon_tests::stack::repository;
use reckon_tests::{World, python};
use serde_json::{Value, json};

const SEED: u64 = 0x5eed_0200;
const QUESTIONS: usize = 200;
/// The first instant of the data's days, and the first one after them; the clocks change in between.
const FIRST: &str = "2017-03-06T05:00:00Z";
const END: &str = "2017-03-27T04:00:00Z";
const HOUR_US: i64 = 3_600_000_000;
/// Values to filter by: some that are frequent, some that are rare, some that nothing has.
const VALUES: &[(&str, &[&str])] = &[
    ("department", &["GROCERY", "DRUG GM", "PRODUCE", "MEAT", "FUEL", "", "NO SUCH"]),
    ("store", &["367", "406", "429", "343", "361", "1"]),
    ("quantity", &["1", "2", "3", "10", "0"]),
    ("user_id", &["household-1716", "household-2373", "household-253", "household-0"]),
];
/// What is grouped by; the first four are rollups.
const GROUPINGS: &[&[&str]] = &[
    &[],
    &["department"],
    &["store"],
    &[],
    &["department", "store"],
    &["quantity"],
    &["user_id"],
    &["basket"],
    &["product"],
    &["store", "quantity"],
];

struct Question {
    metric: &'static str,
    grain: &'static str,
    from_us: i64,
    to_us: i64,
    /// The starts of the windows.
    starts: Vec<i64>,
    by: &'static [&'static str],
    filters: BTreeMap<&'static str, Vec<&'static str>>,
    exact: bool,
}

/// Which layers answered, how often.
type Layers = BTreeMap<String, usize>;

/// Asks a serving node of the world, whose catalog is the demo's.
pub(super) async fn answers_equal_the_source(world: &mut World) -> Result<()> {
    let read = NewKey::from_random(rand::random(), vec![Scope::Read]);
    let path = world.config().with_file_name("catalog.toml");
    let mut catalog: Catalog = toml::from_str(&std::fs::read_to_string(&path)?)?;
    catalog.tenants[0].keys.push(read.entry);
    std::fs::write(&path, toml::to_string(&catalog)?)?;
    world.read_key = read.key;
    let config = std::fs::read_to_string(world.config())?;
    let serve = "[serve]\nqueries_per_second_max = 10000\ngroups_max = 100000\npoints_max = 1000000\n";
    std::fs::write(world.config(), format!("{config}\n{serve}"))?;
    let mut serving = world.start_serving().await?;

    let mut random = StdRng::seed_from_u64(SEED);
    let questions = (0..QUESTIONS).map(|_| random_question(&mut random)).collect::<Result<Vec<_>>>()?;
    let expected = duckdb(&questions)?;
    let (mut layers, mut methods) = (Layers::new(), Layers::new());
    for (number, (question, rows)) in questions.iter().zip(&expected).enumerate() {
        let answer = world.query(&question.path()).await?;
        let compared = compare(question, rows, &answer, &mut methods);
        compared.with_context(|| format!("question {number}: {}\n{answer:.1500}", question.path()))?;
        for part in answer["coverage"].as_array().context("coverage")? {
            *layers.entry(part["layer"].to_string()).or_default() += 1;
        }
    }
    ensure!(serving.stop()?.success());
    ensure!(layers.values().all(|count| *count >= 40) && layers.len() == 2, "too much of one kind: {layers:?}");
    ensure!(methods.len() == 2, "no estimates, or nothing exact: {methods:?}");
    Ok(())
}

fn random_question(random: &mut StdRng) -> Result<Question> {
    let (first, end) = (us(FIRST)?, us(END)?);
    let grain = *["1d", "1d", "1h", "5m", "1m"].choose(random).context("a grain")?;
    let longest_us = if grain == "1m" { 4 * 24 * HOUR_US } else { end - first };
    let (mut from_us, mut to_us) = (random.random_range(first..end), random.random_range(first..end));
    if from_us > to_us {
        (from_us, to_us) = (to_us, from_us);
    }
    to_us = to_us.min(from_us + longest_us).max(from_us + 1);
    let starts = starts(grain, from_us, to_us)?;
    let is_deep = random.random_bool(0.5);
    let groupings = if is_deep { GROUPINGS } else { &GROUPINGS[..4] };
    let by = *groupings.choose(random).context("dimensions")?;
    let mut filters = BTreeMap::new();
    for _ in 0..random.random_range(0..=2) {
        // What is not grouped by, too; in half of the questions nothing that takes single events.
        let candidates = if is_deep { VALUES } else { &VALUES[..2] };
        let (name, values) = candidates.choose(random).context("a filter")?;
        let is_of_one_rollup =
            by.iter().all(|dimension| dimension == name) && filters.keys().all(|other| other == name);
        if is_deep || is_of_one_rollup {
            let allowed = values.choose_multiple(random, 3).copied().collect();
            filters.insert(*name, allowed);
        }
    }
    let metric = *["purchases", "revenue", "households", "households"].choose(random).context("a metric")?;
    Ok(Question { metric, grain, from_us, to_us, starts, by, filters, exact: random.random_bool(0.3) })
}

fn us(text: &str) -> Result<i64> {
    Ok(text.parse::<jiff::Timestamp>()?.as_microsecond())
}

/// The windows that cover a range.
fn starts(grain: &str, from_us: i64, to_us: i64) -> Result<Vec<i64>> {
    if grain == "1d" {
        let mut day = jiff::Timestamp::from_microsecond(from_us)?.in_tz("America/New_York")?.start_of_day()?;
        let mut starts = Vec::new();
        while day.timestamp().as_microsecond() < to_us {
            starts.push(day.timestamp().as_microsecond());
            day = day.tomorrow()?.start_of_day()?;
        }
        return Ok(starts);
    }
    let length_us = length_us(grain);
    let first = from_us - from_us.rem_euclid(length_us);
    Ok((0..).map(|n| first + n * length_us).take_while(|start| *start < to_us).collect())
}

fn length_us(grain: &str) -> i64 {
    match grain {
        "1h" => HOUR_US,
        "5m" => HOUR_US / 12,
        _ => HOUR_US / 60,
    }
}

impl Question {
    fn path(&self) -> String {
        let instant = |us| jiff::Timestamp::from_microsecond(us).map_or_else(|_| String::new(), |at| at.to_string());
        let mut parameters = vec![
            ("metric".to_owned(), self.metric.to_owned()),
            ("grain".to_owned(), self.grain.to_owned()),
            ("from".to_owned(), instant(self.from_us)),
            ("to".to_owned(), instant(self.to_us)),
            ("by".to_owned(), self.by.join(",")),
            ("exact".to_owned(), self.exact.to_string()),
        ];
        for (name, values) in &self.filters {
            parameters.extend(values.iter().map(|value| ("filter".to_owned(), format!("{name}:{value}"))));
        }
        let url = reqwest::Url::parse_with_params("http://x/v1/query", &parameters).expect("a URL");
        format!("/v1/query?{}", url.query().unwrap_or_default())
    }

    /// The end of the last window.
    fn end_us(&self) -> Result<i64> {
        let last = *self.starts.last().context("a window")?;
        if self.grain != "1d" {
            return Ok(last + length_us(self.grain));
        }
        let day = jiff::Timestamp::from_microsecond(last)?.in_tz("America/New_York")?;
        Ok(day.tomorrow()?.start_of_day()?.timestamp().as_microsecond())
    }
}

/// Rows of key, start, events, cents, households for each question.
fn duckdb(questions: &[Question]) -> Result<Vec<Vec<Value>>> {
    let folder = repository().join("tests/fixtures/grocer");
    let mut child = Command::new(python()?)
        .arg(repository().join("tests/python/duckdb_answers.py"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = String::new();
    for question in questions {
        let Question { starts, by, filters, .. } = question;
        let (from, to) = (starts.first().context("a window")?, question.end_us()?);
        let line = json!({ "from": from, "to": to, "starts": starts, "by": by, "filters": filters });
        lines.push_str(&format!("{line}\n"));
    }
    let mut input = child.stdin.take().context("its input")?;
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output()?;
    writing.join().ok().context("the writer")??;
    ensure!(output.status.success(), "DuckDB: {}", output.status);
    let answers = String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>()?;
    ensure!(answers.len() == questions.len(), "{} answers", answers.len());
    Ok(answers)
}

fn compare(question: &Question, rows: &[Value], answer: &Value, methods: &mut Layers) -> Result<()> {
    let mut found: BTreeMap<(Option<Vec<String>>, Option<String>), &Value> = BTreeMap::new();
    found.insert((None, None), &answer["total"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for group in answer["groups"].as_array().context("groups")? {
        let key: Vec<String> = question.by.iter().map(|name| text(&group["dimensions"][name])).collect();
        for point in group["points"].as_array().context("points")? {
            found.insert((Some(key.clone()), Some(text(&point["start"]))), &point["number"]);
        }
        found.insert((Some(key), None), &group["total"]);
    }
    let mut expected = BTreeMap::new();
    for row in rows {
        let key = row[0].as_array().map(|key| key.iter().map(text).collect::<Vec<_>>());
        let start = row[1].as_i64().map(jiff::Timestamp::from_microsecond).transpose()?.map(|at| at.to_string());
        expected.insert((key, start), row);
    }
    if question.by.is_empty() {
        // One group is shown even where nothing happened.
        found.retain(|set, _| expected.contains_key(set) || set.0.as_deref() != Some(&[]));
    }
    ensure!(found.keys().eq(expected.keys()), "{} numbers instead of {}", found.len(), expected.len());
    for (set, row) in expected {
        let number = found[&set];
        *methods.entry(number["method"].to_string()).or_default() += 1;
        ensure!(number["state"] == "settled" || number["state"] == "restated", "{set:?}: {number}");
        check(question, row, number).with_context(|| format!("{set:?}: {number} instead of {row}"))?;
    }
    Ok(())
}

fn check(question: &Question, row: &Value, number: &Value) -> Result<()> {
    let (events, cents, users) = (&row[2], &row[3], &row[4]);
    if question.metric == "purchases" {
        ensure!(number["value"] == *events && number["error_bound"] == 0);
    } else if question.metric == "revenue" {
        let cents: i128 = cents.as_str().unwrap_or("0").parse()?;
        let (sign, size) = (if cents < 0 { "-" } else { "" }, cents.unsigned_abs());
        ensure!(number["value"] == format!("{sign}{}.{:02}", size / 100, size % 100) && number["method"] == "exact");
    } else {
        let integer = |value: &Value| value.as_i64().context("an integer");
        let off = (integer(&number["value"])? - integer(users)?).abs();
        // One in 370 estimates is beyond its three standard errors, and there are thousands of them here.
        ensure!(2 * off <= 3 * integer(&number["error_bound"])?, "{off} off");
        ensure!(number["method"] == "exact" || !question.exact);
    }
    Ok(())
}
