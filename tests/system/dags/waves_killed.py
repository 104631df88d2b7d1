"""A task whose exports start in waves, and whose worker is killed twice: before a wave, and before it waits for one."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

#: The file to which each call of the function appends its try's number; the marks of the kills are beside it.
CALLS = Path(os.environ.get("AIRFLOW_HOME", ".")) / "waves_killed_calls"


def die_once(step: str) -> None:
    """Kill the task's process and its supervisor, the first time that the step is reached."""
    mark = CALLS.with_name(f"waves_killed_{step}")
    if not mark.exists():
        mark.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def prepare_deaths() -> None:
    """Make a second process die before it starts more exports, and a later one before it waits to start more."""
    from airflow_ee_provider.exports import exporting

    wait, start_more = exporting.ExportingOperator.wait_in_triggerer, exporting.ExportingOperator.start_more

    def wait_and_die(self: Any, *args: Any, **kwargs: Any) -> None:
        if CALLS.with_name("waves_killed_in_second_process").exists():
            die_once("between_waves")
        wait(self, *args, **kwargs)

    def start_and_die(self: Any, context: Any, event: Any) -> Any:
        die_once("in_second_process")
        return start_more(self, context, event)

    exporting.ExportingOperator.wait_in_triggerer = wait_and_die  # type: ignore[method-assign]
    exporting.ExportingOperator.start_more = start_and_die  # type: ignore[method-assign]


prepare_deaths()


def function(ti: Any) -> Any:
    import ee

    with CALLS.open("a", encoding="utf-8") as file:
        file.write(f"{ti.try_number}\n")
    names = [f"waves_killed-{number}" for number in range(6)]
    return [ee.batch.Export.image.toCloudStorage(ee.Image(1), name, bucket="b", scale=1000) for name in names]


with DAG("waves_killed", schedule=None, catchup=False) as dag:
    task.earth_engine(
        task_id="export",
        deferrable=True,
        max_active_operations=2,
        poll_interval=1,
        retries=5,
        retry_delay=timedelta(0),
    )(function)()
