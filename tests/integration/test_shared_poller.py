"""Many triggers in one event loop, as in a triggerer: they share one poller, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.earth_engine.transport import shared_client
from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook
from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

LIST = "projects/earth-demo/operations"


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    return earth_engine_emulator.service


async def wait_for(*names: str, poll_interval: float = 0.5) -> Any:
    trigger = EarthEngineOperationsTrigger(
        operation_names=names, earth_engine_conn_id="earth_engine_default", poll_interval=poll_interval
    )
    async for event in trigger.run():
        return event.payload
    return None


async def wait_for_each(names: list[str], **how: Any) -> list[Any]:
    return await asyncio.gather(*(wait_for(name, **how) for name in names))


def test_a_few_list_requests_serve_hundreds_of_triggers(service: Service) -> None:
    names = [service.add("x", run_seconds=1.5) for _ in range(300)]

    events = asyncio.run(wait_for_each(names))

    assert [event["result"][0]["state"] for event in events] == ["SUCCEEDED"] * 300
    # Polled by name, they would need a thousand requests; only the first and the last few may be polled that way.
    assert len(service.journal) < 60


def test_a_few_triggers_poll_by_name(service: Service) -> None:
    names = [service.add("x", run_seconds=0.7) for _ in range(3)]

    asyncio.run(wait_for_each(names))

    assert not service.requests("GET", LIST)


def test_an_error_of_one_operation_does_not_affect_the_others(service: Service) -> None:
    good = [service.add("x", run_seconds=1) for _ in range(60)]
    broken = service.add("broken")
    service.operations[broken].name = "projects/elsewhere/operations/X"  # No list contains it.
    service.fail("internal", path=broken, times=None)

    async def all_of_them() -> Any:
        stuck = asyncio.create_task(wait_for(broken))
        unknown = asyncio.create_task(wait_for(f"{LIST}/UNKNOWN"))
        cancelled = asyncio.create_task(wait_for(good[0]))
        events = await asyncio.wait_for(wait_for_each(good[1:]), 60)
        for task in (stuck, cancelled):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return events, await unknown

    events, unknown = asyncio.run(all_of_them())

    assert all(event["result"][0]["state"] == "SUCCEEDED" for event in events)
    assert unknown["permanent"]
    assert "UNKNOWN" in unknown["error"]


def test_a_user_without_permission_to_list_polls_by_name(service: Service) -> None:
    service.fail("permission_denied", path=LIST, times=None)
    names = [service.add("x", run_seconds=0.5) for _ in range(50)]

    events = asyncio.run(wait_for_each(names))

    assert all(event["result"][0]["state"] == "SUCCEEDED" for event in events)


def test_one_trigger_waits_for_operations_of_several_projects(service: Service) -> None:
    names = [service.add("x", project, run_seconds=0.5) for project in ("earth-demo", "other") for _ in range(2)]

    event = asyncio.run(wait_for(*names))

    assert [operation["state"] for operation in event["result"]] == ["SUCCEEDED"] * 4


def test_a_kill_does_not_wait_for_a_list_that_hangs(service: Service) -> None:
    names = [service.add("x") for _ in range(50)]

    async def kill_one() -> None:
        waiting = asyncio.create_task(wait_for_each(names, poll_interval=0.3))
        while len(service.requests("GET", LIST)) < 2:  # noqa: ASYNC110 (the emulator has no event to wait for)
            await asyncio.sleep(0.1)
        service.fail("delay", path=LIST, times=None, seconds=30)
        await asyncio.sleep(1)
        answered = len(service.requests("GET", LIST))
        [result] = await EarthEngineAsyncHook().cancel_operations(names[0], poll_interval=0.1)
        assert result.outcome.value == "CANCELLED"
        assert len(service.requests("GET", LIST)) == answered  # It still hangs.
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting

    asyncio.run(kill_one())


def test_nothing_is_left_when_the_last_one_leaves(service: Service) -> None:
    names = [service.add("x", run_seconds=0.3) for _ in range(30)]

    async def twice() -> set[str]:
        for _ in range(2):
            await wait_for_each(names)
            assert not shared_client._CLIENTS
        await asyncio.sleep(0)
        return {task.get_coro().__qualname__ for task in asyncio.all_tasks()}

    assert asyncio.run(twice()) == {test_nothing_is_left_when_the_last_one_leaves.__name__ + ".<locals>.twice"}
