"""``make libraries``: unmodified Earth Engine libraries with the client that a task gives them.

Writes ``docs/results/libraries.md``. The exit code says whether the task owns every operation that was started.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ee
from helpers import helpers
from instances import TaskInstance
from less_known import less_known, other_client

from airflow_ee_provider.earth_engine.ee_client.session import ee_session
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from airflow_ee_provider.exports.starter import Starter
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from dev.airflow_api import wait_until
from dev.evidence import stamp
from dev.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARIES = ("geemap", "geetools", "eemont", "xee", "geedim", "hydrafloods")

#: Earth Engine's results, by the outermost function of the expression.
ANSWERS = {
    "Image.clip": {
        "bands": [
            {"id": "b", "crs": "EPSG:4326", "crs_transform": [1, 0, 0, 0, -1, 0], "dimensions": [1, 1], "data_type": {}}
        ]
    },
    "Geometry.bounds": {"coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
}

IMPORT = """
import json, psutil, time
started, before = time.process_time(), psutil.Process().memory_info().rss
import {library}
print(json.dumps([time.process_time() - started, (psutil.Process().memory_info().rss - before) / 2**20]))
"""


def row(name: str, count: int, helper: Callable[[], Any]) -> tuple[list[str], bool]:
    """Call a helper with a task's client; return its row of the table, and whether the result is as required."""
    with Emulator() as emulator:
        connection = json.loads(emulator.airflow_connection())
        service = emulator.service
        service.answer("projects/*/value:compute", lambda body: {"result": _value(body)})
        hook = _Hook(connection)
        owned, after, said = 0, 0, ""
        try:
            starter = Starter(hook, {"ti": TaskInstance()}, lambda _: None, workload_tag="dag")  # type: ignore[arg-type]
            with ee_session(hook.account, starter, hook.log):
                helper()
            owned = len(set(starter.started) & set(service.operations))
            started = len(service.operations)
            killed = Starter(hook, {"ti": TaskInstance(task_id="b")}, lambda _: None)  # type: ignore[arg-type]
            with ee_session(hook.account, killed, hook.log):
                killed.stop()
                try:
                    helper()
                except (ee.EEException, EarthEngineError):
                    said = "raises the error"
                else:
                    said = "hides the error"
            after = len(service.operations) - started
            batched = _batched(hook, service, helper, count)
        except Exception as error:  # noqa: BLE001 (the table shows it)
            return [f"`{name}`", "-", "-", "-", "-", f"{type(error).__name__}: {error!s:.120}"], False
    is_good = started == owned == count and not after and batched != "no"
    return [f"`{name}`", str(started), str(owned), str(after), batched, said], is_good


def _batched(hook: EarthEngineHook, service: Service, helper: Callable[[], Any], count: int) -> str:
    """Return whether the helper's exports are registered until the function returns, and started then."""
    starter = Starter(hook, {"ti": TaskInstance(task_id="c")}, lambda _: None)  # type: ignore[arg-type]
    before, parts = len(service.operations), []

    def start_all() -> None:
        parts.append(len(starter.registered))
        starter.start_all(list(starter.registered.values()))

    with ee_session(hook.account, starter, hook.log, start_all):
        helper()
        is_registered = not parts and len(service.operations) == before
    start_all()
    if len(service.operations) - before != count:
        return "no"
    return "yes" if is_registered else "waits for an id"


def past_the_task() -> tuple[int, int]:
    """Return how many operations ee-client starts inside a task, and how many of them the task owns."""
    with Emulator() as emulator:
        hook = _Hook(json.loads(emulator.airflow_connection()))
        starter = Starter(hook, {"ti": TaskInstance()}, lambda _: None)  # type: ignore[arg-type]
        with ee_session(hook.account, starter, hook.log):
            other_client(emulator.url, "token", "earth-demo")
        return len(emulator.service.operations), len(starter.started)


def killed_in_airflow(helpers: dict[str, tuple[int, Any]]) -> dict[str, str]:
    """Mark a real task failed after its function has exported, for each helper; return how many are cancelled."""
    found: dict[str, str] = {}
    with Emulator(Service(Behaviour(pending_seconds=1, run_seconds=3600))) as emulator, TemporaryDirectory() as base:
        service = emulator.service
        service.answer("projects/*/value:compute", lambda body: {"result": _value(body)})
        settings = {"AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": emulator.airflow_connection()}
        with StandaloneAirflow(Path(base), Path(__file__).parent / "dags", settings) as airflow:
            airflow.wait_for_dags("library")
            for name, (count, _) in helpers.items():
                before = set(service.operations)
                run_id = airflow.trigger("library", helper=name)
                with suppress(TimeoutError):
                    _until(lambda: len(service.operations) >= len(before) + count)  # noqa: B023 (called at once)
                airflow.mark_task("library", run_id, "hold", "failed")
                with suppress(TimeoutError):
                    _until(lambda: all(service.state(n) == "CANCELLED" for n in set(service.operations) - before))  # noqa: B023
                time.sleep(5)  # Time for late starts.
                mine = set(service.operations) - before
                cancelled = sum(service.state(name) == "CANCELLED" for name in mine)
                found[name] = f"{cancelled} of {len(mine)}"
                print(f"{name}: {found[name]} cancelled", flush=True)
    return found


def _until(condition: Callable[[], bool]) -> None:
    wait_until(condition, timeout=60, what="it", interval=0.2)


class _Hook(EarthEngineHook):
    """A hook with a connection of its own, without Airflow's."""

    def __init__(self, connection: dict[str, Any]) -> None:
        super().__init__()
        self._connection = connection

    def _settings(self) -> Any:
        from airflow_ee_provider.earth_engine.auth.settings import ConnectionSettings

        return ConnectionSettings.from_extra(self._connection["extra"], self._connection["host"])


def _value(body: Any) -> Any:
    """Return the result that a helper requests: an image's or a region's data, or the number or ids of the images."""
    expression = body["expression"]
    outermost = expression["values"][expression["result"]].get("functionInvocationValue", {}).get("functionName", "")
    is_number = re.search(r"functionName\W+Collection\.size|Element\.get", json.dumps(body))
    return ANSWERS.get(outermost, 2 if is_number else ["0", "1"])


def imported(library: str) -> list[str]:
    code = IMPORT.format(library=library)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, mebibytes = json.loads(done.stdout.splitlines()[-1])
    return [library, version(library), f"{seconds:.1f} s", f"{mebibytes:.0f} MiB"]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PAGE = """# Libraries: measured inside `@task.earth_engine`

`make libraries` writes this page from a run with earthengine-api {ee} and Airflow {airflow} against the emulator.
[Use libraries](../libraries.md) is the guide. The libraries are installed with Airflow's constraints: {conflicts}

Measured: {stamp}.

## What importing them costs

{imports}

## Their exports

- *started*: operations that the helper starts.
- *owned*: how many of these belong to the task.
- *after a kill*: operations that the helper starts after the task was killed.
- *cancelled*: on a real Airflow, in a task that is marked failed after its function has called the helper.
- *`batch_starts`*: whether the task starts the helper's exports in parallel once the function returns. *waits for an
  id*: the helper reads an id while it works.
- *refused start*: what the helper does with the error.

{helpers}

## What is not owned, and what is not measured

- ee-client {ee_client} has an HTTP client and an account of its own: it started {started}, and the task owned {owned}.
- eeUtil {ee_util}: pip 24.1 and later refuse its metadata, so pip 24.0 installed it without its dependencies.
- geeup uploads with a browser's cookies before it starts an ingestion; only the ingestion is measured.
- eedl needs GDAL's library and its Python binding; it is not measured. It calls `task.start()`, as the others do.
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
        with ee_session(hook.account, starter, hook.log):
            made = helpers() | less_known()
    cancelled = killed_in_airflow(made)
    for name, (count, helper) in made.items():
        line, is_good = row(name, count, helper)
        line.insert(-1, cancelled[name])
        is_good = is_good and cancelled[name] == f"{count} of {count}"
        print(line, "" if is_good else "NOT AS IT SHOULD BE", flush=True)
        rows.append(line)
        good = good and is_good
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    conflicts = (
        "`pip check` finds no conflict." if not checked.returncode else f"`pip check` reports: {checked.stdout.strip()}"
    )
    started, owned = past_the_task()
    text = PAGE.format(
        ee_client=version("ee-client"),
        ee_util=version("eeUtil"),
        started=started,
        owned=owned or "none",
        ee=version("earthengine-api"),
        stamp=stamp("libraries"),
        airflow=version("apache-airflow"),
        conflicts=conflicts,
        imports=table(["library", "version", "CPU time", "memory"], [imported(library) for library in LIBRARIES]),
        helpers=table(
            ["helper", "started", "owned", "after a kill", "`batch_starts`", "cancelled", "refused start"], rows
        ),
    )
    options.page.write_text(text, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
