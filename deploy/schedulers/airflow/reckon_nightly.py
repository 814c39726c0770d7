"""Settles every day that is over, then waits until one tenant's day is final: what needs its numbers comes after.

Variables of Airflow: ``reckon_command`` (how reckon is called), ``reckon_tenant``, ``reckon_settle_after_hours``.
The last line that reckon prints is JSON and becomes the task's XCom.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

RECKON = "{{ var.value.get('reckon_command', 'reckon --config /etc/reckon/reckon.toml') }}"
TENANT = "{{ var.value.get('reckon_tenant', 'acme') }}"

with DAG(
    dag_id="reckon_nightly",
    description=__doc__,
    schedule="0 6 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Two at once would do no harm; the second one would only wait for the first one's lock.
    max_active_runs=1,
    default_args={
        # Exit codes 11 and 75 pass; 10 and 78 do not, and are tried again in vain before somebody is told.
        "retries": 6,
        "retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=4),
    },
    tags=["reckon"],
) as dag:
    # The line that it ends with goes to XCom; 99, nothing to do, is a skipped task.
    nightly = BashOperator(
        task_id="nightly",
        bash_command=f"{RECKON} nightly",
        skip_on_exit_code=99,
    )

    # The day before the one that the run is for, in the tenant's zone. A skipped nightly is no reason to stop here.
    gate = BashOperator(
        task_id="final",
        bash_command=f"{RECKON} final --tenant {TENANT} --date {{{{ macros.ds_add(ds, -1) }}}} --wait 2h",
        trigger_rule="none_failed",
    )

    # Whatever reports on the day comes after this.
    settled = EmptyOperator(task_id="settled")

    nightly >> gate >> settled
