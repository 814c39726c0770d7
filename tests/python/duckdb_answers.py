"""Answers questions over the source files of the demo with DuckDB: an oracle that shares nothing with this project.

usage: duckdb_answers.py FOLDER < questions > answers

A question is a line of JSON, and so is its answer. All have `from` and `to` (microseconds) and `filters`: a list of
[dimension, "in" | "not" | "prefix", values]. What else there is depends on `kind`:

rows    `starts` of windows (each lasts until the next) and `by` (dimensions). Rows of [key, start, events, cents, households],
        `start` null for a whole group, `key` null too for all groups together.
heat    Rows of [weekday, hour, events, cents, households] of New York's clocks; both null for the whole range.
funnel  `steps` (each a list of filters), `within` (microseconds) and `by` (one dimension, or null). Rows of [segment, users of each
        step], `segment` null for all of them together.
"""

import json
import sys

import duckdb

DIMENSIONS = ("user_id", "store", "basket", "product", "quantity", "department")

EVENTS = """
CREATE TABLE events AS
SELECT epoch_us(transaction_timestamp::TIMESTAMP) AS us,
       timezone('America/New_York', timezone('UTC', transaction_timestamp::TIMESTAMP)) AS local,
       round(sales_value * 100)::BIGINT AS cents,
       'household-' || household_id AS user_id,
       store_id::VARCHAR AS store, basket_id::VARCHAR AS basket, product_id::VARCHAR AS product,
       quantity::VARCHAR AS quantity, coalesce(department, '') AS department
FROM read_parquet($folder || '/transactions.parquet') LEFT JOIN
     (SELECT product_id, any_value(department) AS department FROM read_parquet($folder || '/products.parquet')
      GROUP BY product_id) USING (product_id)
"""

SUMS = "count(*), sum(cents)::VARCHAR, count(DISTINCT user_id)"


class Question:
    """A question and the parameters of its statement."""

    def __init__(self, question: dict) -> None:
        self.question = question
        self.parameters = {"from_us": question["from"], "to_us": question["to"]}

    def happened(self, filters: list) -> str:
        """The condition that an event is in the range and passes filters."""
        conditions = ["us >= $from_us AND us < $to_us"]
        for dimension, test, values in filters:
            name = known(dimension)
            if test == "prefix":
                begins = [f"starts_with({name}, {self.bound(value)})" for value in values]
                conditions.append(f"({' OR '.join(begins)})")
            else:
                negation = {"in": "", "not": "NOT "}[test]
                conditions.append(f"{negation}list_contains({self.bound(values)}::VARCHAR[], {name})")
        return " AND ".join(conditions)

    def bound(self, value: object) -> str:
        name = f"v{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    def rows(self) -> str:
        starts = self.bound(self.question["starts"])
        key = f"[{', '.join(map(known, self.question['by']))}]::VARCHAR[]"
        return f"""
            WITH windows AS (SELECT unnest({starts}::BIGINT[]) AS start)
            SELECT CASE WHEN grouping(k) = 0 THEN k END, CASE WHEN grouping(start) = 0 THEN start END, {SUMS}
            FROM (SELECT {key} AS k, start, cents, user_id FROM events ASOF JOIN windows ON us >= start
                  WHERE {self.happened(self.question["filters"])})
            GROUP BY GROUPING SETS ((k, start), (k), ())"""

    def heat(self) -> str:
        return f"""
            SELECT CASE WHEN grouping(d) = 0 THEN d END, CASE WHEN grouping(h) = 0 THEN h END, {SUMS}
            FROM (SELECT isodow(local) AS d, hour(local) AS h, cents, user_id FROM events
                  WHERE {self.happened(self.question["filters"])})
            GROUP BY GROUPING SETS ((d, h), ())"""

    def funnel(self) -> str:
        steps = self.question["steps"]
        # From every event of the first step always to the next event that will do.
        tables, joins, level = [], "s0", "1"
        for number, filters in enumerate(steps):
            segment = known(self.question["by"]) if self.question["by"] else "''"
            tables.append(
                f"s{number} AS (SELECT user_id, us, {segment} AS segment FROM events WHERE {self.happened(filters)})"
            )
            if number:
                joins += f""" ASOF LEFT JOIN s{number}
                              ON s{number}.user_id = s0.user_id AND s{number - 1}.us < s{number}.us"""
                level = f"CASE WHEN s{number}.us - s0.us <= {self.bound(self.question['within'])} THEN {number + 1} ELSE {level} END"
        reached = ", ".join(f"count(*) FILTER (level > {number})" for number in range(len(steps)))
        return f"""
            WITH {", ".join(tables)},
                 users AS (SELECT s0.user_id, max({level}) AS level, arg_min(s0.segment, s0.us) AS segment
                           FROM {joins} GROUP BY s0.user_id)
            SELECT CASE WHEN grouping(segment) = 0 THEN segment END, {reached}
            FROM users GROUP BY GROUPING SETS ((segment), ())"""


def known(dimension: str) -> str:
    if dimension not in DIMENSIONS:
        raise ValueError(f"no such dimension: {dimension}")
    return dimension


def main() -> None:
    database = duckdb.connect()
    database.execute("SET threads = 2")
    # It would go to standard output when the machine is slow.
    database.execute("SET enable_progress_bar = false")
    database.execute(EVENTS, {"folder": sys.argv[1]})
    for line in sys.stdin:
        question = Question(json.loads(line))
        kinds = {"rows": question.rows, "heat": question.heat, "funnel": question.funnel}
        sql = kinds[question.question["kind"]]()
        print(json.dumps(database.execute(sql, question.parameters).fetchall()), flush=True)


if __name__ == "__main__":
    main()
