"""Loads the DAG folder in a real Airflow, and checks what the example promises of it."""

import sys

from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder=sys.argv[1])
assert not bag.import_errors, bag.import_errors
dag = bag.dags["reckon_nightly"]
tasks = {task.task_id: task for task in dag.tasks}
assert tasks["nightly"].downstream_task_ids == {"final"}, tasks["nightly"].downstream_task_ids
assert tasks["final"].downstream_task_ids == {"settled"}, tasks["final"].downstream_task_ids
assert list(tasks["nightly"].skip_on_exit_code) == [99], tasks["nightly"].skip_on_exit_code
assert str(tasks["final"].trigger_rule) in ("none_failed", "TriggerRule.NONE_FAILED"), tasks["final"].trigger_rule
assert "--wait 2h" in tasks["final"].bash_command and "macros.ds_add(ds, -1)" in tasks["final"].bash_command
assert dag.max_active_runs == 1 and not dag.catchup
print(f"{dag.dag_id}: {' -> '.join(task.task_id for task in dag.topological_sort())}")
