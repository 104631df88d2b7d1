"""The janitor that cancels operations that no task needs."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_ee_provider.operators.earth_engine import EarthEngineCancelStaleOperationsOperator

with DAG("cancel_orphans", schedule=None):
    EarthEngineCancelStaleOperationsOperator(
        task_id="cancel_orphans", orphaned=True, airflow_conn_id="airflow_api", poll_interval=1
    )
