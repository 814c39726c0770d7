#!/usr/bin/env python3
"""The exact recount as other engines do it, on the files of the lake: each event once, then count, sum and distinct users.

usage: recount_peers.py duckdb|duckdb-keys|clickhouse|polars single|whole FOLDER_OF_THE_LAKE [THREADS=2]

`single` groups by (tenant, name, country, hour); `whole` by four rollups (none, country, device, both) in four grains
(1m, 5m, 1h, 1d). One engine, one run, one line of JSON; `duckdb-keys` tells events and users apart by the archive's
128-bit keys instead of the texts. Equal digests mean equal answers; for `whole`, which has millions of rows, equal sums
over all cells do.
"""
import hashlib
import json
import os
import sys
import time

engine, work, folder = sys.argv[1:4]
threads = int(sys.argv[4]) if len(sys.argv) > 4 else 2
FILES = f"{folder}/lake/events/tenant=*/event_date=*/*.parquet"
WINDOWS_US = {"m1": 60_000_000, "m5": 300_000_000, "h1": 3_600_000_000, "d1": 86_400_000_000}
ROLLUPS = [[], ["country"], ["device"], ["country", "device"]]
SETS = [["tenant", "name", *rollup, window] for rollup in ROLLUPS for window in WINDOWS_US]


def sql(*, any_value, identity, user, us, div, source, coalesced_sum, hash_sets=True):
    columns = ", ".join(f"{any_value}({c}) {c}" for c in ["tenant", "name", "country", "device", "amount_minor"])
    windows = ", ".join(f"{any_value}({div(us, size)}) {name}" for name, size in WINDOWS_US.items())
    if work == "single":
        columns = columns.replace(f"{any_value}(device) device, ", "")
        windows = f"{any_value}({div(us, WINDOWS_US['h1'])}) h1"
    events = f"SELECT {columns}, {windows}, {any_value}({user}) u FROM {source} GROUP BY {identity}"
    measures = f"count(*) n, {coalesced_sum} s, count(DISTINCT u) users"
    if work == "single":
        return f"SELECT tenant, name, country, h1, {measures} FROM ({events}) GROUP BY tenant, name, country, h1"
    sets = ", ".join("(" + ", ".join(s) + ")" for s in SETS)
    cells = f"SELECT {measures} FROM ({events}) GROUP BY GROUPING SETS ({sets})"
    return f"SELECT count(*), sum(n), sum(s), sum(users), sum(n * users) FROM ({cells})"


def duckdb_rows(by_keys):
    import duckdb

    con = duckdb.connect(config={"threads": threads, "temp_directory": os.environ.get("TMPDIR", "/tmp") + "/duckdb"})
    con.execute("set preserve_insertion_order=false")
    identity = "event_key_high, event_key_low" if by_keys else "tenant, event_id"
    user = "user_key_high::hugeint * 18446744073709551616 + user_key_low" if by_keys else "user_id"
    text = sql(any_value="any_value", identity=identity, user=user, us="epoch_us(occurred_at)",
               div=lambda a, b: f"{a}//{b}", coalesced_sum="coalesce(sum(amount_minor),0)::bigint",
               source=f"read_parquet('{FILES}', hive_partitioning=true)")
    return lambda: con.execute(text).fetchall()


def clickhouse_rows():
    import chdb

    text = sql(any_value="any", identity="tenant, event_id", user="user_id", us="toUnixTimestamp64Micro(occurred_at)",
               div=lambda a, b: f"intDiv({a},{b})", coalesced_sum="coalesce(sum(amount_minor),0)",
               source=f"(SELECT extract(_path, 'tenant=([^/]+)') tenant, * FROM file('{FILES}', Parquet))")
    text = text.replace("count(DISTINCT u)", "uniqExact(u)")
    # The names of aliases are those of columns; the columns are meant.
    text += (f" SETTINGS max_threads={threads}, use_hive_partitioning=0, prefer_column_name_to_alias=1,"
             " output_format_json_quote_64bit_integers=0 FORMAT JSONCompactEachRow")
    return lambda: [tuple(json.loads(line)) for line in chdb.query(text).bytes().decode().splitlines()]


def polars_rows():
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    us = pl.col("occurred_at").dt.epoch("us")
    windows = {name: us // size for name, size in WINDOWS_US.items()}
    wanted = ["tenant", "event_id", "name", "country", "device", "amount_minor", "user_id"]
    rows = pl.scan_parquet(FILES, hive_partitioning=True)
    measures = {"n": pl.len().cast(pl.Int64), "s": pl.col("amount_minor").sum(),
                "users": pl.col("user_id").n_unique().cast(pl.Int64)}
    if work == "single":
        wanted.remove("device")
        rows = rows.select(*wanted, windows["h1"].alias("h1"))
        events = rows.group_by("tenant", "event_id").agg(pl.all().first())
        cells = events.group_by("tenant", "name", "country", "h1").agg(**measures)
        return lambda: cells.collect(engine="streaming").rows()
    rows = rows.select(*wanted, *[window.alias(name) for name, window in windows.items()])
    events = rows.group_by("tenant", "event_id").agg(pl.all().first())

    def run():
        kept, sums = events.collect(engine="streaming").lazy(), []
        for keys in SETS:
            cells = kept.group_by(keys).agg(**measures)
            sums.append(cells.select(pl.len(), pl.col("n").sum(), pl.col("s").sum(), pl.col("users").sum(),
                                     (pl.col("n") * pl.col("users")).sum().alias("product")).collect(engine="streaming").row(0))
        return [tuple(map(sum, zip(*sums)))]

    return run


engines = {"duckdb": lambda: duckdb_rows(False), "duckdb-keys": lambda: duckdb_rows(True),
           "clickhouse": clickhouse_rows, "polars": polars_rows}
run = engines[engine]()
started = time.time()
result = run()
seconds = time.time() - started
answer = {}
if work == "single":
    lines = sorted("|".join(str(0 if value is None else value) for value in row) for row in result)
    answer["digest"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    totals = [len(result), *(sum(int(row[place]) for row in result) for place in (4, 5, 6))]
    totals.append(sum(int(row[4]) * int(row[6]) for row in result))
else:
    answer["digest"] = ""
    totals = [int(total) for total in result[0]]
answer |= dict(zip(["groups", "events", "amount_minor", "users_summed"], totals)) | {"product": str(totals[4])}
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({
    "line": "recount", "engine": engine, "work": work, "seconds": round(seconds, 3),
    "events_per_second": round(totals[1] / seconds), **answer, "usage": {"rss_bytes_max": int(peak.split()[1]) * 1024},
}))
