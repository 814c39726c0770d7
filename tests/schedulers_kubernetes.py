"""Reads a CronJob with the official client's model, which knows every field and what is required, and checks that
nothing in the file is unknown to it."""

import json
import sys
from types import SimpleNamespace

import yaml
from kubernetes import client


def known(read, given, path):
    """Every field of the file is in the model that was read from it: a misspelt one would be lost in silence."""
    if isinstance(given, dict):
        for key, value in given.items():
            where = f"{path}.{key}"
            assert isinstance(read, dict) and key in read, f"{where} is no field of this kind"
            known(read[key], value, where)
    elif isinstance(given, list):
        assert isinstance(read, list) and len(read) == len(given), path
        for index, value in enumerate(given):
            known(read[index], value, f"{path}[{index}]")
    else:
        assert read == given, f"{path}: {read!r} instead of {given!r}"


with open(sys.argv[1], encoding="utf-8") as file:
    document = yaml.safe_load(file)
api = client.ApiClient()
job = api.deserialize(SimpleNamespace(data=json.dumps(document)), "V1CronJob")
known(api.sanitize_for_serialization(job), document, "CronJob")
spec = job.spec.job_template.spec
refused = [rule.on_exit_codes.values for rule in spec.pod_failure_policy.rules if rule.on_exit_codes]
assert refused == [[10, 78]], refused
assert spec.template.spec.restart_policy == "Never", "a pod failure policy needs it"
assert job.spec.concurrency_policy == "Forbid"
print(json.dumps({"kind": job.kind, "schedule": job.spec.schedule}))
