"""Changes a DAG's file while its run is active, and checks the states of the run's operations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow


def task_renamed(airflow: StandaloneAirflow, emulator: Emulator) -> tuple[bool, str]:
    """Rename a task that has started an export: neither the teardown nor the notifier finds the task in the file."""
    run_id = airflow.trigger("changed_renamed")
    airflow.wait_for_task("changed_renamed", run_id, "work", "running")
    _change(airflow, "changed_renamed", 'task_id="export"', 'task_id="renamed"')

    _end(airflow, "changed_renamed", run_id)

    with suppress(TimeoutError):  # Callbacks run some seconds after the run's end.
        wait_until(lambda: _states(emulator, "changed_renamed")[0] == "CANCELLED", what="the cancel")
    first = _states(emulator, "changed_renamed")[0]
    return first == "CANCELLED", f"its export: {first}"


def retries_lowered(airflow: StandaloneAirflow, emulator: Emulator) -> tuple[bool, str]:
    """Lower a task's retries while it waits for its next try, which must not treat the task as cleared."""
    state, states = _change_between_tries(airflow, emulator, "changed_retries", "retries=3", "retries=1")
    return state == "success" and states == [
        "SUCCEEDED"
    ], f"the next try continues with its export: {', '.join(states)}"


def function_changed(airflow: StandaloneAirflow, emulator: Emulator) -> tuple[bool, str]:
    """Make a function's next try start a different export: only a clear cancels a healthy export, a retry does not."""
    change = ("changed_function", "ee.Image(1)", "ee.Image(2)")
    state, [first, *others] = _change_between_tries(airflow, emulator, *change)
    kept = state == "success" and others == ["SUCCEEDED"] and first == "SUCCEEDED"
    return kept, f"the first: {first}; the other: {', '.join(others)}"


CHANGES: dict[str, Callable[[StandaloneAirflow, Emulator], tuple[bool, str]]] = {
    "a task that has started an export is renamed": task_renamed,
    "`retries` are lowered before the next try": retries_lowered,
    "the function makes another export by the next try": function_changed,
}


def change_files(airflow: StandaloneAirflow, emulator: Emulator) -> dict[str, tuple[bool, str]]:
    """Make all changes in parallel; return for each whether its result was as promised, and the observed states."""
    airflow.wait_for_dags("changed_renamed", "changed_retries", "changed_function")
    with ThreadPoolExecutor(len(CHANGES)) as pool:
        under_way = {name: pool.submit(change, airflow, emulator) for name, change in CHANGES.items()}
        return {name: future.result() for name, future in under_way.items()}


def _change_between_tries(
    airflow: StandaloneAirflow, emulator: Emulator, dag_id: str, old: str, new: str
) -> tuple[str, list[str]]:
    """Change a DAG's file while its task waits for the next try; return the run's and its operations' final states."""
    emulator.service.behave(dag_id, run_seconds=90)
    run_id = airflow.trigger(dag_id)
    airflow.wait_for_task(dag_id, run_id, "export", "up_for_retry")
    _change(airflow, dag_id, old, new)
    return _end(airflow, dag_id, run_id), _states(emulator, dag_id)


def _change(airflow: StandaloneAirflow, name: str, old: str, new: str) -> None:
    file = Path(airflow.environment["AIRFLOW__CORE__DAGS_FOLDER"]) / f"{name}.py"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def _end(airflow: StandaloneAirflow, dag_id: str, run_id: str) -> str:
    """Wait for a run's end, and return its state."""

    def state() -> str:
        now: str = airflow.run(dag_id, run_id)["state"]
        return now if now in ("success", "failed") else ""

    return wait_until(state, what=f"the end of {dag_id}")


def _states(emulator: Emulator, description: str) -> list[str]:
    operations = sorted(emulator.service.operations.values(), key=lambda operation: operation.created)
    return [emulator.service.state(o.name) for o in operations if o.description == description]
