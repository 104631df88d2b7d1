"""``ee`` in Airflow's own tasks: a task owns the operations that it starts in an ``earth_engine()`` block."""

from __future__ import annotations

from threading import Timer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from instances import TaskInstance

from airflow_ee_provider.client import earth_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5, cancel_seconds=0.1)
    return earth_engine_emulator.service


def started_names(service: Service) -> list[str]:
    return [operation.description for operation in service.operations.values()]


@pytest.mark.parametrize(("dag_id", "description"), [("block_in_task", "task"), ("block_in_python_operator", "python")])
def test_a_plain_task_waits_with_wait_for_completion(
    service: Service, run_dag: Callable[..., Ran], dag_id: str, description: str
) -> None:
    ran = run_dag(dag_id)

    assert ran.state == "success", ran.log
    assert started_names(service) == [description]
    [name] = service.operations
    assert ran.result == [name.rpartition("/")[2], ["SUCCEEDED"]]
    assert not service.requests("POST", "*:cancel")


def test_a_custom_operator_does_not_wait_by_default(service: Service, run_dag: Callable[..., Ran]) -> None:
    service.behave(pending_seconds=0, run_seconds=3600)

    ran = run_dag("block_in_operator")

    assert ran.state == "success", ran.log
    assert ran.result == list(service.operations)
    assert [service.state(name) for name in service.operations] == ["RUNNING"]


def test_an_exception_cancels_the_operations_of_the_block(service: Service, run_dag: Callable[..., Ran]) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)

    ran = run_dag("block_that_breaks")

    assert ran.state == "failed"
    assert "The second one is no good." in ran.log
    assert [service.state(name) for name in service.operations] == ["CANCELLED"]


def test_a_failed_blocks_other_exports_are_cancelled_even_if_the_task_succeeds(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    service.behave(description="bad", run_seconds=0.2, outcome="FAILED", message="No data.")

    ran = run_dag("block_that_breaks_and_is_caught")

    assert ran.state == "success", ran.log
    assert "Caught: " in ran.log
    assert {one.description: service.state(name) for name, one in service.operations.items()} == {
        "bad": "FAILED",
        "good": "CANCELLED",
    }


def test_a_kill_in_the_block_cancels_its_operation_and_calls_the_tasks_on_kill(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    killed: list[str] = []
    task = SimpleNamespace(execution_timeout=None, on_kill=lambda: killed.append("own"))
    own = task.on_kill
    context: Any = {"ti": TaskInstance(task=task), "dag_run": None}

    def block() -> None:
        import ee

        with earth_engine(context, wait_for_completion=True, poll_interval=0.2):
            ee.batch.Export.image.toCloudStorage(ee.Image(1), "x", bucket="b", scale=1000).start()
            killer = Timer(0.1, task.on_kill)
            killer.start()
            killer.join()

    with pytest.raises(AirflowException):
        block()

    assert killed == ["own"]
    assert [service.state(name) for name in service.operations] == ["CANCELLED"]
    assert task.on_kill is own
