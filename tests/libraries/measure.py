"""``make libraries``: libraries that people use with Earth Engine, as they are, with the client that a task lends them.

Writes ``docs/libraries.md``. The exit code says whether everything that was started is owned.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee
from instances import TaskInstance

from airflow_ee_provider.earth_engine.errors import EarthEngineError
from airflow_ee_provider.earth_engine.lent_client import lent_client
from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.starter import Starter

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARIES = ("geemap", "geetools", "eemont", "xee")

IMPORT = """
import json, psutil, time
started, before = time.process_time(), psutil.Process().memory_info().rss
import {library}
print(json.dumps([time.process_time() - started, (psutil.Process().memory_info().rss - before) / 2**20]))
"""


def image() -> Any:
    return ee.Image(1).clip(ee.Geometry.Rectangle([0, 0, 1, 1]))


def images() -> Any:
    return ee.ImageCollection([image().toUint8().addBands([image(), image()])] * 2)


def features() -> Any:
    return ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]), {"name": "x"})])


def asset(name: str) -> str:
    return f"projects/earth-demo/assets/{name}"


def helpers() -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return each library's ways to export, with how many operations each starts."""
    import eemont  # noqa: F401
    import geemap
    import geetools  # noqa: F401

    region = ee.Geometry.Rectangle([0, 0, 1, 1])
    box: dict[str, Any] = {"scale": 1000, "region": region}
    return {
        "geemap.ee_export_image_to_drive": (1, lambda: geemap.ee_export_image_to_drive(image(), "a", **box)),
        "geemap.ee_export_image_to_asset": (
            1,
            lambda: geemap.ee_export_image_to_asset(image(), "a", asset("a"), **box),
        ),
        "geemap.ee_export_image_to_cloud_storage": (
            1,
            lambda: geemap.ee_export_image_to_cloud_storage(image(), "a", "b", **box),
        ),
        "geemap.ee_export_image_collection_to_drive": (
            2,
            lambda: geemap.ee_export_image_collection_to_drive(images(), ["a", "b"], **box),
        ),
        "geemap.ee_export_image_collection_to_asset": (
            2,
            lambda: geemap.ee_export_image_collection_to_asset(images(), ["a", "b"], [asset("a"), asset("b")], **box),
        ),
        "geemap.ee_export_image_collection_to_cloud_storage": (
            2,
            lambda: geemap.ee_export_image_collection_to_cloud_storage(images(), ["a", "b"], "b", **box),
        ),
        "geemap.ee_export_vector_to_drive": (
            1,
            lambda: geemap.ee_export_vector_to_drive(features(), "a", fileFormat="CSV"),
        ),
        "geemap.ee_export_vector_to_asset": (1, lambda: geemap.ee_export_vector_to_asset(features(), "a", asset("a"))),
        "geemap.ee_export_vector_to_cloud_storage": (
            1,
            lambda: geemap.ee_export_vector_to_cloud_storage(features(), "a", "b", fileFormat="CSV"),
        ),
        "geemap.ee_export_vector_to_feature_view": (
            1,
            lambda: geemap.ee_export_vector_to_feature_view(features(), "a", asset("a")),
        ),
        "geemap.ee_export_video_to_drive": (
            1,
            lambda: geemap.ee_export_video_to_drive(images(), "a", dimensions=64, region=region),
        ),
        "geemap.ee_export_video_to_cloud_storage": (
            1,
            lambda: geemap.ee_export_video_to_cloud_storage(images(), "a", "b", dimensions=64, region=region),
        ),
        "geemap.ee_export_map_to_cloud_storage": (
            1,
            lambda: geemap.ee_export_map_to_cloud_storage(image(), "a", "b", maxZoom=3, region=region),
        ),
        "geetools: ee.batch.Export.geetools.imagecollection.toDrive": (
            2,
            lambda: _start(ee.batch.Export.geetools.imagecollection.toDrive(images(), "system:index", "a", **box)),
        ),
        "eemont: an index of its own, and task.start()": (
            1,
            lambda: ee.batch.Export.image.toDrive(_eemont(), "a", **box).start(),
        ),
    }


def _start(tasks: Any) -> None:
    for task in tasks if isinstance(tasks, list) else [tasks]:
        task.start()


def _eemont() -> Any:
    return ee.Image([1, 2]).rename(["N", "R"]).expression("(N - R) / (N + R)", {"N": image(), "R": image()})


def row(name: str, count: int, helper: Callable[[], Any]) -> tuple[list[str], bool]:
    """Call a helper while the client is lent: what it starts, what is owned, and what it starts after a kill."""
    with Emulator() as emulator:
        connection = json.loads(emulator.airflow_connection())
        service = emulator.service
        service.answer("projects/*/value:compute", lambda body: {"result": _value(body)})
        hook = _Hook(connection)
        owned, after, said = 0, 0, ""
        try:
            starter = Starter(hook, {"ti": TaskInstance()}, lambda _: None, workload_tag="dag")  # type: ignore[arg-type]
            with lent_client(hook.account, starter, hook.log):
                helper()
            owned = len(set(starter.started) & set(service.operations))
            started = len(service.operations)
            killed = Starter(hook, {"ti": TaskInstance(task_id="b")}, lambda _: None)  # type: ignore[arg-type]
            with lent_client(hook.account, killed, hook.log):
                killed.stop()
                try:
                    helper()
                except (ee.EEException, EarthEngineError):
                    said = "its error is raised"
                else:
                    said = "swallows the error"
            after = len(service.operations) - started
        except Exception as error:  # noqa: BLE001 (it is the table's)
            return [f"`{name}`", "-", "-", "-", f"{type(error).__name__}: {error!s:.120}"], False
    return [f"`{name}`", str(started), str(owned), str(after), said], started == owned == count and not after


class _Hook(EarthEngineHook):
    """A hook with a connection of its own, without Airflow's."""

    def __init__(self, connection: dict[str, Any]) -> None:
        super().__init__()
        self._connection = connection

    def _settings(self) -> Any:
        from airflow_ee_provider.earth_engine.settings import Settings

        return Settings.from_extra(self._connection["extra"], self._connection["host"])


def _value(body: Any) -> Any:
    """Answer what the helpers ask: how many images there are, and what they are called."""
    text = json.dumps(body)
    return 2 if re.search(r"functionName\W+Collection\.size|Element\.get", text) else ["0", "1"]


def imported(library: str) -> list[str]:
    code = IMPORT.format(library=library)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    seconds, mebibytes = json.loads(done.stdout.splitlines()[-1])
    return [library, version(library), f"{seconds:.1f} s", f"{mebibytes:.0f} MiB"]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PAGE = """# Libraries inside `@task.earth_engine`

Written by `make libraries` from a run with earthengine-api {ee} and Airflow {airflow}, against the emulator; never
edited by hand. The libraries are installed with Airflow's constraints beside them: {conflicts}

## How to use them

- Import them **inside the function**: what stands at a DAG file's top is imported at every parse, in the dag-processor
  and in every worker.
- Make no `ee` object at a file's top: there, `ee` is not initialised.
- Call their export helpers as they are. What they start is the task's from that moment on: it is waited for, cancelled
  on a kill, and found again by a retry. A helper that swallows the error of a start cannot hide it: the task fails at
  the function's end, names it, and cancels what else was started.
- In `ee.Initialize()`, leave the credentials out: the connection's account is kept.

## What importing them costs

{imports}

## Their exports

*started*: operations that the helper starts. *owned*: of these, the task's. *after a kill*: started once the task was
killed while its function worked.

{helpers}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    rows, good = [], True
    made = None
    with Emulator() as emulator:
        hook = _Hook(json.loads(emulator.airflow_connection()))
        starter = Starter(hook, {"ti": TaskInstance()}, lambda _: None)  # type: ignore[arg-type]
        with lent_client(hook.account, starter, hook.log):
            made = helpers()
    for name, (count, helper) in made.items():
        line, is_good = row(name, count, helper)
        print(line, "" if is_good else "NOT AS IT SHOULD BE", flush=True)
        rows.append(line)
        good = good and is_good
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    conflicts = (
        "`pip check` finds no conflict." if not checked.returncode else f"`pip check` says: {checked.stdout.strip()}"
    )
    text = PAGE.format(
        ee=version("earthengine-api"),
        airflow=version("apache-airflow"),
        conflicts=conflicts,
        imports=table(["library", "version", "CPU time", "memory"], [imported(library) for library in LIBRARIES]),
        helpers=table(["helper", "started", "owned", "after a kill", "a refused start"], rows),
    )
    options.page.write_text(text, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
