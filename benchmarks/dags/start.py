"""A task that starts as many exports as the environment says: a grid over a region."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, task


def exports(count: int) -> list[Any]:
    """Return export tasks of the official client, not started."""
    import ee

    image = ee.Image("CGIAR/SRTM90_V4")
    return [
        ee.batch.Export.image.toCloudStorage(
            image,
            f"tile-{number}",
            "bucket",
            region=ee.Geometry.Rectangle([number / 100, 0, number / 100 + 0.01, 0.01]),
        )
        for number in range(count)
    ]


with DAG("start", schedule=None):
    task.earth_engine(task_id="task", wait_for_completion=False)(exports)(int(os.environ.get("EXPORTS", "1")))
