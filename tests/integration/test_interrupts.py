"""An author interrupts ``dag.test()`` while it runs a trigger: the end of the event loop cancels, on every Python."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator


def interrupt() -> None:
    """Interrupt as on Python 3.10, where Ctrl-C breaks the loop, which then cancels its remaining tasks."""
    raise KeyboardInterrupt


def press_ctrl_c() -> None:
    """Interrupt as on later versions, which cancel the loop's main task."""
    os.kill(os.getpid(), signal.SIGINT)


def _run_inline_trigger(trigger: Any, looked: Callable[[], bool], act: Callable[[], None]) -> Any:
    """Run a trigger as ``dag.test()`` does, in a function with the same name as Airflow's."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()

        def act_once_it_waits() -> None:
            if looked():
                act()
            else:
                loop.call_later(0.1, act_once_it_waits)

        act_once_it_waits()
        async for event in trigger.run():
            return event
        return None

    return asyncio.run(main())


@pytest.mark.parametrize("act", [interrupt, press_ctrl_c])
@pytest.mark.parametrize(("cancels", "state"), [(True, "CANCELLED"), (False, "RUNNING")])
def test_an_interrupted_inline_trigger_cancels_only_with_cancel_on_kill(
    earth_engine_emulator: Emulator, act: Callable[[], None], *, cancels: bool, state: str
) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    name = service.add("tried")
    trigger = EarthEngineOperationsTrigger(
        operation_names=[name], earth_engine_conn_id="earth_engine_default", poll_interval=1, cancel_on_kill=cancels
    )
    with pytest.raises(KeyboardInterrupt):
        _run_inline_trigger(trigger, lambda: bool(service.operations[name].reads), act)
    assert service.state(name) == state


def test_the_end_of_another_event_loop_cancels_nothing(earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600)
    name = service.add("watched")
    trigger = EarthEngineOperationsTrigger(
        operation_names=[name], earth_engine_conn_id="earth_engine_default", poll_interval=1, cancel_on_kill=True
    )

    async def watch_for_a_while() -> None:
        await asyncio.wait_for(trigger.wait(), 0.5)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(watch_for_a_while())
    assert service.state(name) == "RUNNING"


@pytest.mark.parametrize("dag_id", ["decorated_several_in_triggerer", "wait_in_triggerer"])
def test_a_task_in_a_notebook_waits_without_a_trigger(
    dag_id: str, run_dag: Callable[..., Ran], earth_engine_emulator: Emulator
) -> None:
    """In a cell, an event loop runs already: Airflow can run no trigger, and a failed task's exports would continue."""
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=2)
    name = earth_engine_emulator.service.add("waited for")

    async def cell() -> Ran:
        return run_dag(dag_id, name)

    assert asyncio.run(cell()).state == "success"
