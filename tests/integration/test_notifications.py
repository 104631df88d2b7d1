"""The notifier alone: which operations it finds in a callback's context, and that it never raises."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from instances import Store, TaskInstance

from airflow_ee_provider.earth_engine.model.errors import PermissionDeniedError
from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.lifecycle import cancelling
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.tracking import run as run_records
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, PART, Record, part_key
from airflow_ee_provider.tracking.resuming import left_by_the_last_try, names_in, resume_operations
from airflow_ee_provider.tracking.store import (
    operations_of_task,
    record_operations,
    record_started,
    records_of_task,
    started_by_task,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def emulator(earth_engine_emulator: Emulator) -> Emulator:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    return earth_engine_emulator


@pytest.fixture(params=["sync", "async"])
def notify(request: pytest.FixtureRequest) -> Callable[..., None]:
    def notify(context: Any, **kwargs: Any) -> None:
        notifier = EarthEngineCancelOperationsNotifier(poll_interval=0.1, **kwargs)
        if request.param == "sync":
            notifier.notify(context)
        else:
            asyncio.run(notifier.async_notify(context))

    return notify


def test_a_notifier_without_names_cancels_the_tasks_operations(emulator: Emulator, notify: Callable[..., None]) -> None:
    names = [emulator.service.add("x") for _ in range(2)]
    context: Any = {"ti": TaskInstance()}
    for name in names:
        record_operations(context, name)

    notify(context)

    assert [emulator.service.state(name) for name in names] == ["CANCELLED"] * 2


@pytest.fixture
def run_holds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Airflow's response to a request for the XComs of a run, by task."""
    found: dict[str, Any] = {}

    def xcoms_of_run(key: str, *_: Any) -> list[tuple[str, Any]]:
        return [(task_id, value) for task_id, value in found.items() if key == OPERATIONS_KEY]

    monkeypatch.setattr(run_records, "xcoms_of_run", xcoms_of_run)
    return found


def recorded(*names: str) -> dict[str, Any]:
    """Return the record of a task in the form of its XCom."""
    return Record(names).as_json()


class Dag:
    task_ids = ("a", "b")
    on_failure_callback: Any = None

    def __init__(self, project_id: str | None = None) -> None:
        self.project_id = project_id

    def get_task(self, task_id: str) -> Any:
        return SimpleNamespace(task_id=task_id, project_id=self.project_id)


@pytest.mark.parametrize(
    ("named", "state"), [((None, None), "RUNNING"), (("theirs", None), "CANCELLED"), ((None, "theirs"), "CANCELLED")]
)
def test_an_operation_of_another_project_is_cancelled_only_if_the_author_names_the_project(
    emulator: Emulator,
    notify: Callable[..., None],
    run_holds: dict[str, Any],
    named: tuple[str | None, str | None],
    state: str,
) -> None:
    of_notifier, of_task = named
    mine, theirs = emulator.service.add("x"), emulator.service.add("x", "theirs")
    run_holds["a"] = recorded(theirs, mine)

    notify({"reason": "failed", "dag": Dag(of_task), "ti": TaskInstance()}, project_id=of_notifier)

    assert [emulator.service.state(name) for name in (mine, theirs)] == ["CANCELLED", state]


@pytest.mark.parametrize(
    ("about", "state"),
    [
        ({"dag": Dag()}, "RUNNING"),
        ({"dag": Dag("{{ params.project }}")}, "CANCELLED"),
        ({}, "CANCELLED"),
    ],
    ids=["no project in the DAG", "a template", "a deadline's callback, without a DAG"],
)
def test_the_record_decides_about_the_project_if_the_author_leaves_it_open(
    *,
    emulator: Emulator,
    notify: Callable[..., None],
    run_holds: dict[str, Any],
    logged: Callable[[], str],
    about: dict[str, Any],
    state: str,
) -> None:
    theirs = emulator.service.add("x", "theirs")
    account = {"earth_engine_conn_id": "earth_engine_default", "project_id": "theirs", "impersonation_chain": None}
    run_holds["a"] = Record((theirs,), account).as_json()

    notify({"reason": "failed", "ti": TaskInstance(), **about}, scope="run")

    assert emulator.service.state(theirs) == state
    assert (f"Not cancelling {theirs}: " in logged()) == (state == "RUNNING")


@pytest.mark.parametrize("then", ["running", "up_for_reschedule"])
def test_the_operation_of_a_sensor_whose_poke_has_just_begun_is_cancelled(
    emulator: Emulator,
    notify: Callable[..., None],
    run_holds: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    then: str,
) -> None:
    """Airflow deletes the XComs of a rescheduled sensor at each poke; the sensor records its operations again."""
    names = [emulator.service.add("x") for _ in range(2)]
    states = {"a": "running", "b": "running", "c": "success"}
    run_holds |= {"b": recorded(names[1])}

    def asked(*_: Any) -> dict[str, str]:  # The record exists, or appears while the notifier waits.
        if then != "running":
            run_holds["a"], states["a"] = recorded(names[0]), then
        return dict(states)

    def sleep(_seconds: float) -> None:
        run_holds["a"] = recorded(names[0])

    monkeypatch.setattr(run_records, "states_of_run", asked)
    monkeypatch.setattr(run_records, "time", SimpleNamespace(sleep=sleep))

    notify({"reason": "failed", "dag": Dag(), "ti": TaskInstance(task_id="c")}, scope="run")

    assert [emulator.service.state(name) for name in names] == ["CANCELLED"] * 2


@pytest.mark.usefixtures("run_holds")
def test_a_running_task_that_records_nothing_delays_a_callback_by_seconds_only(
    notify: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(run_records, "states_of_run", lambda *_: {"a": "running", "b": "running"})
    monkeypatch.setattr(run_records, "time", SimpleNamespace(sleep=slept.append))

    notify({"reason": "failed", "dag": Dag(), "ti": TaskInstance(task_id="b")}, scope="run")

    assert 0 < sum(slept) < 5


def test_a_dags_callback_cancels_the_operations_of_the_run(
    emulator: Emulator, notify: Callable[..., None], run_holds: dict[str, Any]
) -> None:
    """Records that cannot be read do not prevent that."""
    names = [emulator.service.add("x") for _ in range(2)]
    run_holds |= {
        "b": Record((names[0],), {"earth_engine_conn_id": "earth_engine_default"}).as_json(),
        "gone": "file:///an/object/that/is/gone",
        "broken": RuntimeError("The store is away."),
        "a": recorded(names[1]),
    }

    notify({"reason": "timed_out", "dag": Dag(), "ti": TaskInstance()})

    assert [emulator.service.state(name) for name in names] == ["CANCELLED"] * 2


@pytest.mark.parametrize(("scope", "cancelled"), [("task", [True, False]), ("run", [True, True])])
def test_scope_decides_whose_operations_the_notifier_cancels(
    emulator: Emulator, notify: Callable[..., None], run_holds: dict[str, Any], scope: str, cancelled: list[bool]
) -> None:
    """The callback's context does not change that."""
    names, ti = [emulator.service.add("x") for _ in range(2)], TaskInstance()
    record_operations({"ti": ti}, names[0])
    run_holds |= {"a": recorded(names[0]), "b": recorded(names[1])}

    notify({"reason": "failed", "dag": Dag(), "ti": ti}, scope=scope)

    assert [emulator.service.state(name) == "CANCELLED" for name in names] == cancelled


@pytest.mark.usefixtures("emulator")
def test_an_unknown_operation_is_no_error_with_not_found_ok(
    notify: Callable[..., None], logged: Callable[[], str]
) -> None:
    gone = "projects/earth-demo/operations/GONE"

    notify({"ti": TaskInstance()}, operation_names=gone, not_found_ok=True)
    assert "It may still run" not in logged()

    notify({"ti": TaskInstance()}, operation_names=gone)
    assert "It may still run" in logged()


def test_each_operation_is_cancelled_with_the_connection_that_started_it(
    emulator: Emulator, notify: Callable[..., None], run_holds: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Emulator() as other:
        other.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
        monkeypatch.setenv("AIRFLOW_CONN_OTHER", other.airflow_connection())
        mine, theirs = emulator.service.add("x"), other.service.add("x")
        run_holds |= {
            "a": Record((mine,), {"earth_engine_conn_id": "earth_engine_default"}).as_json(),
            "b": Record((theirs,), {"earth_engine_conn_id": "other"}).as_json(),
        }

        notify({"reason": "failed", "dag": Dag(), "ti": TaskInstance()})

        assert (emulator.service.state(mine), other.service.state(theirs)) == ("CANCELLED", "CANCELLED")
        assert not other.service.requests(path=f"{mine}*")


@pytest.mark.parametrize("word", ["reason", "deadline", "dag_run", "exception"])
def test_a_users_keyword_argument_does_not_widen_a_tasks_callback_to_the_run(
    emulator: Emulator,
    notify: Callable[..., None],
    run_holds: dict[str, Any],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A PythonOperator's keyword arguments are merged into the context of its callbacks."""
    neighbours, ti = emulator.service.add("x"), TaskInstance()
    run_holds["b"] = recorded(neighbours)
    for name, value in {"DAG_ID": ti.dag_id, "TASK_ID": ti.task_id, "DAG_RUN_ID": ti.run_id}.items():
        monkeypatch.setenv(f"AIRFLOW_CTX_{name}", value)

    notify({"ti": ti, "dag": Dag(), word: "a user's"})

    assert emulator.service.state(neighbours) == "RUNNING"


def test_names_that_render_to_nothing_cancel_nothing(emulator: Emulator, notify: Callable[..., None]) -> None:
    context: Any = {"ti": TaskInstance()}
    recorded = emulator.service.add("x")
    record_operations(context, recorded)

    for nothing in (None, "None", [], "null"):
        notify(context, operation_names=nothing)

    assert emulator.service.state(recorded) == "RUNNING"


def test_given_names_take_precedence_over_recorded_names(emulator: Emulator, notify: Callable[..., None]) -> None:
    given, recorded = emulator.service.add("x"), emulator.service.add("x")
    context: Any = {"ti": TaskInstance()}
    record_operations(context, recorded)

    notify(context, operation_names=[given])

    assert emulator.service.state(given) == "CANCELLED"
    assert emulator.service.state(recorded) == "RUNNING"


@pytest.mark.parametrize(
    ("context", "names"),
    [
        ({}, ...),
        ({"ti": TaskInstance()}, ...),
        ({"reason": "x", "ti": TaskInstance()}, ...),
        ({}, "no name"),
        ({}, "projects/earth-demo/operations/UNKNOWN"),
    ],
    ids=["deadline", "nothing recorded", "no DAG", "no name", "unknown"],
)
def test_the_notifier_raises_no_error(
    emulator: Emulator, notify: Callable[..., None], context: Any, names: Any
) -> None:
    notify(context, **({} if names is ... else {"operation_names": names}))

    assert not emulator.service.operations


def later_try(*, max_tries: int, left: list[str]) -> Any:
    """Return the context of a task with one retry that runs again; ``left`` is what its last try recorded."""
    first: Any = {"ti": TaskInstance(max_tries=1), "task_state_store": Store()}
    record_operations(first, left)
    return {**first, "ti": TaskInstance(try_number=2, max_tries=max_tries)}


RETRY, CLEARED = {"max_tries": 1}, {"max_tries": 2}


@pytest.mark.parametrize(("how", "resumed", "state"), [(RETRY, True, "RUNNING"), (CLEARED, False, "CANCELLED")])
def test_the_next_try_reattaches_after_a_crash_and_cancels_after_a_clear(
    emulator: Emulator, how: dict[str, int], resumed: bool, state: str
) -> None:
    name = emulator.service.add("x")
    context = later_try(**how, left=[name])

    operations = resume_operations(context, EarthEngineHook())

    assert operations == ([name] if resumed else [])
    assert operations_of_task(context) == operations
    assert emulator.service.state(name) == state


def test_on_retry_and_on_clear_decide_about_the_last_trys_operations(emulator: Emulator) -> None:
    name = emulator.service.add("x")
    hook = EarthEngineHook()

    assert resume_operations(later_try(**RETRY, left=[name]), hook, on_retry="ignore") == []
    assert resume_operations(later_try(**CLEARED, left=[name]), hook, on_clear="reattach") == [name]
    assert emulator.service.state(name) == "RUNNING"
    assert resume_operations(later_try(**RETRY, left=[name]), hook, on_retry="cancel") == []
    assert emulator.service.state(name) == "CANCELLED"
    with pytest.raises(ValueError, match="'reattach', 'cancel', 'ignore'"):
        resume_operations(later_try(**RETRY, left=[name]), hook, on_retry="restart")
    with pytest.raises(ValueError, match="on_clear is 'typo'"):  # Although nothing was cleared.
        resume_operations(later_try(**RETRY, left=[]), hook, on_clear="typo")


def test_the_next_try_does_not_resume_failed_or_unknown_operations(emulator: Emulator) -> None:
    left = [emulator.service.add("x", run_seconds=0, outcome="FAILED"), "projects/earth-demo/operations/FORGOTTEN"]

    assert resume_operations(later_try(**RETRY, left=left), EarthEngineHook()) == []


def test_an_operation_of_the_last_try_that_cannot_be_cancelled_is_an_error(emulator: Emulator) -> None:
    name = emulator.service.add("x")
    emulator.service.fail("permission_denied", times=None, path="*:cancel")

    with pytest.raises(PermissionDeniedError, match=name):
        resume_operations(later_try(**CLEARED, left=[name]), EarthEngineHook())


@pytest.mark.usefixtures("airflow_database")
def test_a_missing_connection_is_logged_and_not_raised(emulator: Emulator, notify: Callable[..., None]) -> None:
    notify({}, operation_names=emulator.service.add("x"), earth_engine_conn_id="mistyped")


def test_a_record_adds_new_names_and_refuses_invalid_ones() -> None:
    context: Any = {"ti": TaskInstance()}

    record_operations(context, "projects/p/operations/A")
    recorded = record_operations(context, ["projects/p/operations/B", "projects/p/operations/A"])

    assert recorded == operations_of_task(context) == ["projects/p/operations/A", "projects/p/operations/B"]
    with pytest.raises(ValueError, match="not the name of an Earth Engine operation"):
        record_operations(context, "projects/p/operations/A:cancel")


@pytest.mark.usefixtures("emulator")
def test_an_id_is_recorded_with_its_project() -> None:
    context: Any = {"ti": TaskInstance()}

    record_operations(context, "A", project_id="theirs")
    recorded = record_operations(context, ["B"], earth_engine_conn_id="earth_engine_default")

    assert recorded == ["projects/theirs/operations/A", "projects/earth-demo/operations/B"]
    with pytest.raises(ValueError, match="'C' is an operation's id without its project"):
        record_operations(context, "C")


class CountingTaskInstance(TaskInstance):
    """Counts all reads, and the writes of each XCom."""

    reads = 0

    def xcom_pull(self, **kwargs: Any) -> Any:
        type(self).reads += 1
        return super().xcom_pull(**kwargs)

    def xcom_push(self, key: str, value: Any) -> None:
        super().xcom_push(key, value)
        self.writes = getattr(self, "writes", Counter[str]()) + Counter([key])


def test_thousands_of_names_are_recorded_in_parts_of_bounded_size() -> None:
    ti = CountingTaskInstance(run_id="thousands")
    context: Any = {"ti": ti}
    names = [f"projects/p/operations/N{number}" for number in range(3 * PART + 7)]

    for name in names[:10]:
        record_operations(context, name)
    record_operations(context, names, earth_engine_conn_id="other")

    assert operations_of_task(context) == names
    parts = records_of_task(context)
    assert max(len(part.operation_names) for part in parts) == PART
    assert [part.account and part.account["earth_engine_conn_id"] for part in parts[:2]] == [None, "other"]
    assert {ti.writes[part_key(number)] for number in range(1, len(parts))} == {1}, "What is full is not written again."


def test_a_read_while_a_task_records_finds_all_names_recorded_before() -> None:
    names = [f"projects/p/operations/N{number}" for number in range(2 * PART + 50)]
    found: list[list[str]] = []

    class ReadTaskInstance(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            super().xcom_push(key, value)
            found.append(operations_of_task({"ti": self}))

    context: Any = {"ti": ReadTaskInstance(run_id="read meanwhile")}
    for begin in range(0, len(names), 30):
        record_operations(context, names[begin : begin + 30])

    assert all(before == after[: len(before)] for before, after in pairwise(found))
    assert found[-1] == names


def test_no_part_of_an_earlier_trys_long_record_follows_a_short_record() -> None:
    store, names = Store(), [f"projects/p/operations/N{number}" for number in range(2 * PART + 50)]
    record_operations({"ti": TaskInstance(), "task_state_store": store}, names)  # type: ignore[typeddict-unknown-key]
    second: Any = {"ti": TaskInstance(try_number=2), "task_state_store": store}
    assert names_in(left_by_the_last_try(second)) == names

    record_operations(second, names[:1])

    assert names_in(left_by_the_last_try({**second, "ti": TaskInstance(try_number=3)})) == names[:1]


def test_a_retry_is_not_taken_for_a_clear_if_the_dag_file_changes_retries(emulator: Emulator) -> None:
    class Task:
        retries = 0

    context = later_try(max_tries=1, left=[emulator.service.add("x")])

    assert resume_operations({**context, "task": Task()}, EarthEngineHook())


def test_the_reads_of_recording_grow_linearly_with_the_names() -> None:
    ti = CountingTaskInstance(run_id="one by one")
    names = [f"projects/p/operations/A{number}" for number in range(800)]
    for name in names:
        record_operations({"ti": ti}, name)

    assert ti.reads < 1.1 * len(names)
    before = ti.reads
    assert operations_of_task({"ti": ti}) == names
    assert ti.reads - before == len(names) / PART, "What others read is a hundredth of that."


def test_threads_that_record_in_parallel_lose_no_name() -> None:
    context: Any = {"ti": TaskInstance(run_id="side by side")}
    names = [f"projects/p/operations/A{number}" for number in range(600)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: record_operations(context, name), names))

    assert sorted(operations_of_task(context)) == sorted(names)


def test_names_that_another_process_has_recorded_meanwhile_are_kept() -> None:
    ti = TaskInstance(run_id="elsewhere")
    record_operations({"ti": ti}, "projects/p/operations/A")
    ti.xcoms[OPERATIONS_KEY]["operation_names"].append("projects/p/operations/B")

    recorded = record_operations({"ti": ti}, "projects/p/operations/C")

    assert recorded == [f"projects/p/operations/{name}" for name in "ABC"]


def begins_anew(ti: TaskInstance) -> None:
    ti.xcoms.clear()


def has_recorded(ti: TaskInstance) -> None:
    next_try = TaskInstance(run_id=ti.run_id, try_number=2)
    record_operations({"ti": next_try}, "projects/p/operations/A")
    ti.xcoms.update(next_try.xcoms)


@pytest.mark.parametrize("next_try", [begins_anew, has_recorded])
def test_a_try_on_a_stalled_worker_does_not_change_the_records_of_the_next_try(
    next_try: Callable[[TaskInstance], None],
) -> None:
    ti = TaskInstance(run_id="stood still")
    record_operations({"ti": ti}, "projects/p/operations/A")
    next_try(ti)
    records_of_next_try = copy.deepcopy(ti.xcoms)

    with pytest.raises(AirflowException, match="Another try of this task has begun"):
        record_operations({"ti": ti}, "projects/p/operations/B")

    assert ti.xcoms == records_of_next_try


def test_a_try_ends_as_the_next_one_will_if_both_have_the_same_operations() -> None:
    """On Airflow 2, a scheduler that was killed leaves the task's process alive, and its successor starts another."""
    ti = TaskInstance(run_id="both end")
    record_started({"ti": ti}, {"projects/p/operations/A": "a key"}, None)
    of_next_try = ti.xcoms[OPERATIONS_KEY] = {**ti.xcoms[OPERATIONS_KEY], "try_number": 2}

    assert started_by_task({"ti": ti}, at_end=True) == {"a key": "projects/p/operations/A"}

    of_next_try["operation_names"], of_next_try["start_keys"] = ["projects/p/operations/B"], ["another key"]
    with pytest.raises(AirflowException, match="Another try of this task has begun"):
        started_by_task({"ti": ti}, at_end=True)


def test_the_record_of_an_earlier_try_on_a_stalled_worker_is_overwritten() -> None:
    ti = TaskInstance(run_id="stood still", try_number=2)
    record_operations({"ti": ti}, "projects/p/operations/A")
    earlier = TaskInstance(run_id=ti.run_id, try_number=1)
    record_operations({"ti": earlier}, "projects/p/operations/B")

    record_operations({"ti": ti}, "projects/p/operations/A")
    ti.xcoms.update(earlier.xcoms)
    recorded = record_operations({"ti": ti}, "projects/p/operations/C")

    assert recorded == ["projects/p/operations/A", "projects/p/operations/C"]
    assert ti.xcoms[OPERATIONS_KEY]["try_number"] == 2


@pytest.mark.parametrize(("callback", "is_handed_over"), [("on_failure_callback", True), ("on_retry_callback", False)])
def test_an_operation_that_a_next_try_may_resume_is_not_cancelled_later(
    emulator: Emulator,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    callback: str,
    *,
    is_handed_over: bool,
) -> None:
    monkeypatch.setattr(cancelling, "BEGINS_WITHIN", 60.0)  # For a slow machine.
    name = emulator.service.add("x")
    notifier = EarthEngineCancelOperationsNotifier(poll_interval=0.1, cancel_timeout=1.5)
    ti = TaskInstance(max_tries=2)
    ti.task = SimpleNamespace(task_id="a", project_id=None, **{callback: notifier})
    context: Any = {"ti": ti}
    record_operations(context, name)
    emulator.service.fail("unavailable", times=None)

    notifier.notify(context)

    captured = capfd.readouterr()
    written = captured.out + captured.err + caplog.text
    assert ("The background process" in written) is is_handed_over
    assert "It may still run" in written
