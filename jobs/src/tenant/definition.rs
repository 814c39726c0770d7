//! What a tenant is, on the command line and as people write it into the catalog.

use clap::Args;
use reckon_schemas::catalog::{Metric, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::Zone;
use serde::{Deserialize, Serialize};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, ser};

#[derive(Debug, Args)]
pub(crate) struct DefinitionArguments {
    /// Its name in every key, table and path. It stays.
    name: TenantId,
    /// The zone that its days begin and end in, such as Europe/Berlin.
    #[arg(long, value_name = "ZONE", value_parser = Zone::parse)]
    time_zone: Zone,
    /// Properties to group by, joined by commas, such as country,device. May be given more than once.
    #[arg(long = "rollup", value_name = "PROPERTIES")]
    rollups: Vec<Rollup>,
    /// A number with a name, in the catalog's own words: 'name = "revenue", event = "purchase", measure = "money",
    /// currency = "EUR"'. May be given more than once.
    #[arg(long = "metric", value_name = "FIELDS", value_parser = metric)]
    metrics: Vec<Metric>,
    /// How many values of a dimension are told apart in a day.
    #[arg(long, value_name = "N", default_value_t = Tenant::DIMENSION_VALUES_MAX)]
    dimension_values_max: usize,
    /// The most events it may send in a second; no bound if absent.
    #[arg(long, value_name = "N")]
    events_per_second_max: Option<u32>,
}

impl From<DefinitionArguments> for Tenant {
    fn from(arguments: DefinitionArguments) -> Self {
        let DefinitionArguments { name, time_zone, rollups, metrics, dimension_values_max, events_per_second_max } =
            arguments;
        Self { rollups, metrics, dimension_values_max, events_per_second_max, ..Self::new(name, time_zone) }
    }
}

fn metric(fields: &str) -> Result<Metric, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        metric: Metric,
    }
    let line: Result<Line, toml::de::Error> = toml::from_str(&format!("metric = {{ {fields} }}"));
    line.map(|line| line.metric).map_err(|error| error.message().to_owned())
}

/// A tenant without its keys, and without what goes without saying.
#[derive(Debug, Serialize)]
pub(crate) struct Definition<'a> {
    pub(crate) id: &'a TenantId,
    pub(crate) time_zone: &'a Zone,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) rollups: &'a [Rollup],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension_values_max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events_per_second_max: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) metrics: &'a [Metric],
}

impl<'a> Definition<'a> {
    pub(crate) fn of(tenant: &'a Tenant) -> Self {
        let dimension_values_max = tenant.dimension_values_max;
        Self {
            id: &tenant.id,
            time_zone: &tenant.time_zone,
            rollups: &tenant.rollups,
            dimension_values_max: (dimension_values_max != Tenant::DIMENSION_VALUES_MAX)
                .then_some(dimension_values_max),
            events_per_second_max: tenant.events_per_second_max,
            metrics: &tenant.metrics,
        }
    }

    /// The tenant's table of the catalog.
    pub(crate) fn table(&self) -> Result<Table, ser::Error> {
        let plain = Definition { metrics: &[], ..*self };
        let mut table = ser::to_document(&plain)?.into_table();
        if !self.metrics.is_empty() {
            let metrics = self.metrics.iter().map(|metric| Ok(ser::to_document(metric)?.into_table()));
            let metrics: ArrayOfTables = metrics.collect::<Result<_, ser::Error>>()?;
            table.insert("metrics", Item::ArrayOfTables(metrics));
        }
        Ok(table)
    }

    /// The piece of the catalog that makes this tenant.
    pub(crate) fn piece(&self) -> Result<String, ser::Error> {
        let mut document = DocumentMut::new();
        document.insert("tenants", Item::ArrayOfTables([self.table()?].into_iter().collect()));
        Ok(document.to_string())
    }
}

/// Whether two tenants are counted alike; keys come and go.
pub(crate) fn is_same(one: &Tenant, other: &Tenant) -> bool {
    let without_keys = |tenant: &Tenant| Tenant { keys: Vec::new(), ..tenant.clone() };
    without_keys(one) == without_keys(other)
}

#[cfg(test)]
mod tests {
    use reckon_schemas::catalog::Catalog;

    use super::*;

    #[test]
    fn a_piece_is_what_people_would_write() {
        let tenant = Tenant {
            rollups: vec!["country,device".parse().expect("valid")],
            metrics: vec![
                metric(r#"name = "revenue", event = "purchase", measure = "money", currency = "EUR""#).expect("valid"),
                metric(r#"name = "pages", event = "view", measure = "top", property = "page", limit = 5"#)
                    .expect("valid"),
            ],
            events_per_second_max: Some(500),
            ..Tenant::new("acme".parse().expect("valid"), Zone::parse("Asia/Tokyo").expect("valid"))
        };
        let piece = Definition::of(&tenant).piece().expect("plain");
        assert_eq!(
            piece,
            r#"[[tenants]]
id = "acme"
time_zone = "Asia/Tokyo"
rollups = ["country,device"]
events_per_second_max = 500

[[tenants.metrics]]
name = "revenue"
event = "purchase"
measure = "money"
currency = "EUR"

[[tenants.metrics]]
name = "pages"
event = "view"
measure = "top"
property = "page"
limit = 5
"#
        );
        let catalog: Catalog = toml::from_str(&piece).expect("a catalog");
        assert_eq!(catalog.tenants, [tenant]);
    }

    #[test]
    fn a_metric_that_is_none_is_refused_by_its_field() {
        for (fields, named) in [
            (r#"name = "a", event = "b""#, "measure"),
            (r#"name = "a", event = "b", measure = "median""#, "median"),
            ("name = 'a', event = 'b', measure = 'count' }\nanother = { name = 'c'", "another"),
            ("revenue", "expected"),
        ] {
            let refused = metric(fields).expect_err(fields);
            assert!(refused.contains(named), "{fields}: {refused}");
        }
    }
}
