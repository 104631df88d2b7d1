"""The cost of storing a function's requests for another process of its task, and of calling the function again instead.

Run it by hand: ``python benchmarks/kept.py``. Each row is measured in a process of its own. Before requests were
stored, the function was called again for each wave of ``max_active_operations``.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from serving import table

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: The number of requests, and the size of each, in bytes.
CASES = ((3_000, 5_000), (10_000, 5_000), (3_000, 200_000))


class Instance:
    """A task instance with XComs."""

    task_id, map_index = "task", -1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Write an XCom."""
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, map_indexes: int, key: str) -> Any:
        """Read an XCom."""
        del task_ids, map_indexes
        return self.xcoms.get(key)


def tiles(count: int, size: int) -> list[Any]:
    """Return exports that differ by region and name, as the tiles of a grid do."""
    import ee

    def mosaic(images: int) -> Any:
        return ee.ImageCollection([ee.Image(number + 0.25) for number in range(images)]).mosaic()

    image = mosaic(100 * size // (len(mosaic(200).serialize()) - len(mosaic(100).serialize())))
    found = []
    for tile in range(count):
        region = ee.Geometry.Rectangle([tile % 180, tile % 90, tile % 180 + 0.1, tile % 90 + 0.1])
        found.append(
            ee.batch.Export.image.toCloudStorage(
                image.clip(region), f"tile-{tile}", "bucket", f"tiles/{tile}", region=region, scale=30
            )
        )
    return found


def memory() -> float:
    """Return the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(count: int, size: int) -> list[Any]:
    """Return one row of the table."""
    import ee
    from google.auth.credentials import AnonymousCredentials

    from airflow_ee_provider.earth_engine.ee_client.objects import place_of, read_value
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.tracking.kept_requests import Asked, keep, kept

    with Emulator() as emulator:
        ee.Initialize(AnonymousCredentials(), project="earth-demo", url=emulator.url)
        begun = time.process_time()
        read = read_value(tiles(count, size), "earth-demo", ())
        called = time.process_time() - begun
    exports = [one for one in read.operations if not isinstance(one, str)]
    starts = [Start(one.method, one.body, "dag/run/task/-1/0/now", "earth-demo") for one in exports]  # type: ignore[union-attr]
    keys = [start.key for start in starts]
    context: Context = {"ti": Instance()}  # type: ignore[typeddict-item]
    before, begun = memory(), time.process_time()
    is_kept = keep(
        context, Asked([place_of(n) for n in range(count)], keys, keys, starts), starts, logging.getLogger(), "-"
    )
    written, used = time.process_time() - begun, memory() - before
    bytes_written = sum(len(json.dumps(value)) for value in context["ti"].xcoms.values())
    begun = time.process_time()
    again = kept(context) if is_kept else Asked()
    taken = time.process_time() - begun
    if is_kept and [start.key for start in again.starts] != keys:
        raise RuntimeError("What was kept is not what was read.")
    mb = f"{bytes_written / 1e6:.2f}" if is_kept else "not kept"
    return [f"{count:,}", f"{size / 1000:g} kB", f"{called:.1f}", mb, f"{written:.1f}", f"{taken:.1f}", f"{used:.0f}"]


def main() -> None:
    """Print the table, or measure one row of it."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(*map(int, sys.argv[1:]))))
        return
    rows = []
    for case in CASES:
        command = [sys.executable, __file__, *map(str, case)]
        rows.append(
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        )
    print(table(rows, "requests", "of", "call the function, s", "kept, MB", "write, s", "read, s", "memory, MB"))


if __name__ == "__main__":
    main()
