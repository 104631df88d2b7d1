"""An export in a project for which Earth Engine fails during the start: the emulator's faults are per project."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator

BODY = {
    "description": "{{ dag.dag_id }}",
    "expression": {"result": "0", "values": {"0": {"constantValue": 1}}},
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}

with DAG("away", schedule=None, catchup=False):
    EarthEngineExportOperator(task_id="export", kind="image", body=BODY, project_id="away")
