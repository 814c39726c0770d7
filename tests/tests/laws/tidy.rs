//! Rules of the house that a compiler does not know: who may import whom, and how large a file may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use reckon_tests::stack::repository;

const LINES_MAX: usize = 400;

/// The arrows between the rooms, and no others.
const ARROWS: [(&str, &[&str]); 6] = [
    ("schemas", &[]),
    ("speed", &["schemas"]),
    ("batch", &["schemas"]),
    ("serving", &["schemas"]),
    ("jobs", &["schemas", "speed", "batch", "serving"]),
    ("tests", &["schemas", "speed", "batch", "serving"]),
];

/// Crates that would bring I/O, a runtime or a client into the vocabulary.
const NOT_IN_SCHEMAS: [&str; 12] = [
    "tokio",
    "futures",
    "rdkafka",
    "redis",
    "clickhouse",
    "object_store",
    "reqwest",
    "axum",
    "datafusion",
    "deltalake",
    "arrow",
    "parquet",
];

fn tracked_files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .expect("git lists the files");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| repository().join(line))
        .filter(|path| path.is_file())
        .collect()
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

#[test]
fn arrows_between_the_rooms() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo describes the workspace");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let room = |name: &str| match name {
        "reckon" => Some("jobs".to_owned()),
        name => name.strip_prefix("reckon-").map(str::to_owned),
    };
    for package in metadata["packages"].as_array().expect("packages") {
        let from = room(package["name"].as_str().expect("a name")).expect("every package is a room");
        let to = package["dependencies"].as_array().expect("dependencies");
        let to = to.iter().filter_map(|dependency| room(dependency["name"].as_str()?));
        arrows.entry(from).or_default().extend(to);
    }
    let allowed: BTreeMap<String, BTreeSet<String>> = ARROWS
        .into_iter()
        .map(|(from, to)| (from.to_owned(), to.iter().map(|to| (*to).to_owned()).collect()))
        .collect();
    assert_eq!(arrows.keys().collect::<Vec<_>>(), allowed.keys().collect::<Vec<_>>(), "the rooms");
    for (from, to) in &arrows {
        let forbidden: Vec<_> = to.difference(&allowed[from]).collect();
        assert!(forbidden.is_empty(), "{from} must not import {forbidden:?}");
    }
    for package in metadata["packages"].as_array().expect("packages") {
        if package["name"] == "reckon-schemas" {
            for dependency in package["dependencies"].as_array().expect("dependencies") {
                let name = dependency["name"].as_str().expect("a name");
                assert!(!NOT_IN_SCHEMAS.contains(&name), "schemas must stay pure, but imports {name}");
            }
        }
    }
}

#[test]
fn files_stay_small() {
    let mut too_long = Vec::new();
    for path in tracked_files() {
        if matches!(extension(&path), "rs" | "ts" | "py" | "sh" | "sql" | "css") {
            let lines = std::fs::read_to_string(&path).expect("text").lines().count();
            if lines > LINES_MAX {
                too_long.push(format!("{} has {lines} lines", path.display()));
            }
        }
    }
    assert!(too_long.is_empty(), "split by meaning (at most {LINES_MAX} lines):\n{}", too_long.join("\n"));
}

#[test]
fn only_jobs_touches_the_outside_world() {
    for path in tracked_files() {
        let relative = path.strip_prefix(repository()).expect("inside").to_string_lossy().into_owned();
        let is_layer =
            ["schemas/src", "speed/src", "batch/src", "serving/src"].iter().any(|room| relative.starts_with(room));
        if is_layer && extension(&path) == "rs" {
            let text = std::fs::read_to_string(&path).expect("text");
            for forbidden in ["std::env::", "tracing_subscriber", "tokio::signal"] {
                assert!(!text.contains(forbidden), "{relative} uses {forbidden}: only jobs may");
            }
        }
    }
}

#[test]
fn rooms_without_a_meaning_are_refused() {
    for path in tracked_files() {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(
            !["common", "utils", "util", "helpers", "misc"].contains(&stem),
            "{}: name it by its meaning",
            path.display()
        );
    }
}
