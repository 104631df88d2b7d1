"""DAGs with one mapped export or import, whose request is a template file or has braces of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator, EarthEngineImportOperator

EXPRESSION = {"result": "0", "values": {"0": {"constantValue": "{% not ours %} {{ nor this }}"}}}
FILES = Path(__file__).parent / "files"
HOW: dict[str, Any] = {"task_id": "task", "poll_interval": 0.2}

with DAG("mapped_export", schedule=None):
    destination = {"bucket": "b", "filenamePrefix": "{{ run_id }}"}
    body = {"expression": EXPRESSION, "fileExportOptions": {"cloudStorageDestination": destination}}
    EarthEngineExportOperator.partial(body=body, **HOW).expand(kind=["image"])

with DAG("mapped_export_of_a_file", schedule=None, template_searchpath=[str(FILES)]):
    EarthEngineExportOperator.partial(body="export.json", **HOW).expand(kind=["image"])

with DAG("mapped_import_of_a_file", schedule=None, template_searchpath=[str(FILES)]):
    EarthEngineImportOperator.partial(kind="image", **HOW).expand(manifest=["import.json"])
