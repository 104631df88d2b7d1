"""``batch_starts``: exports that a function starts are started in parallel once it returns, like returned ones."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from assets import ASSETS, Assets
from ee.data import exportImage
from instances import Store, TaskInstance
from requests_sent import sent
from tries import Tries, let_the_first_fail

from airflow_ee_provider.base import task_states
from airflow_ee_provider.client import earth_engine
from airflow_ee_provider.earth_engine.ee_client import pace
from airflow_ee_provider.exports import queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

PLACES = (False, True)
NAMES = [f"tile-{number}" for number in range(5)]
INGESTION = {"name": f"{ASSETS}/x", "tilesets": [{"sources": [{"uris": ["gs://b/x.tif"]}]}]}
TABLE_INGESTION = {"name": f"{ASSETS}/y", "sources": [{"uris": ["gs://b/x.shp"]}]}


@pytest.fixture
def service(earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(queue, "INITIAL_RETRY_DELAY", 0.5)
    # The task is not in Airflow 2's database; Airflow 3 is not asked.
    monkeypatch.setattr(task_states, "_state_from_database", lambda ti: ("running", ti.try_number, True))
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5, cancel_seconds=0.1)
    return earth_engine_emulator.service


def export(description: str) -> Any:
    import ee

    return ee.batch.Export.image.toCloudStorage(ee.Image(1), description, bucket="b", scale=1000)


def to_asset(name: str) -> Any:
    import ee

    return ee.batch.Export.image.toAsset(ee.Image(1), name, f"{ASSETS}/{name}", scale=1000)


def started(names: list[str]) -> list[Any]:
    """Start exports in a loop, as scripts do."""
    tasks = [export(name) for name in names]
    for task in tasks:
        task.start()
    return tasks


def states(service: Service) -> list[str]:
    return [service.state(name) for name in service.operations]


@pytest.mark.parametrize("deferrable", PLACES)
def test_each_export_is_started_once_and_after_the_function_returns(service: Service, deferrable: bool) -> None:
    seen: list[Any] = []

    def loop() -> int:
        tasks = started(NAMES)
        tasks[0].start()
        seen.extend([len(service.operations), repr(tasks[0]), tasks[0].state])
        return len(tasks)

    tries = Tries(loop, batch_starts=True, deferrable=deferrable)

    assert tries.run() == 5
    assert seen[0] == 0
    assert "tile-0" in seen[1]
    assert seen[2] == "UNSUBMITTED"
    assert sorted(sent(service)) == [f"start {name}" for name in NAMES]
    assert states(service) == ["SUCCEEDED"] * 5
    assert sorted(tries.xcom("operation_names")) == sorted(service.operations)


@pytest.mark.parametrize("deferrable", PLACES)
def test_an_export_that_the_function_starts_and_returns_is_started_once(service: Service, deferrable: bool) -> None:
    def loop() -> Any:
        import ee

        first, second = started(["a", "b"])
        return {"first": first, "more": [second, export("c")], "raw": ee.data.startIngestion(None, INGESTION)}

    value = Tries(loop, batch_starts=True, deferrable=deferrable).run()

    assert sorted(sent(service)) == ["import x", "start a", "start b", "start c"]
    assert value["first"]["description"] == "a"
    assert [one["description"] for one in value["more"]] == ["b", "c"]
    assert value["raw"]["state"] == "SUCCEEDED"


def test_reading_the_ids_after_the_loop_starts_all_exports_in_one_batch(service: Service) -> None:
    polled: list[Any] = []

    def notebook() -> Any:
        tasks = started(NAMES)
        ids = [task.id for task in tasks]
        polled.append(len(service.operations))
        while any(task.active() for task in tasks):
            pass
        polled.extend(task.status()["state"] for task in tasks)
        return ids

    ids = Tries(notebook, batch_starts=True).run()

    assert polled == [5, *["COMPLETED"] * 5]
    by_description = {o.description: o.name.rpartition("/")[2] for o in service.operations.values()}
    assert ids == [by_description[name] for name in NAMES]
    assert len(service.requests("POST", "*:export")) == 5


def test_a_list_of_operations_contains_the_exports_started_before(service: Service) -> None:
    listed: list[int] = []

    def listing() -> None:
        import ee

        started(NAMES[:2])
        listed.append(len(ee.batch.Task.list()))
        started(NAMES[2:])
        listed.append(len(ee.data.listOperations()))

    Tries(listing, batch_starts=True).run()

    assert listed == [2, 5]
    assert len(service.operations) == 5


def test_a_function_that_waits_for_its_assets_gets_them(service: Service) -> None:
    assets = Assets(service)
    service.behave(pending_seconds=0, run_seconds=0.2)

    def waiting() -> int:
        import ee

        rounds = 0
        for name in ("a", "b"):
            with suppress(ee.EEException):
                ee.data.getAsset(f"{ASSETS}/{name}")  # Is it there already?
            to_asset(name).start()
        assert not service.operations
        while rounds < 500:
            rounds += 1
            with suppress(ee.EEException):
                ee.data.getAsset(f"{ASSETS}/a")
                break
        return rounds

    assert 1 <= Tries(waiting, batch_starts=True).run() < 500
    assert f"{ASSETS}/b" in assets
    assert states(service) == ["SUCCEEDED"] * 2


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "exportImage": lambda ee: ee.data.exportImage(None, export("a").config),
    "a function imported before": lambda _: exportImage("abc", export("a").config),
    "startIngestion": lambda ee: ee.data.startIngestion(None, INGESTION),
    "startTableIngestion": lambda ee: ee.data.startTableIngestion("def", TABLE_INGESTION),
}


@pytest.mark.parametrize("how", ANSWERS)
@pytest.mark.parametrize("batch_starts", [False, True])
def test_the_response_of_a_call_is_that_of_the_client(service: Service, how: str, batch_starts: bool) -> None:
    read: list[Any] = []

    def calling() -> None:
        import ee

        answer = ANSWERS[how](ee)
        assert isinstance(answer, dict)
        assert answer
        read.append(len(service.operations))
        read.extend([json.loads(json.dumps(answer)), dict(answer), {**answer}, dict(answer.items()), answer["name"]])
        read.append(answer == dict(answer))

    Tries(calling, batch_starts=batch_starts).run()

    [name] = service.operations
    count, *shapes, full, is_equal = read
    assert count == (0 if batch_starts else 1)
    assert is_equal
    assert full == name
    assert all(shape == shapes[0] and shape["name"] == name for shape in shapes)
    expected = {"name", "metadata"} if "export" in how or "imported" in how else {"id", "name", "started"}
    assert expected <= set(shapes[0])


@pytest.mark.parametrize("deferrable", PLACES)
def test_max_active_operations_limits_batch_starts(service: Service, deferrable: bool) -> None:
    service.behave(pending_seconds=0, run_seconds=1.0)
    tries = Tries(lambda: len(started(NAMES)), batch_starts=True, max_active_operations=2, deferrable=deferrable)

    assert tries.run() == 5
    mine = list(service.operations.values())
    assert max(sum(o.created <= one.created < o.ended() for o in mine) for one in mine) == 2
    assert states(service) == ["SUCCEEDED"] * 5
    assert len(tries.triggers) > 1 or not deferrable


def test_reading_an_id_waits_for_max_active_operations_too(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=0.5)

    tries = Tries(
        lambda: [task.id for task in started(NAMES)], batch_starts=True, max_active_operations=2, deferrable=False
    )

    assert len(tries.run()) == 5
    mine = list(service.operations.values())
    assert len(mine) == 5
    assert max(sum(o.created <= one.created < o.ended() for o in mine) for one in mine) == 2


def test_a_refused_start_fails_the_task_like_a_refused_returned_export(service: Service) -> None:
    errors = []
    for function, batch_starts in ((lambda: [export(name) for name in NAMES], False), (lambda: started(NAMES), True)):
        service.fail("permission_denied", path="*:export", times=None)
        with pytest.raises(AirflowException) as failed:
            Tries(function, batch_starts=batch_starts, retries=0).run()
        errors.append((type(failed.value), str(failed.value)))

    assert errors[0] == errors[1]
    assert not service.operations


def test_reading_the_id_of_a_refused_start_raises_the_refusal(service: Service) -> None:
    """The function catches it, and starts other exports."""

    def plan_b() -> Any:
        import ee

        service.fail("permission_denied", path="*:export", times=1)
        [bad] = started(["bad"])
        with suppress(ee.EEException):
            return bad.id
        good = started(["good", "better"])
        return [task.id for task in good]

    ids = Tries(plan_b, batch_starts=True, ignore_refused_starts=True).run()

    assert sorted(ids) == sorted(name.rpartition("/")[2] for name in service.operations)
    assert {o.description for o in service.operations.values()} == {"good", "better"}
    with pytest.raises(AirflowException, match="ignore_refused_starts=True"):
        Tries(plan_b, batch_starts=True).run()


def test_a_refused_start_that_succeeds_when_repeated_does_not_fail_the_task(service: Service) -> None:
    def again() -> None:
        import ee

        service.fail("permission_denied", path="*:export", times=1)
        [task] = started(["a"])
        with suppress(ee.EEException):
            assert task.id
        task.start()

    Tries(again, batch_starts=True).run()

    assert states(service) == ["SUCCEEDED"]


def test_a_function_that_raises_starts_no_exports(service: Service) -> None:
    def breaking() -> None:
        started(NAMES)
        raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        Tries(breaking, batch_starts=True).run()

    assert not service.operations


def test_an_export_that_the_function_cancels_is_no_failure_and_is_not_started_again(service: Service) -> None:
    service.behave("slow", pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)

    def function() -> Any:
        slow, fast = started(["slow", "fast"])
        slow.cancel()
        return slow, fast

    slow, fast = Tries(function, batch_starts=True).run()

    assert (slow["state"], fast["state"]) == ("CANCELLED", "SUCCEEDED")
    assert len(service.operations) == 2


@pytest.mark.parametrize("store", [Store, lambda: None])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("read", [False, True])
def test_the_next_try_finds_the_exports_with_and_without_batch_starts(
    service: Service, store: Any, first: bool, read: bool
) -> None:
    service.behave(pending_seconds=0, run_seconds=2.0)

    def loop() -> Any:
        tasks = started(NAMES)
        if read:
            assert tasks[-1].id
        if tries.try_number == 1 and (read or not first):
            raise ValueError
        return len(tasks)

    tries = Tries(loop, store=store(), batch_starts=first, wait_for_completion=False)
    with suppress(ValueError):
        tries.run()
    assert len(service.operations) == 5
    tries._how["batch_starts"] = not first
    tries._how["wait_for_completion"] = True

    assert tries.run() == 5
    assert len(service.operations) == 5
    assert states(service) == ["SUCCEEDED"] * 5


@pytest.mark.parametrize("store", [Store, lambda: None])
@pytest.mark.parametrize("read", [False, True])
def test_a_retry_that_deletes_the_asset_of_the_last_try_exports_it_again(
    service: Service, store: Any, read: bool
) -> None:
    assets = Assets(service)
    service.behave(pending_seconds=0, run_seconds=0.2)

    def overwrite() -> None:
        import ee

        with suppress(ee.EEException):
            ee.data.deleteAsset(f"{ASSETS}/x")
        task = to_asset("x")
        task.start()
        if read:
            while task.active():
                pass
            if tries.try_number == 1:
                raise ValueError

    tries = Tries(overwrite, store=store(), batch_starts=True)
    with suppress(ValueError):
        tries.run()
    if not read:
        tries._store = store()  # The try died before it recorded that it had started all exports.
    service.clock.advance(5)
    tries.run()

    assert states(service) == ["SUCCEEDED", "SUCCEEDED"]
    assert f"{ASSETS}/x" in assets


def test_an_asset_that_the_last_try_moved_before_it_failed_is_exported_again(service: Service) -> None:
    """Export beside the old asset, and move the new one into its place."""
    assets = Assets(service)
    service.behave(pending_seconds=0, run_seconds=0.2)

    def move() -> None:
        import ee

        task = to_asset("new")
        task.start()
        while task.active():
            pass
        with suppress(ee.EEException):
            ee.data.deleteAsset(f"{ASSETS}/x")
        ee.data.renameAsset(f"{ASSETS}/new", f"{ASSETS}/x")
        if tries.try_number == 1:
            raise ValueError

    tries = Tries(move, store=Store(), batch_starts=True)
    with suppress(ValueError):
        tries.run()
    service.clock.advance(5)
    tries.run()

    assert states(service) == ["SUCCEEDED", "SUCCEEDED"]
    assert f"{ASSETS}/x" in assets


@pytest.mark.parametrize("deferrable", PLACES)
def test_a_transient_failure_is_started_again(service: Service, deferrable: bool) -> None:
    let_the_first_fail(service, 2)
    Tries(
        lambda: len(started(["a", "b"])),
        batch_starts=True,
        max_restarts=1,
        stop_at_failure=False,
        deferrable=deferrable,
    ).run()

    assert states(service) == ["FAILED", "FAILED", "SUCCEEDED", "SUCCEEDED"]


def test_starts_in_threads_and_coroutines_are_batched_too(service: Service) -> None:
    async def function() -> int:
        with ThreadPoolExecutor(4) as pool:
            await asyncio.gather(
                *(asyncio.get_running_loop().run_in_executor(pool, lambda one=one: started([one])) for one in NAMES)
            )
        return len(service.operations)

    assert Tries(function, batch_starts=True).run() == 0
    assert sorted(o.description for o in service.operations.values()) == NAMES


def test_a_child_process_cannot_start_exports(service: Service) -> None:
    import ee

    def function() -> None:
        with ProcessPoolExecutor(1, get_context("fork")) as pool:
            pool.submit(started, ["a"]).result()

    with pytest.raises(ee.EEException, match="child process cannot start"):
        Tries(function, batch_starts=True, retries=0).run()
    assert not service.operations


def test_a_function_starts_no_exports_after_a_kill(service: Service) -> None:
    import ee

    def function() -> None:
        started(["a"])
        made[0].stop()
        started(["b"])

    tries = Tries(function, batch_starts=True)
    make, made = tries._make, []
    tries._make = lambda: made.append(make()) or made[-1]

    with pytest.raises(ee.EEException, match="Not started, since the task is ending"):
        tries.run()
    assert not service.operations


def test_the_client_is_restored_after_the_task(service: Service) -> None:
    import ee

    before = dict(vars(ee.batch.Task)), dict(vars(ee.data))
    Tries(lambda: len(started(["a"])), batch_starts=True).run()

    assert dict(vars(ee.batch.Task)) == before[0]
    assert {name: value for name, value in vars(ee.data).items() if callable(value)} == {
        name: value for name, value in before[1].items() if callable(value)
    }
    assert states(service) == ["SUCCEEDED"]


@pytest.mark.parametrize("wait_for_completion", PLACES)
def test_a_block_starts_its_exports_at_its_end_and_sets_their_ids(service: Service, wait_for_completion: bool) -> None:
    import ee

    context: Any = {"ti": TaskInstance(), "dag_run": None}
    with earth_engine(
        context, batch_starts=True, wait_for_completion=wait_for_completion, poll_interval=0.2
    ) as operations:
        tasks = started(NAMES)
        answer = ee.data.startIngestion(None, INGESTION)
        assert not service.operations

    assert [*sorted(task.name for task in tasks), answer["name"]] == [
        *sorted(name for name, one in service.operations.items() if one.description in NAMES),
        *(name for name, one in service.operations.items() if one.description not in NAMES),
    ]
    assert tasks[0].id == tasks[0].name.rpartition("/")[2]
    assert sorted(operations.operation_names) == sorted(service.operations)


def written(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> str:
    captured = capfd.readouterr()
    return captured.out + captured.err + caplog.text


def test_a_slow_loop_logs_a_hint_about_batch_starts_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: Any, capfd: Any
) -> None:
    monkeypatch.setattr(pace, "SLOW", 0.3)
    service.fail("delay", path="*:export", times=None, seconds=0.02)
    names = [f"tile-{number}" for number in range(pace.MANY)]

    Tries(lambda: len(started(names)), wait_for_completion=False).run()
    places = [*capfd.readouterr(), caplog.text]  # Airflow 3.0 writes a line in two of them.
    caplog.clear()
    Tries(lambda: len(started(names)), wait_for_completion=False, batch_starts=True).run()

    assert max(said.count("20 starts took ") for said in places) == 1
    assert "With batch_starts=True, up to" in "".join(places)
    assert "one by one" not in written(caplog, capfd)


@pytest.mark.usefixtures("service")
def test_a_loop_that_polls_between_its_starts_logs_no_hint(
    monkeypatch: pytest.MonkeyPatch, caplog: Any, capfd: Any
) -> None:
    monkeypatch.setattr(pace, "SLOW", 0.0)
    names = [f"tile-{number}" for number in range(pace.MANY)]

    Tries(lambda: [started([name])[0].active() for name in names], wait_for_completion=False).run()
    with_ids = written(caplog, capfd)
    caplog.clear()
    Tries(lambda: [started([name])[0].id for name in names], wait_for_completion=False, batch_starts=True).run()

    assert "one by one" not in with_ids
    assert "20 operations in 20 parts" in written(caplog, capfd)
