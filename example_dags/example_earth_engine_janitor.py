"""Cancel a project's stale operations once an hour.

Earth Engine lists the operations of all users of the project and does not name their owners. Agree on the descriptions
of your exports with the other users, and start with ``dry_run=True``.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG

from airflow_ee_provider.operators.earth_engine import EarthEngineCancelStaleOperationsOperator

with DAG(
    "example_earth_engine_janitor",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["example", "earth-engine"],
):
    EarthEngineCancelStaleOperationsOperator(
        task_id="cancel_stale_operations",
        description="airflow-*",
        older_than=timedelta(hours=12),
        limit=100,
        deferrable=True,
        retries=2,
        retry_delay=timedelta(minutes=1),
    )
