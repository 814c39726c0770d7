//! Many active cells: events of one second, spread evenly over so many values of one dimension that there are, over all
//! grains, as many cells as asked for. Lines with few and with many cells differ in nothing else, so the difference of
//! their memory is that of their cells.

use std::path::Path;

use anyhow::{Result, ensure};
use clap::Args;
use jiff::Timestamp;
use reckon_schemas::event::{EVENT_VERSION, Event, Properties, Source};
use reckon_schemas::kafka::message_key;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;
use serde_json::{Value, json};

use super::events::{Message, tenant};
use super::fill::Sink;
use super::scene::Scene;
use super::worker;
use crate::config::Settings;

const DIMENSION: &str = "slot";
/// Coprime to any number of values that is not a multiple of it: neighbours in the log belong to distant cells.
const STRIDE: u64 = 7_368_787;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many cells are open at the same time, over all grains.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    cells: u64,
    /// How many events are spread over them.
    #[arg(long, default_value_t = 4_000_000)]
    events: u64,
}

pub(crate) async fn run(settings: &Settings, dir: &Path, arguments: &Arguments) -> Result<Value> {
    let values = arguments.cells / Grain::ALL.len() as u64;
    ensure!(arguments.events >= values, "{values} cells in each grain need as many events at least");
    let mut settings = settings.clone();
    settings.kafka.topics.events = format!("{}.cells-{}", settings.kafka.topics.events, arguments.cells);
    let scene = Scene::set(settings, dir, &format!("cells-{}", arguments.cells), &[DIMENSION.to_owned()]).await?;
    tokio::task::block_in_place(|| fill(&scene.settings, values, arguments.events))?;
    let counted = worker::count(&scene, 1).await?;
    let mut line = json!({ "line": "cells", "cells": values * Grain::ALL.len() as u64 });
    counted.add_to(&mut line);
    scene.clear().await?;
    Ok(line)
}

/// One user a value: all of its events are in one partition, so it is one cell a grain.
fn fill(settings: &Settings, values: u64, events: u64) -> Result<()> {
    let sink = Sink::new(&settings.kafka.brokers, &settings.kafka.topics.events)?;
    let second = EventTime::from_timestamp(Timestamp::from_second(Timestamp::now().as_second())?);
    for number in 0..events {
        sink.send(&message(number, number.wrapping_mul(STRIDE) % values, second))?;
    }
    sink.finish()
}

fn message(number: u64, value: u64, at: EventTime) -> Message {
    let (tenant, id, user) = (tenant(0), format!("{number:032x}"), format!("u-{value:07}"));
    let mut properties = Properties::new();
    properties.insert(DIMENSION, format!("{value:07}"));
    let event = Event {
        version: EVENT_VERSION,
        tenant: (&tenant).into(),
        id: (&id).into(),
        name: "click".into(),
        occurred_at: at,
        received_at: at,
        user: (&user).into(),
        money: None,
        properties,
        source: Source::Native,
    };
    Message { key: message_key(&tenant, &user, &id), payload: event.encode(), timestamp_ms: at.0.div_euclid(1000) }
}
