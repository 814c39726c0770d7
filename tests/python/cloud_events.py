"""The CloudEvents project's own library sends purchases in all modes, one of them twice: COLLECTOR WRITE_KEY DEPARTMENT"""

import json
import sys
from datetime import datetime, timezone

import requests
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent


def main(collector: str, write_key: str, department: str) -> None:
    def event(number: int, revenue: object) -> CloudEvent:
        return CloudEvent(
            attributes={
                "id": str(number),
                "source": f"/tests/{department}",
                "type": "purchase",
                "specversion": "1.0",
                "subject": f"{department}-{number % 2}",
                "time": datetime(2026, 3, 7, 15, tzinfo=timezone.utc),
                "datacontenttype": "application/json",
            },
            data={"revenue": revenue, "currency": "USD", "department": department},
        )

    def post(headers: dict[str, str], body: bytes) -> None:
        headers = {**headers, "authorization": f"Bearer {write_key}"}
        answer = requests.post(f"{collector}/v1/cloudevents", headers=headers, data=body, timeout=30)
        if answer.status_code != 204:
            sys.exit(f"{answer.status_code}: {answer.text}")

    structured = to_structured_event(event(1, "10.01"))
    post(structured.headers, structured.body)
    binary = to_binary_event(event(2, "0.02"))
    post(binary.headers, binary.body)
    # The library has no batches of its own: they are a list of what it makes.
    batch = [json.loads(to_structured_event(again).body) for again in (event(3, 5), event(1, "10.01"))]
    post({"content-type": "application/cloudevents-batch+json"}, json.dumps(batch).encode())


main(*sys.argv[1:])
