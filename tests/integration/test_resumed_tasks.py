"""Tasks that resume without a result: their trigger could not begin, or the result was too large for its event."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from instances import TaskInstance

from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor
from airflow_ee_provider.tracking.kept_requests import Asked, keep
from airflow_ee_provider.tracking.store import started_by_task

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

BODY = {
    "expression": {"x": 1},
    "description": "mine",
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}

#: The event of a trigger without a connection: the triggerer of Airflow 3.3 cannot read a team's connections.
EVENT = {
    "error": "The connection 'blue' is not defined, or could not be read.",
    "permanent": False,
    "cannot_begin": True,
}


@pytest.fixture
def emulator(earth_engine_emulator: Emulator) -> Emulator:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5)
    return earth_engine_emulator


def test_a_sensor_whose_trigger_cannot_begin_waits_in_the_worker(emulator: Emulator) -> None:
    name = emulator.service.add("a", run_seconds=0.5)
    sensor = EarthEngineOperationsSensor(task_id="task", operation_names=name, deferrable=True, poll_interval=1)
    context: Any = {"ti": TaskInstance()}
    sensor.pre_execute(context)

    found = sensor.execute_complete(context, EVENT)

    assert [operation["state"] for operation in found] == ["SUCCEEDED"]


def test_a_sensor_reads_the_operations_if_the_event_has_only_their_states(emulator: Emulator) -> None:
    names = [emulator.service.add(f"tile-{n}", run_seconds=0) for n in range(24)]
    names.append(emulator.service.add("bad", run_seconds=0, outcome="FAILED", message="No data."))
    sensor = EarthEngineOperationsSensor(task_id="task", operation_names=names, deferrable=True, max_failures=1)
    context: Any = {"ti": TaskInstance()}
    sensor.pre_execute(context)
    event = {"states": {"SUCCEEDED": 24, "FAILED": 1}}

    found = sensor.execute_complete(context, event)

    assert [operation["state"] for operation in found] == ["SUCCEEDED"] * 24 + ["FAILED"]
    sensor.max_failures = 0
    with pytest.raises(AirflowFailException, match="code 3: No data"):
        sensor.execute_complete(context, event)


@pytest.mark.parametrize("event", [EVENT, {"states": {"SUCCEEDED": 1}}])
def test_a_resumed_task_waits_for_its_export_and_does_not_start_it_again(
    emulator: Emulator, event: dict[str, Any]
) -> None:
    operator = EarthEngineExportOperator(task_id="task", kind="image", body=BODY, deferrable=False, poll_interval=1)
    context: Any = {"ti": TaskInstance()}
    operator.pre_execute(context)
    operator.execute(context)
    [key] = started_by_task(context)  # A process that defers keeps this for the next process:
    keep(context, Asked(operations=[key], in_value=[key]), [], logging.getLogger(), "deferrable")
    resumed = EarthEngineExportOperator(task_id="task", kind="image", body=BODY, deferrable=True, poll_interval=1)
    resumed.pre_execute(context)

    resumed.execute_complete(context, event)

    assert [emulator.service.state(name) for name in emulator.service.operations] == ["SUCCEEDED"]
