"""Typical functions: called once in a try, with their own return value, and none of their work undone.

The functions are minimal versions of those in the reports of issue 37. `test_public_scripts.py` has scripts of public
repositories, each with its address.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from assets import ASSETS, Assets
from instances import Store
from requests_sent import sent
from tries import Tries, let_the_first_fail

from airflow_ee_provider.base import task_states
from airflow_ee_provider.exports import queue
from airflow_ee_provider.tracking import kept_requests

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

PLACES = (False, True)


@pytest.fixture
def service(earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(queue, "INITIAL_RETRY_DELAY", 0.5)
    # The task is not in Airflow 2's database; Airflow 3 is not asked.
    monkeypatch.setattr(task_states, "_state_from_database", lambda ti: ("running", ti.try_number, True))
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5, cancel_seconds=0.1)
    return earth_engine_emulator.service


@pytest.fixture
def assets(service: Service) -> Assets:
    return Assets(service)


def to_asset(name: str, description: str = "") -> Any:
    import ee

    return ee.batch.Export.image.toAsset(ee.Image(1), description or name, f"{ASSETS}/{name}", scale=1000)


def to_bucket(description: str) -> Any:
    import ee

    return ee.batch.Export.image.toCloudStorage(ee.Image(1), description, bucket="b", scale=1000)


def states(service: Service) -> list[str]:
    return [service.state(name) for name in service.operations]


# 1. Called once in a try


@pytest.mark.parametrize("deferrable", PLACES)
def test_the_function_deletes_the_old_assets_only_once(service: Service, assets: Assets, deferrable: bool) -> None:
    """Delete the old asset and export to its name: the most common way to overwrite an asset."""
    calls = []

    def overwrite() -> Any:
        import ee

        calls.append(1)
        names = [f"tile-{number}" for number in range(4)]
        for name in names:
            try:
                ee.data.deleteAsset(f"{ASSETS}/{name}")
            except ee.EEException:
                print("It was not there.")  # noqa: T201
        return [to_asset(name) for name in names]

    tries = Tries(overwrite, max_active_operations=2, deferrable=deferrable)
    value = tries.run()

    assert len(calls) == 1
    assert states(service) == ["SUCCEEDED"] * 4
    assert all(f"{ASSETS}/tile-{number}" in assets for number in range(4))
    tiles = [f"tile-{number}" for number in range(4)]
    assert sent(service)[:4] == [f"delete {tile}" for tile in tiles]
    assert sorted(sent(service)[4:]) == [f"start {tile}" for tile in tiles]  # In parallel.
    assert [operation["description"] for operation in value] == tiles
    assert [o["name"] for o in tries.xcom("operations")] == tries.xcom("operation_names")
    assert sorted(tries.xcom("operation_names")) == sorted(service.operations)


@pytest.mark.parametrize("deferrable", PLACES)
def test_exports_that_differ_with_each_call_are_started_once(service: Service, deferrable: bool) -> None:
    def stamped() -> Any:
        return {"made": [to_bucket(f"tile-{uuid.uuid4().hex}") for _ in range(4)], "at": str(dt.date.min)}

    value = Tries(stamped, max_active_operations=2, deferrable=deferrable).run()

    assert len(service.operations) == 4
    assert value["at"] == "0001-01-01"
    assert sorted(operation["name"] for operation in value["made"]) == sorted(service.operations)


@pytest.mark.parametrize("deferrable", PLACES)
def test_a_restart_does_not_call_the_function_again(service: Service, deferrable: bool) -> None:
    calls = []

    def stamped() -> Any:
        calls.append(1)
        to_bucket(f"own-{uuid.uuid4().hex}").start()
        return [to_bucket(f"tile-{uuid.uuid4().hex}")]

    let_the_first_fail(service, 2)
    tries = Tries(stamped, max_restarts=1, stop_at_failure=False, deferrable=deferrable)
    value = tries.run()

    assert len(calls) == 1
    assert states(service) == ["FAILED", "FAILED", "SUCCEEDED", "SUCCEEDED"]
    by_description = [operation.description for operation in service.operations.values()]
    assert sorted(by_description[:2]) == sorted(by_description[2:])
    assert [operation["state"] for operation in value] == ["SUCCEEDED"]
    assert len(tries.xcom("operation_names")) == 2


@pytest.mark.usefixtures("service")
def test_a_task_whose_requests_are_too_large_to_keep_waits_in_the_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    monkeypatch.setattr(kept_requests, "MOST", 400)
    tries = Tries(lambda: [to_bucket(f"tile-{n}") for n in range(4)], max_active_operations=2, deferrable=True)

    assert len(tries.run()) == 4

    assert [type(trigger).__name__ for trigger in tries.triggers] in ([], ["EarthEngineOperationsTrigger"])
    captured = capfd.readouterr()
    assert "because of max_active_operations" in captured.out + captured.err + caplog.text


def test_a_task_limited_by_max_active_operations_waits_only_for_its_own_operations(service: Service) -> None:
    tries = Tries(lambda: [to_bucket(f"tile-{n}") for n in range(4)], max_active_operations=2, deferrable=True)
    tries.run()

    waited = [trigger for trigger in tries.triggers if hasattr(trigger, "room_timeout")]
    assert waited
    assert {trigger.room_timeout for trigger in waited} == {None}
    assert len(service.operations) == 4


def test_max_active_operations_counts_the_operations_of_all_processes_of_the_task(service: Service) -> None:
    service.behave("tile-*", pending_seconds=0, run_seconds=2.0)
    service.behave("tile-0", pending_seconds=0, run_seconds=0.2)
    tries = Tries(lambda: [to_bucket(f"tile-{n}") for n in range(5)], max_active_operations=2, deferrable=True)
    tries.run()

    mine = list(service.operations.values())
    assert len(tries.triggers) > 1
    assert max(sum(o.created <= one.created < o.ended() for o in mine) for one in mine) == 2
    assert states(service) == ["SUCCEEDED"] * 5


# 2. A retry continues with healthy operations


class StopsError(ValueError):
    """The error that a function raises."""


@pytest.mark.parametrize("deferrable", PLACES)
def test_the_task_keeps_operations_that_a_retry_finds_in_the_task_list(service: Service, deferrable: bool) -> None:
    """The function skips an export that is in the task list."""
    service.behave(pending_seconds=0, run_seconds=1.0, cancel_seconds=0.1)

    def skipping() -> None:
        import ee

        listed = {task.config["description"] for task in ee.batch.Task.list()}
        for name in ("a", "b"):
            if name not in listed:
                to_bucket(name).start()
                if tries.try_number == 1:
                    raise StopsError(name)

    tries = Tries(skipping, store=Store(), deferrable=deferrable)
    with pytest.raises(StopsError):
        tries.run()
    assert tries.run() is None

    assert sent(service) == ["start a", "start b"]
    assert states(service) == ["SUCCEEDED", "SUCCEEDED"]
    assert sorted(tries.xcom("operation_names")) == sorted(service.operations)


@pytest.mark.parametrize("run_seconds", [1.0, 0.0])
def test_a_retry_that_starts_nothing_waits_for_all_operations(service: Service, run_seconds: float) -> None:
    service.behave(pending_seconds=0, run_seconds=run_seconds, cancel_seconds=0.1)

    def skipping() -> int:
        import ee

        listed = {task.config["description"] for task in ee.batch.Task.list()}
        missing = [name for name in ("a", "b") if name not in listed]
        for name in missing:
            to_bucket(name).start()
        if tries.try_number == 1:
            raise StopsError
        return len(missing)

    tries = Tries(skipping, store=Store())
    with pytest.raises(StopsError):
        tries.run()

    assert tries.run() == 0
    assert sent(service) == ["start a", "start b"]
    assert states(service) == ["SUCCEEDED", "SUCCEEDED"]
    assert tries.xcom("operation_names") == list(service.operations)


def test_a_retry_returns_the_same_value_once_all_exports_are_started(service: Service) -> None:
    def shaped() -> Any:
        task = to_bucket("a")
        task.start()
        return {"task": task, "uri": "gs://b/a", "more": [to_bucket("b")], "id": task.id}

    tries = Tries(shaped, store=Store(), wait_for_completion=False)
    first, second = tries.run(), tries.run()

    assert sent(service) == ["start a", "start b"]
    assert second["task"]["name"] == first["task"]["name"] == next(iter(service.operations))
    assert second["more"][0]["description"] == "b"
    assert (second["uri"], second["id"]) == (first["uri"], first["id"])


# 3. Assets that the function deletes are exported again


def overwritten(tries: list[Tries], *, starts: bool) -> Any:
    import ee

    try:
        ee.data.deleteAsset(f"{ASSETS}/x")
    except ee.EEException:
        print("It was not there.")  # noqa: T201
    task = to_asset("x")
    if starts:
        task.start()
        while task.active():
            pass
        if tries[0].try_number == 1:
            raise StopsError
    return task


@pytest.mark.parametrize("store", [Store, lambda: None])
@pytest.mark.parametrize("starts", [True, False])
def test_a_retry_that_deletes_the_asset_of_the_last_try_exports_it_again(
    service: Service, assets: Assets, store: Any, starts: bool
) -> None:
    """Delete the old asset, export, wait, set the ACL."""
    service.behave(pending_seconds=0, run_seconds=0.2)
    us: list[Tries] = []
    tries = Tries(lambda: overwritten(us, starts=starts), store=store())
    us.append(tries)
    if starts:
        with pytest.raises(StopsError):
            tries.run()
    else:
        tries.run()
        tries._store = store()  # The try died before it recorded that it had started all exports.
    service.clock.advance(5)

    value = tries.run()

    assert states(service) == ["SUCCEEDED", "SUCCEEDED"]
    assert f"{ASSETS}/x" in assets
    assert value["name"] == list(service.operations)[1]
    assert tries.xcom("operation_names") == list(service.operations)[1:]


def test_a_delete_of_a_missing_asset_starts_nothing_twice(service: Service, assets: Assets) -> None:
    assert assets is not None
    service.behave(pending_seconds=0, run_seconds=60)

    def again() -> Any:
        import ee

        try:
            ee.data.deleteAsset(f"{ASSETS}/x")
        except ee.EEException:
            print("It was not there.")  # noqa: T201
        to_asset("x").start()
        if tries.try_number == 1:
            raise StopsError
        service.clock.advance(120)

    tries = Tries(again)
    with pytest.raises(StopsError):
        tries.run()
    tries.run()

    assert states(service) == ["SUCCEEDED"]


# 4. The value is the function's return value


@pytest.mark.parametrize("deferrable", PLACES)
@pytest.mark.parametrize(
    "own",
    [3, True, "gs://b/x", {"status": "ok"}, None, [], "Started {id}: see the console.", {"at": [1.5, None]}],
)
def test_the_tasks_value_is_what_the_function_returns(service: Service, deferrable: bool, own: Any) -> None:
    def function() -> Any:
        task = to_bucket("a")
        task.start()
        return own.format(id=task.id) if isinstance(own, str) else own

    value = Tries(function, deferrable=deferrable).run()

    assert value == (own.format(id=next(iter(service.operations)).rpartition("/")[2]) if isinstance(own, str) else own)
    assert states(service) == ["SUCCEEDED"]


@pytest.mark.parametrize("deferrable", PLACES)
def test_a_librarys_helper_returns_an_id_and_an_address(service: Service, deferrable: bool) -> None:
    def helper() -> Any:
        task = to_bucket("a")
        task.start()
        return (task.id, "gs://b/a.tif"), task

    (identity, uri), operation = Tries(helper, deferrable=deferrable).run()

    assert uri == "gs://b/a.tif"
    assert operation["name"].endswith(identity)
    assert operation["state"] == "SUCCEEDED"
    assert states(service) == ["SUCCEEDED"]


def test_a_function_that_starts_nothing_succeeds(service: Service) -> None:
    tries = Tries(lambda: None)

    assert tries.run() is None
    assert tries.xcom("operations") == tries.xcom("operation_names") == []
    assert not service.operations


def test_a_value_that_xcom_cannot_store_fails_before_the_wait(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)

    def function() -> Any:
        to_bucket("a").start()
        return [object(), to_bucket("b")]

    with pytest.raises(AirflowFailException, match="a value that XCom cannot store") as failed:
        Tries(function, retries=0).run()

    assert "a" in str(failed.value)
    assert sent(service) == ["start a", "cancel a"]


# 5. Failures and cancels that the function handles itself


def test_a_failure_that_the_functions_own_retry_loop_handles_is_no_failure(service: Service) -> None:
    """Start, poll, start again while it fails."""
    create = service._create

    def failing(project: str, kind: str, request: Any, behaviour: Any) -> Any:
        fails = {"outcome": "FAILED", "message": "User memory limit exceeded."} if not service.operations else {}
        return create(project, kind, request, {**behaviour, "run_seconds": 0.1, **fails})

    service._create = failing  # type: ignore[method-assign]

    def loop() -> Any:
        while True:
            task = to_bucket("a")
            task.start()
            while task.active():
                pass
            if task.status()["state"] == "COMPLETED":
                return task.id

    tries = Tries(loop)
    identity = tries.run()

    assert states(service) == ["FAILED", "SUCCEEDED"]
    assert [name.rpartition("/")[2] for name in tries.xcom("operation_names")] == [identity]


@pytest.mark.parametrize("deferrable", PLACES)
def test_an_operation_that_the_function_cancels_is_no_failure(service: Service, deferrable: bool) -> None:
    service.behave("slow", pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)

    def function() -> Any:
        slow, fast = to_bucket("slow"), to_bucket("fast")
        slow.start()
        slow.cancel()
        fast.start()
        return slow, fast

    tries = Tries(function, deferrable=deferrable)
    slow, fast = tries.run()

    assert sent(service) == ["start slow", "cancel slow", "start fast"]
    assert (slow["state"], fast["state"]) == ("CANCELLED", "SUCCEEDED")
    assert tries.xcom("operation_names") == [fast["name"]]


# 6. A fallback


def plan_b() -> Any:
    import ee

    try:
        to_bucket("whole").start()
    except ee.EEException:
        return [to_bucket("half-1"), to_bucket("half-2")]


def test_a_refused_start_that_the_function_handles_does_not_fail_the_task(service: Service) -> None:
    service.fail("permission_denied", path="*:export", times=1)

    value = Tries(plan_b, ignore_refused_starts=True).run()

    assert [operation["description"] for operation in value] == ["half-1", "half-2"]
    assert states(service) == ["SUCCEEDED"] * 2


def test_the_error_of_a_caught_refusal_names_ignore_refused_starts(service: Service) -> None:
    service.fail("permission_denied", path="*:export", times=1)

    with pytest.raises(AirflowException, match="ignore_refused_starts=True"):
        Tries(plan_b).run()

    assert sent(service) == ["start whole"]


# 7, 8, 10


def test_a_function_can_authenticate_and_initialize_as_a_notebook_does(service: Service) -> None:
    def notebook() -> Any:
        import ee

        ee.Authenticate()
        ee.Initialize(project="earth-demo")
        return to_bucket("a")

    assert Tries(notebook).run()["state"] == "SUCCEEDED"
    assert len(service.operations) == 1


def test_a_coroutine_is_awaited(service: Service) -> None:
    async def function() -> Any:
        task = to_bucket("a")
        await asyncio.to_thread(task.start)
        await asyncio.sleep(0)
        return {"task": task}

    assert Tries(function).run()["task"]["state"] == "SUCCEEDED"
    assert len(service.operations) == 1


def test_another_endpoint_is_used_only_if_allowed(earth_engine_emulator: Emulator, capfd: Any, caplog: Any) -> None:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.3)
    there = earth_engine_emulator.url.replace("127.0.0.1", "localhost")
    hosts = []

    def function() -> Any:
        import ee

        ee.Initialize(project="earth-demo", opt_url=there)
        hosts.append(ee.data._get_state().cloud_api_base_url if hasattr(ee.data, "_get_state") else there)
        ee.Initialize(project="earth-demo", opt_url="https://evil.example")
        to_bucket("a").start()

    Tries(function).run()

    captured = capfd.readouterr()
    assert "Ignoring the endpoint https://evil.example" in captured.out + captured.err + caplog.text
    assert hosts == [there]
    assert len(earth_engine_emulator.service.operations) == 1
