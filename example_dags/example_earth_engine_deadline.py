"""Cancel the exports of a run that misses its deadline; the run itself continues (Airflow 3.1 or later).

A deadline does not end the run, as ``dagrun_timeout`` does; it only calls its callback.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

try:
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:  # Airflow before 3.1 has no deadlines.
    deadline = {}
else:
    deadline = {
        "deadline": DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(hours=6),
            callback=AsyncCallback(EarthEngineCancelOperationsNotifier),
        )
    }

if deadline:
    with DAG(
        "example_earth_engine_deadline",
        schedule=None,
        catchup=False,
        tags=["example", "earth-engine"],
        params={"operation_names": Param([], type="array", description="Operations that the run waits for.")},
        **deadline,
    ):
        EarthEngineOperationsSensor(
            task_id="wait", operation_names="{{ params.operation_names }}", deferrable=True, soft_fail=True
        )
