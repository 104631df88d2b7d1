"""An author interrupts ``dag.test()`` while it runs a trigger: the loop's end cancels, too, on every Python."""

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
    """Python 3.10 lets Ctrl-C break the loop, and cancels what is left on it then."""
    raise KeyboardInterrupt


def press_ctrl_c() -> None:
    """Later ones cancel what the loop was started for."""
    os.kill(os.getpid(), signal.SIGINT)


def _run_inline_trigger(trigger: Any, looked: Callable[[], bool], act: Callable[[], None]) -> Any:
    """Run a trigger as ``dag.test()`` does, under the name that this has in Airflow."""

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
def test_an_inline_trigger(
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


def test_another_loop_that_ends_cancels_nothing(earth_engine_emulator: Emulator) -> None:
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
def test_in_a_notebook_a_task_waits_where_it_is(
    dag_id: str, run_dag: Callable[..., Ran], earth_engine_emulator: Emulator
) -> None:
    """In a cell, a loop runs already: Airflow cannot run a trigger, and would leave the exports of a failed task."""
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=2)
    name = earth_engine_emulator.service.add("waited for")

    async def cell() -> Ran:
        return run_dag(dag_id, name)

    assert asyncio.run(cell()).state == "success"
