"""Reads a Delta table with two libraries that are not this project's, and prints what they see as JSON.

  read_lake.py URL [ENDPOINT]     {"deltalake": {"offsets": {"0": [...]}, "minor": 12}, "polars": {...}}
"""

import json
import sys

import polars
from deltalake import DeltaTable, QueryBuilder

url, options = sys.argv[1], None
if len(sys.argv) > 2:
    options = {
        "AWS_ENDPOINT_URL": sys.argv[2],
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ALLOW_HTTP": "true",
    }


def seen(rows):
    offsets = {}
    for partition, offset, _ in rows:
        offsets.setdefault(str(partition), []).append(offset)
    minor = sum(amount for _, _, amount in rows if amount is not None)
    return {"offsets": {key: sorted(offsets[key]) for key in sorted(offsets)}, "minor": minor}


columns = ["partition", "offset", "amount_minor"]
table = DeltaTable(url, storage_options=options)
query = "SELECT " + ", ".join(f'"{column}"' for column in columns) + " FROM rows"
queried = polars.from_arrow(QueryBuilder().register("rows", table).execute(query)).struct.unnest()
scanned = polars.scan_delta(url, storage_options=options).select(columns).collect()
print(json.dumps({"deltalake": seen(queried.rows()), "polars": seen(scanned.rows())}))
