//! Columns and conditions that several questions share.

use arrow::datatypes::DataType;
use datafusion::functions::core::expr_fn::{coalesce, get_field};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use hashbrown::HashMap;
use reckon_schemas::lake::COLUMN_PROPERTIES;

use crate::recount::Place;

/// A column in the type that its reader expects. Texts are no views: Ballista's shuffles do not carry these well.
pub(super) fn typed(name: &str) -> Expr {
    let data_type = match name {
        "name" | "currency" | "country" | "device" => DataType::Utf8,
        "partition" => DataType::Int32,
        "properties" => return ident(name),
        _ => DataType::Int64,
    };
    cast(ident(name), data_type).alias(name)
}

/// The value of a property; the first one, as everywhere. Null where there is none.
pub(super) fn property(name: &str) -> Expr {
    if COLUMN_PROPERTIES.contains(&name) {
        return cast(ident(name), DataType::Utf8);
    }
    // Not `map_extract`: what an executor knows without being told are DataFusion's core functions.
    cast(get_field(ident("properties"), name), DataType::Utf8)
}

/// The same as a dimension has it: a property that an event does not have counts as empty.
pub(super) fn dimension(name: &str) -> Expr {
    coalesce(vec![property(name), lit("")])
}

/// Whether a delivery is one of these.
pub(super) fn is_one_of(places: impl IntoIterator<Item = Place>) -> Expr {
    let mut by_partition: HashMap<i32, Vec<Expr>> = HashMap::new();
    for place in places {
        by_partition.entry(place.partition()).or_default().push(lit(place.offset()));
    }
    let of_partition = |(partition, offsets): (i32, Vec<Expr>)| {
        ident("partition").eq(lit(partition)).and(ident("offset").in_list(offsets, false))
    };
    by_partition.into_iter().map(of_partition).reduce(Expr::or).unwrap_or_else(|| lit(false))
}
