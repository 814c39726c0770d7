"""Answers questions over the source files of the demo with DuckDB: an oracle that shares nothing with this project.

usage: duckdb_answers.py FOLDER < questions > answers

A question is a line of JSON: `from` and `to` (microseconds), `starts` of its windows (each lasts until the next), `by`
(dimensions), `filters` (dimension -> values). An answer is a line too: rows of [key, start, events, cents, households],
`start` null for a whole group, `key` null too for all groups together.
"""

import json
import sys

import duckdb

DIMENSIONS = ("user_id", "store", "basket", "product", "quantity", "department")

EVENTS = """
CREATE TABLE events AS
SELECT epoch_us(transaction_timestamp::TIMESTAMP) AS us,
       round(sales_value * 100)::BIGINT AS cents,
       'household-' || household_id AS user_id,
       store_id::VARCHAR AS store, basket_id::VARCHAR AS basket, product_id::VARCHAR AS product,
       quantity::VARCHAR AS quantity, coalesce(department, '') AS department
FROM read_parquet($folder || '/transactions.parquet') LEFT JOIN
     (SELECT product_id, any_value(department) AS department FROM read_parquet($folder || '/products.parquet')
      GROUP BY product_id) USING (product_id)
"""


def answer(database: duckdb.DuckDBPyConnection, question: dict) -> list:
    names = [*question["by"], *question["filters"]]
    if unknown := set(names) - set(DIMENSIONS):
        raise ValueError(f"no such dimensions: {unknown}")
    key = f"[{', '.join(question['by'])}]::VARCHAR[]"
    conditions = "".join(f" AND list_contains($v{n}, {name})" for n, name in enumerate(question["filters"]))
    sql = f"""
        WITH windows AS (SELECT unnest($starts::BIGINT[]) AS start)
        SELECT CASE WHEN grouping(k) = 0 THEN k END, CASE WHEN grouping(start) = 0 THEN start END,
               count(*), sum(cents)::VARCHAR, count(DISTINCT user_id)
        FROM (SELECT {key} AS k, start, cents, user_id FROM events ASOF JOIN windows ON us >= start
              WHERE us >= $from_us AND us < $to_us{conditions})
        GROUP BY GROUPING SETS ((k, start), (k), ())
    """
    values = {f"v{n}": values for n, values in enumerate(question["filters"].values())}
    bounds = {"starts": question["starts"], "from_us": question["from"], "to_us": question["to"]}
    return [list(row) for row in database.execute(sql, {**bounds, **values}).fetchall()]


def main() -> None:
    database = duckdb.connect()
    database.execute("SET threads = 2")
    database.execute(EVENTS, {"folder": sys.argv[1]})
    for line in sys.stdin:
        print(json.dumps(answer(database, json.loads(line))))


if __name__ == "__main__":
    main()
