"""A function's starts are recorded while it makes the next one; an error of Airflow loses none."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.exports import recorder
from airflow_ee_provider.exports.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER, DAG_TEST = SimpleNamespace(job_id=1), SimpleNamespace(job_id=None)

#: The longest that a test waits for a thread, in seconds.
PATIENCE = 60


class Airflow:
    """Stores operations, once a test allows it."""

    def __init__(self) -> None:
        self.stored: list[list[str]] = []
        self.threads: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()
        self.errors: list[BaseException] = []

    @property
    def names(self) -> list[str]:
        return [name for names in self.stored for name in names]

    def store(self, operations: dict[str, str]) -> None:
        self.asked.set()
        assert self.answers.wait(PATIENCE)
        if self.errors:
            raise self.errors.pop()
        self.threads.append(threading.current_thread().name)
        self.stored.append(list(operations))


@pytest.fixture(autouse=True)
def _threads_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "threads_may_ask_airflow", lambda: True)
    monkeypatch.setattr(recorder, "is_a_dag_test", lambda ti: ti is DAG_TEST)
    monkeypatch.setattr(recorder, "COLLECTED_FOR", 0.0)


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    one = Airflow()
    yield one
    one.answers.set()


def recording(airflow: Airflow, ti: Any = WORKER) -> Recorder:
    return Recorder(ti, airflow.store)


def test_first_start_is_recorded_before_the_function_continues(airflow: Airflow) -> None:
    recording(airflow).add({"a": "1"})

    assert airflow.stored == [["a"]]
    assert airflow.threads == ["MainThread"]


def test_function_does_not_wait_for_the_records_of_later_starts(airflow: Airflow) -> None:
    one = recording(airflow)
    one.add({"a": "1"})
    airflow.answers.clear()
    airflow.asked.clear()

    one.add({"b": "2"})
    assert airflow.asked.wait(PATIENCE)
    one.add({"c": "3"})
    one.add({"d": "4"})
    assert airflow.stored == [["a"]]

    airflow.answers.set()
    one.write_now()
    assert airflow.stored == [["a"], ["b"], ["c", "d"]]


def test_several_starts_share_one_record(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "COLLECTED_FOR", 3.0)
    one = recording(airflow)
    for name in "abcd":
        one.add({name: ""})
    one.write_now()

    assert airflow.stored == [["a"], ["b", "c", "d"]]


def test_record_is_written_although_no_start_follows(airflow: Airflow) -> None:
    one = recording(airflow)
    for name in "abc":
        one.add({name: ""})

    until = time.monotonic() + PATIENCE
    while airflow.names != ["a", "b", "c"] and time.monotonic() < until:
        time.sleep(0.01)
    assert airflow.names == ["a", "b", "c"]


def test_start_that_a_thread_failed_to_record_is_recorded_by_the_next_call(airflow: Airflow) -> None:
    one = recording(airflow)
    one.add({"a": "1"})
    airflow.errors = [ConnectionError("Airflow does not answer.")]
    one.add({"b": "2"})
    one.write_now()

    assert airflow.stored == [["a"], ["b"]]


def test_persistent_error_is_raised_and_no_start_is_lost(airflow: Airflow) -> None:
    one = recording(airflow)
    one.add({"a": "1"})
    airflow.errors = [ConnectionError("Again."), ConnectionError("No answer.")]
    one.add({"b": "2"})
    with pytest.raises(ConnectionError, match="Again"):
        one.write_now()

    one.add({"c": "3"})
    assert airflow.stored == [["a"], ["b", "c"]]


@pytest.mark.parametrize("names", ["", "ab"])
def test_write_now_waits_for_all_starts(airflow: Airflow, names: str) -> None:
    one = recording(airflow)
    for name in names:
        one.add({name: ""})
    one.write_now({"last": ""})

    assert airflow.names == [*names, "last"]


def test_starts_of_all_threads_are_recorded(airflow: Airflow) -> None:
    one = recording(airflow)

    def add(number: int) -> None:
        for turn in range(20):
            one.add({f"{number}-{turn}": ""})

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.write_now()

    assert len(airflow.names) == len(set(airflow.names)) == 80


def test_in_a_dag_test_the_task_itself_records_at_intervals(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of 10 ms is made every 250 ms at most: 4 % of the time."""
    now = 100.0
    monkeypatch.setattr(recorder.time, "monotonic", lambda: now)

    def store(operations: dict[str, str]) -> None:
        nonlocal now
        now += 0.01
        airflow.store(operations)

    one = Recorder(DAG_TEST, store)
    for number in range(50):
        one.add({str(number): ""})
        now += 0.05
    one.write_now()

    assert set(airflow.threads) == {"MainThread"}
    assert airflow.names == [str(number) for number in range(50)]
    assert 8 <= len(airflow.stored) <= 12, "Of 2.5 seconds, a tenth of a second."


def test_before_airflow_3_2_only_the_tasks_main_thread_records(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "threads_may_ask_airflow", lambda: False)
    one = recording(airflow)
    thread = threading.Thread(target=one.add, args=({"a": ""},))
    thread.start()
    thread.join()
    assert airflow.stored == []

    one.add({"b": ""})
    one.add({"c": ""})
    assert airflow.stored == [["a", "b"], ["c"]]


def test_function_waits_for_records_if_no_thread_can_be_started(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(recorder._thread, "start_new_thread", refuse)
    one = recording(airflow)
    for name in "abc":
        one.add({name: ""})

    assert airflow.stored == [["a"], ["b"], ["c"]]
