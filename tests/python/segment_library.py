"""Segment's own library for Python sends purchases, one of them twice: COLLECTOR WRITE_KEY DEPARTMENT"""

import sys
from datetime import datetime, timezone

from segment.analytics.client import Client


def main(host: str, write_key: str, department: str) -> None:
    errors: list[object] = []
    client = Client(write_key, host=host, gzip=True, max_retries=0, on_error=lambda error, _: errors.append(error))
    for number, revenue in [(1, "10.01"), (2, "0.02"), (3, 5), (1, "10.01")]:
        client.track(
            user_id=f"{department}-{number % 2}",
            event="purchase",
            message_id=f"{department}-{number}",
            timestamp=datetime(2026, 3, 7, 15, tzinfo=timezone.utc),
            properties={"revenue": revenue, "currency": "USD", "department": department},
        )
    client.shutdown()
    if errors:
        sys.exit(f"{errors}")


main(*sys.argv[1:])
