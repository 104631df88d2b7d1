"""Ten tasks that start at the same time, each with one export; for `killed.py`."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, get_current_context, task


def export() -> Any:
    """Return an export whose description names its round and its task."""
    import ee

    context = get_current_context()
    if folder := os.environ.get("TRACES"):  # The stack of each thread of the process, every second.
        name = f"{context['dag_run'].conf['round']}-{context['ti'].task_id}.txt"
        faulthandler.dump_traceback_later(1, repeat=True, file=(Path(folder) / name).open("a"))
    description = f"{context['dag_run'].conf['round']}-{context['ti'].task_id}"
    region = ee.Geometry.Rectangle([0, 0, 0.01, 0.01])
    return ee.batch.Export.image.toCloudStorage(ee.Image("CGIAR/SRTM90_V4"), description, "bucket", region=region)


with DAG("ten", schedule=None, max_active_tasks=100):
    for number in range(10):
        task.earth_engine(task_id=f"t{number}", deferrable=os.environ.get("DEFERRABLE", "1") == "1", retries=0)(
            export
        )()
