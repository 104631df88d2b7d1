"""Two hundred DAGs with fifteen mapped exports each; or with as many tasks that only sleep."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, get_parsing_context

DAGS, EXPORTS = 200, 15
RUN_SECONDS = float(os.environ["COMPANY_RUN_SECONDS"])
START, EVERY = datetime.fromisoformat(os.environ["COMPANY_START"]), float(os.environ["COMPANY_EVERY"])
EXPRESSION = {"result": "0", "values": {"0": {"constantValue": 1}}}
BODIES = [{"description": f"{{{{ dag.dag_id }}}}-{number}", "expression": EXPRESSION} for number in range(EXPORTS)]


def exports() -> None:
    """Add the mapped exports to a DAG."""
    from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator

    destination = {"cloudStorageDestination": {"bucket": "bucket", "filenamePrefix": "{{ run_id }}"}}
    bodies = [{**body, "fileExportOptions": {"fileFormat": "GEO_TIFF", **destination}} for body in BODIES]
    how: dict[str, Any] = {"kind": "image", "deferrable": True, "poll_interval": 30}
    EarthEngineExportOperator.partial(task_id="export", **how).expand(body=bodies)


def sleeps() -> None:
    """Add mapped tasks that only sleep instead."""
    from waiting import SleepOperator

    SleepOperator.partial(task_id="export", seconds=RUN_SECONDS).expand(body=BODIES)


def callbacks() -> dict[str, Any]:
    """Return the callback that cancels the exports of a failed run."""
    from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier

    return {"on_failure_callback": EarthEngineCancelOperationsNotifier()}


are_ours = os.environ["COMPANY_RUNS"] == "now"
only = get_parsing_context().dag_id
for number in range(DAGS):
    if only in (None, dag_id := f"company_{number:03d}"):
        how = callbacks() if are_ours else {}
        with DAG(dag_id, schedule=timedelta(seconds=EVERY), start_date=START, catchup=False, **how) as dag:
            (exports if are_ours else sleeps)()
        globals()[dag_id] = dag
