"""Functions that are modelled on public scripts, and rewritten: each docstring names the source.

Each leaves out its script's computations, and has its requests to Earth Engine and the results that it relies on.
"""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import Any

from assets import ASSETS

#: Seconds between two polls of a task: 5 to 300 in the scripts.
PAUSE = 0.1

ENDED = ("COMPLETED", "FAILED", "CANCELLED")


def image(description: str) -> Any:
    import ee

    return ee.batch.Export.image.toDrive(ee.Image(1), description, scale=1000)


def table(description: str) -> Any:
    import ee

    points = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]))])
    return ee.batch.Export.table.toDrive(points, description, fileFormat="CSV")


def notebook() -> None:
    """Initialize, or authenticate first; start a task, poll it until it has ended, and print its state.

    https://github.com/vishnus4059/STAC_common/blob/main/stac_gee_script.py
    """
    import ee

    try:
        ee.Initialize(project="earth-demo")
    except Exception:  # noqa: BLE001
        ee.Authenticate()
        ee.Initialize(project="earth-demo")
    task = table("wells")
    task.start()
    while task.active():
        time.sleep(PAUSE)
    print("It ended as", task.status()["state"])  # noqa: T201


def monitor() -> list[str]:
    """Start several tasks, poll each until all have ended, and return their ids.

    https://github.com/nlebovits/gee-urban-clim/blob/main/src/utils/general_utils/monitor_ee_tasks.py
    """
    tasks, ended = [image(f"part-{number}") for number in range(3)], list[str]()
    for task in tasks:
        task.start()
    while len(ended) < len(tasks):
        for task in tasks:
            if task.id not in ended and task.status()["state"] in ENDED:
                ended.append(task.id)
        time.sleep(PAUSE)
    return sorted(ended)


def pairs() -> None:
    """Start two tasks, look up their ids in the list of all tasks, and raise an error if one has failed.

    https://github.com/CemCanbolat/uhi-forecast-mitigation/blob/main/core/io/task_monitor.py
    """
    import ee

    remaining = []
    for tile in ("north", "south"):
        task = image(tile)
        task.start()
        remaining.append((tile, task.id))
    while remaining:
        time.sleep(PAUSE)
        listed = {task.id: task for task in ee.batch.Task.list()}
        states = {tile: listed[identity].status()["state"] for tile, identity in remaining}
        if failed := [tile for tile, state in states.items() if state == "FAILED"]:
            raise ValueError(failed)
        remaining = [(tile, identity) for tile, identity in remaining if states[tile] not in ENDED]


def made_again() -> Any:
    """Make the task again from its id, read its state, and list all tasks.

    https://github.com/tam-borine/GEExarray/blob/master/tests/dem_minimal_example.py
    """
    import ee

    task = image("dem")
    task.start()
    again = ee.batch.Task(task.id, task_type="EXPORT_IMAGE", state="READY")
    again.status()
    return {"task": again, "is listed": bool(ee.batch.Task.list())}


def few_at_once() -> None:
    """Start a task only when fewer than two others are active, and wait for the last ones.

    https://github.com/CooperBigFoot/ETblue-estimation/blob/main/utils/export_image_collection.py
    """
    active: list[Any] = []
    for number in range(4):
        while len(active) >= 2:
            time.sleep(PAUSE)
            active = [task for task in active if task.active()]
        active.append(image(f"field-{number}"))
        active[-1].start()
    while any(task.active() for task in active):
        time.sleep(PAUSE)


def watched_in_a_thread() -> str:
    """Poll the task in a thread, and return the id in its status.

    https://github.com/openforis/sepal/blob/master/modules/google-earth-engine/docker/src/sepal/export/table_to_drive.py
    """
    import ee

    task = table("plots")
    task.start()
    identity = str(task.status()["id"])

    def look() -> None:
        while ee.data.getTaskStatus(identity)[0]["state"] not in ENDED:
            time.sleep(PAUSE)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return identity


def moved_into_place() -> str:
    """Export beside the old asset, and move the new one into its place; ignore errors of the move.

    https://github.com/samapriya/gee_asset_manager_addon/blob/master/geeadd/batch_mover.py
    """
    import ee

    new, place = f"{ASSETS}/mosaic_new", f"{ASSETS}/mosaic"
    task = ee.batch.Export.image.toAsset(ee.Image(1), "mosaic", new, scale=1000)
    task.start()
    while task.active():
        time.sleep(PAUSE)
    for step in (lambda: ee.data.deleteAsset(place), lambda: ee.data.renameAsset(new, place)):
        try:
            step()
        except ee.EEException as error:
            print(error)  # noqa: T201
    return place


def ingested_anew() -> None:
    """Delete the table if it exists, and ingest a file in its place.

    https://github.com/accs-uaa/akveg-map/blob/main/09_data_model/06_Ingest_Training_Data.py
    """
    import ee

    asset = f"{ASSETS}/sites"
    try:
        ee.data.getAsset(asset)
        ee.data.deleteAsset(asset)
    except ee.EEException:
        pass
    manifest = {"name": asset, "sources": [{"uris": ["gs://b/sites.csv"]}]}
    ee.data.startTableIngestion(ee.data.newTaskId()[0], manifest)


def ingested_on_arrival() -> dict[str, Any]:
    """Ingest the file that an event names, and overwrite the existing table.

    https://github.com/GoogleCloudPlatform/earthengine-bigquery-automation-demo/blob/main/src/ee_upload/main.py
    """
    import ee

    event = {"bucket": "b", "name": "May-6-2022.csv"}
    name = f"{ASSETS}/{event['name'].rsplit('.', 1)[0]}"
    sources = [{"uris": [f"gs://{event['bucket']}/{event['name']}"], "csvDelimiter": "|"}]
    started: dict[str, Any] = ee.data.startTableIngestion(
        ee.data.newTaskId()[0], {"name": name, "sources": sources}, allow_overwrite=True
    )
    return started


def all_cancelled_first(*, starts: bool = True) -> None:
    """Cancel all pending and running tasks, and start a new one.

    https://github.com/Mckay-Yang/gee-sentinel-ccdc/blob/master/gee_cancel_task.py
    """
    import ee

    for task in ee.data.getTaskList():
        if task["state"] in ("RUNNING", "READY"):
            ee.data.cancelTask(task["id"])
    if starts:
        image("ccdc").start()


def if_it_is_not_there() -> None:
    """Export only the tables for which no asset exists.

    https://github.com/ronnyhdez/reclaimed_sites_ab/blob/main/utils/utils.py
    """
    import ee

    def exists(asset: str) -> bool:
        try:
            ee.data.getAsset(asset)
        except Exception:  # noqa: BLE001
            return False
        return True

    points = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]))])
    for name in ("inside", "outside"):
        if not exists(f"{ASSETS}/{name}"):
            ee.batch.Export.table.toAsset(points, name, f"{ASSETS}/{name}").start()


def every_second_one_awaited() -> list[Any]:
    """Start several tasks; after every second one, wait for it, by its id.

    https://github.com/gee-community/geetools/issues/64
    """
    import ee

    tasks = []
    for number in range(4):
        tasks.append(image(f"scene-{number}"))
        tasks[-1].start()
        while number % 2 and ee.data.getTaskStatus(tasks[-1].id)[0].get("state") not in ENDED:
            time.sleep(PAUSE)
    return tasks


def quarters() -> None:
    """Start a task for each quarter, and do not wait.

    https://github.com/energyandcleanair/india_map/blob/main/01_ee-extract/export_surface_pressure.py
    """
    dates = ["2005-01-01", "2005-04-01", "2005-07-01"]
    for begin, end in pairwise(dates):
        task = table(f"pressure_{begin}_to_{end}")
        task.start()


def course() -> int:
    """Read the ids of a collection's images, and export each image.

    https://github.com/spatialthoughts/courses/blob/master/docs/end-to-end-gee-output/03_export_a_collection.md
    """
    import ee

    identities = ee.ImageCollection("COPERNICUS/S2").aggregate_array("system:index").getInfo()
    for number, identity in enumerate(identities):
        image(f"Image Export {number}: {identity}".replace(":", "")).start()
    return len(identities)
