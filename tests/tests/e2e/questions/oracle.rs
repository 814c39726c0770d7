//! DuckDB, which is asked one question after the other.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use reckon_tests::python;
use reckon_tests::stack::repository;
use serde_json::{Value, json};

use super::question::{Filter, Funnel, Question};

/// What happened in a set of events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) events: i128,
    pub(super) cents: i128,
    pub(super) users: i128,
}

/// The values of a group, if it is one, and the start of a window, if it is one.
pub(super) type Set = (Option<Vec<String>>, Option<String>);
pub(super) type Rows = BTreeMap<Set, Sums>;

pub(super) struct Oracle {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let script = repository().join("tests/python/duckdb_answers.py");
        let mut command = Command::new(python()?);
        let mut child = command.arg(script).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (questions, answers) =
            (child.stdin.take().context("its input")?, child.stdout.take().context("its output")?);
        Ok(Self { child, questions, answers: BufReader::new(answers) })
    }

    fn ask(&mut self, question: &Value) -> Result<Vec<Value>> {
        writeln!(self.questions, "{question}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "DuckDB has no answer to {question}");
        Ok(serde_json::from_str(&line)?)
    }

    /// By group and window, by group, and over all.
    pub(super) fn rows(&mut self, question: &Question) -> Result<Rows> {
        let (starts, end) = question.windows()?;
        let asked = json!({ "kind": "rows", "from": starts.first(), "to": end, "starts": starts, "by": question.by,
                            "filters": listed(&question.filters) });
        let rows = self.ask(&asked)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let set = |row: &Value| {
            let key = row[0].as_array().map(|key| key.iter().map(text).collect::<Vec<_>>());
            let start = row[1].as_i64().map(jiff::Timestamp::from_microsecond).transpose()?;
            anyhow::Ok(((key, start.map(|at| at.to_string())), sums(row)?))
        };
        rows.iter().map(set).collect()
    }

    /// By the day of the week and the hour, and over all.
    pub(super) fn heat(&mut self, question: &Question) -> Result<BTreeMap<Option<(u64, u64)>, Sums>> {
        let (starts, end) = question.windows()?;
        let asked = json!({ "kind": "heat", "from": starts.first(), "to": end, "filters": listed(&question.filters) });
        let rows = self.ask(&asked)?;
        rows.iter().map(|row| Ok((row[0].as_u64().zip(row[1].as_u64()), sums(row)?))).collect()
    }

    /// Users of every step by segment, and over all.
    pub(super) fn funnel(&mut self, funnel: &Funnel) -> Result<BTreeMap<Option<String>, Vec<u64>>> {
        let steps: Vec<Value> = funnel.steps.iter().map(|filters| listed(filters)).collect();
        let asked = json!({ "kind": "funnel", "from": funnel.from_us, "to": funnel.to_us, "filters": [], "steps": steps,
                            "within": funnel.within_s * 1_000_000, "by": funnel.by });
        let rows = self.ask(&asked)?;
        let users = |row: &Value| -> Option<Vec<u64>> { row.as_array()?[1..].iter().map(Value::as_u64).collect() };
        let row = |row: &Value| Ok((row[0].as_str().map(str::to_owned), users(row).context("users")?));
        rows.iter().map(row).collect()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listed(filters: &[Filter]) -> Value {
    filters.iter().map(|Filter(name, test, values)| json!([name, test, values])).collect()
}

fn sums(row: &Value) -> Result<Sums> {
    let number = |value: &Value| value.as_i64().map(i128::from).context("an integer");
    // There is no sum of nothing.
    let cents = row[3].as_str().unwrap_or("0").parse()?;
    Ok(Sums { events: number(&row[2])?, cents, users: number(&row[4])? })
}
