"""A task whose function starts its exports itself, in a loop or by a library's helper."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task


def tile(number: int) -> Any:
    """Return an export task of the official client, not started."""
    import ee

    region = ee.Geometry.Rectangle([number / 100, 0, number / 100 + 0.01, 0.01])
    return ee.batch.Export.image.toCloudStorage(ee.Image("CGIAR/SRTM90_V4"), f"tile-{number}", "bucket", region=region)


def loop(count: int) -> None:
    """Start exports in a loop, as users do."""
    for number in range(count):
        tile(number).start()


def helper(count: int) -> None:
    """Start an export for each image of a collection with geemap."""
    import ee
    import geemap

    images = ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED").limit(count)
    names = [f"image-{number}" for number in range(count)]
    geemap.ee_export_image_collection_to_cloud_storage(images, names, "bucket", scale=1000)


WAYS = {"loop": loop, "geemap": helper}


def function() -> None:
    """Start as many exports as the environment says, and write the time of the beginning to a file."""
    way = WAYS[os.environ.get("WAY", "loop")]
    if way is helper:
        import geemap  # noqa: F401 (its import is no part of a start)

        gc.collect()  # Otherwise, garbage collection visits the import's objects during a start: up to 0.7 s.
    Path(os.environ["BEGAN"]).write_text(str(time.time()), encoding="utf-8")
    way(int(os.environ.get("EXPORTS", "1")))


with DAG("loops", schedule=None):
    task.earth_engine(
        task_id="task", wait_for_completion=False, batch_starts=os.environ.get("BATCH_STARTS", "True") == "True"
    )(function)()
