//! Holds answers against what DuckDB found.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Counts;
use super::oracle::{Oracle, Rows, Set, Sums};
use super::question::{Asked, Filter, Formula, Funnel, Question};

const MILLION: i128 = 1_000_000;

pub(super) struct Judge {
    oracle: Oracle,
    /// Which layers answered, and how, how often.
    pub(super) layers: Counts,
    pub(super) methods: Counts,
}

impl Judge {
    pub(super) fn new(oracle: Oracle) -> Self {
        Self { oracle, layers: Counts::new(), methods: Counts::new() }
    }

    pub(super) fn judge(&mut self, asked: &Asked, answer: &Value) -> Result<()> {
        for part in answer["coverage"].as_array().context("coverage")? {
            *self.layers.entry(part["layer"].to_string()).or_default() += 1;
        }
        match asked {
            Asked::Rows(question) => {
                let rows = self.oracle.rows(question)?;
                self.compare(question, &rows, answer)
            }
            Asked::Limited(question, limit) => self.limited(question, *limit, answer),
            Asked::Compared(question, days) => self.two_sides(question, &question.earlier(*days)?, answer),
            Asked::Segments(question, [first, second]) => {
                self.two_sides(&question.with(first), &question.with(second), answer)
            }
            Asked::Formula(question, formula) => self.formula(question, formula, answer),
            Asked::Heat(question) => self.heat(question, answer),
            Asked::Funnel(funnel) => self.funnel(funnel, answer),
        }
    }

    /// Every number of an answer, and no other.
    fn compare(&mut self, question: &Question, rows: &Rows, answer: &Value) -> Result<()> {
        let mut found = numbers(question, answer)?;
        if question.by.is_empty() {
            // One group is shown even where nothing happened.
            found.retain(|set, _| rows.contains_key(set) || set.0.as_deref() != Some(&[]));
        }
        ensure!(found.keys().eq(rows.keys()), "{} numbers instead of {}", found.len(), rows.len());
        for (set, sums) in rows {
            let number = found[set];
            *self.methods.entry(number["method"].to_string()).or_default() += 1;
            ensure!(number["state"] == "settled" || number["state"] == "restated", "{set:?}: {number}");
            check(question, *sums, number).with_context(|| format!("{set:?}: {number} instead of {sums:?}"))?;
        }
        Ok(())
    }

    /// The largest groups by themselves, and all others as one.
    fn limited(&mut self, question: &Question, limit: usize, answer: &Value) -> Result<()> {
        let rows = self.oracle.rows(question)?;
        let found = numbers(question, answer)?;
        let named: BTreeSet<&Vec<String>> = found.keys().filter_map(|set| set.0.as_ref()).collect();
        let all: BTreeSet<&Vec<String>> = rows.keys().filter_map(|set| set.0.as_ref()).collect();
        ensure!(
            named.len() == limit.min(all.len()) && named.is_subset(&all),
            "{} groups of {}",
            named.len(),
            all.len()
        );
        ensure!(
            answer["groups_count"] == all.len() && answer["truncated"] == (named.len() < all.len()),
            "{}",
            answer["groups_count"]
        );
        let of_named = |set: &Set| set.0.as_ref().is_none_or(|key| named.contains(key));
        let kept: Rows = rows.iter().filter(|(set, _)| of_named(set)).map(|(set, sums)| (set.clone(), *sums)).collect();
        self.compare(question, &kept, answer)?;
        if named.len() == all.len() {
            ensure!(answer["other"].is_null(), "{}", answer["other"]);
            return Ok(());
        }
        let size = |key: &Vec<String>| measured(question, rows[&(Some(key.clone()), None)]);
        let smallest = named.iter().map(|key| size(key)).min();
        let largest = all.difference(&named).map(|key| size(key)).max();
        ensure!(question.metric == "households" || smallest >= largest, "{smallest:?} is named, {largest:?} is not");
        let others = self.others(question, &rows, &named)?;
        let Some(others) = others else { return Ok(()) };
        ensure!(!answer["other"].is_null(), "the others are missing: {}", answer["notes"]);
        for point in answer["other"]["points"].as_array().context("points")? {
            let sums = others.get(&(None, point["start"].as_str().map(str::to_owned))).copied().unwrap_or_default();
            check(question, sums, &point["number"]).with_context(|| format!("others: {point} instead of {sums:?}"))?;
        }
        let sums = others.get(&(None, None)).copied().unwrap_or_default();
        check(question, sums, &answer["other"]["total"])
            .with_context(|| format!("others: {} instead of {sums:?}", answer["other"]["total"]))
    }

    /// What is not named, by window and over all; users of several dimensions cannot be asked for.
    fn others(&mut self, question: &Question, rows: &Rows, named: &BTreeSet<&Vec<String>>) -> Result<Option<Rows>> {
        if question.metric == "households" {
            let [dimension] = question.by else { return Ok(None) };
            let values = named.iter().flat_map(|key| key.iter().cloned()).collect();
            let others = Question { by: &[], ..question.with(&[Filter(dimension, "not", values)]) };
            let rows = self.oracle.rows(&others)?;
            return Ok(Some(rows.into_iter().map(|((_, start), sums)| ((None, start), sums)).collect()));
        }
        let mut others = Rows::new();
        for ((key, start), sums) in rows {
            if key.as_ref().is_some_and(|key| !named.contains(key)) {
                let all = others.entry((None, start.clone())).or_default();
                (all.events, all.cents) = (all.events + sums.events, all.cents + sums.cents);
            }
        }
        Ok(Some(others))
    }

    /// A question, what it is compared with, and how both differ.
    fn two_sides(&mut self, question: &Question, base: &Question, answer: &Value) -> Result<()> {
        let (rows, base_rows) = (self.oracle.rows(question)?, self.oracle.rows(base)?);
        self.compare(question, &rows, answer)?;
        let comparison = &answer["comparison"];
        let of = |rows: &Rows, key: Option<&Vec<String>>| rows.get(&(key.cloned(), None)).copied().unwrap_or_default();
        let total = &comparison["base"]["total"];
        check(base, of(&base_rows, None), total).with_context(|| format!("the base's total {total}"))?;
        if question.metric == "households" && !question.exact {
            return Ok(());
        }
        check_delta(question, of(&rows, None), of(&base_rows, None), &comparison["total"])?;
        let mut compared = BTreeSet::new();
        for group in comparison["groups"].as_array().context("groups")? {
            let key = key_of(question, group);
            check_delta(question, of(&rows, Some(&key)), of(&base_rows, Some(&key)), &group["total"])
                .with_context(|| format!("{key:?}"))?;
            compared.insert(key);
        }
        let missing = rows.keys().filter_map(|set| set.0.as_ref()).find(|key| !compared.contains(*key));
        ensure!(missing.is_none(), "{missing:?} is not compared");
        Ok(())
    }

    /// Fractions of what DuckDB counted, rounded to a millionth.
    fn formula(&mut self, question: &Question, formula: &Formula, answer: &Value) -> Result<()> {
        let below = self.oracle.rows(question)?;
        let above = match formula {
            Formula::Share(department) => {
                let of_department = Filter("department", "in", vec![(*department).to_owned()]);
                self.oracle.rows(&question.with(&[of_department]))?
            }
            Formula::Mean | Formula::Difference => below.clone(),
        };
        let mut found = numbers(question, answer)?;
        if question.by.is_empty() {
            found.retain(|set, _| below.contains_key(set) || set.0.as_deref() != Some(&[]));
        }
        ensure!(found.keys().eq(below.keys()), "{} numbers instead of {}", found.len(), below.len());
        for (set, sums) in &below {
            let number = found[set];
            let above = above.get(set).copied().unwrap_or_default();
            let (millionths, by) = match formula {
                Formula::Mean => (above.cents * 10_000, sums.events),
                Formula::Difference => (above.cents * 7_500, 1),
                Formula::Share(_) => (above.events * MILLION, sums.events),
            };
            ensure!(is_fraction(&number["value"], millionths, by)?, "{set:?}: {number} instead of {millionths}/{by}");
        }
        Ok(())
    }

    fn heat(&mut self, question: &Question, answer: &Value) -> Result<()> {
        let rows = self.oracle.heat(question)?;
        let cells = answer["cells"].as_array().context("cells")?;
        ensure!(cells.len() == 168);
        for cell in cells {
            let place = cell["weekday"].as_u64().zip(cell["hour"].as_u64());
            let sums = rows.get(&place).copied().unwrap_or_default();
            let number = &cell["number"];
            ensure!(number.is_null() || cell["hours"] != 0, "{cell}");
            if !number.is_null() || sums.events > 0 {
                check(question, sums, number).with_context(|| format!("{cell} instead of {sums:?}"))?;
            }
        }
        check(question, rows.get(&None).copied().unwrap_or_default(), &answer["total"])
    }

    fn funnel(&mut self, funnel: &Funnel, answer: &Value) -> Result<()> {
        let expected = self.oracle.funnel(funnel)?;
        let steps = |steps: &Value| -> Option<Vec<u64>> {
            steps.as_array()?.iter().map(|step| step["users"]["value"].as_u64()).collect()
        };
        let nobody = vec![0; funnel.steps.len()];
        let all = steps(&answer["steps"]).context("steps")?;
        ensure!(all == *expected.get(&None).unwrap_or(&nobody), "{all:?} instead of {:?}", expected.get(&None));
        let Some(by) = funnel.by else { return Ok(()) };
        let segments = answer["segments"].as_array().context("segments")?;
        let segment =
            |segment: &Value| Some((segment["dimensions"][by].as_str()?.to_owned(), steps(&segment["steps"])?));
        let found = segments.iter().map(segment).collect::<Option<BTreeMap<_, _>>>().context("segments")?;
        let expected: BTreeMap<String, Vec<u64>> =
            expected.into_iter().filter_map(|(segment, users)| Some((segment?, users))).collect();
        ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    }
}

/// Every number of an answer by what it is of.
fn numbers<'a>(question: &Question, answer: &'a Value) -> Result<BTreeMap<Set, &'a Value>> {
    let mut found = BTreeMap::from([((None, None), &answer["total"])]);
    for group in answer["groups"].as_array().context("groups")? {
        let key = key_of(question, group);
        for point in group["points"].as_array().context("points")? {
            found.insert((Some(key.clone()), point["start"].as_str().map(str::to_owned)), &point["number"]);
        }
        found.insert((Some(key), None), &group["total"]);
    }
    Ok(found)
}

fn key_of(question: &Question, group: &Value) -> Vec<String> {
    question.by.iter().map(|name| group["dimensions"][name].as_str().unwrap_or_default().to_owned()).collect()
}

/// The number of the question's metric, money in cents.
fn measured(question: &Question, sums: Sums) -> i128 {
    match question.metric {
        "purchases" => sums.events,
        "revenue" => sums.cents,
        _ => sums.users,
    }
}

fn check(question: &Question, sums: Sums, number: &Value) -> Result<()> {
    if question.metric != "households" {
        let expected = said(question, measured(question, sums));
        ensure!(number["value"] == expected && number["method"] == "exact", "{expected}");
        return Ok(());
    }
    let integer = |value: &Value| value.as_i64().map(i128::from).context("an integer");
    let off = (integer(&number["value"])? - sums.users).abs();
    // One in 370 estimates is beyond its three standard errors, and there are thousands of them here.
    ensure!(2 * off <= 3 * integer(&number["error_bound"])?, "{off} off");
    ensure!(number["method"] == "exact" || !question.exact);
    Ok(())
}

/// As an answer writes it.
fn said(question: &Question, amount: i128) -> Value {
    if question.metric != "revenue" {
        return i64::try_from(amount).map_or(Value::Null, Value::from);
    }
    let (sign, size) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    format!("{sign}{}.{:02}", size / 100, size % 100).into()
}

fn check_delta(question: &Question, this: Sums, base: Sums, delta: &Value) -> Result<()> {
    let (this, base) = (measured(question, this), measured(question, base));
    let expected = said(question, this - base);
    ensure!(delta["difference"]["value"] == expected, "{delta}: {this} compared with {base}");
    ensure!(is_fraction(&delta["ratio"]["value"], this * MILLION, base)?, "{delta}: {this} compared with {base}");
    Ok(())
}

/// Whether a number is so many millionths, divided by another one, and rounded; none if that is nothing.
fn is_fraction(value: &Value, millionths: i128, by: i128) -> Result<bool> {
    if by == 0 {
        return Ok(value.is_null());
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    ensure!(decimals.len() <= 6, "{text}");
    let found: i128 = format!("{whole}{decimals:0<6}").parse().with_context(|| text.clone())?;
    Ok((found * by - millionths).abs() <= by.abs())
}
