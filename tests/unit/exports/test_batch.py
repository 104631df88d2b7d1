"""Parallel starts are recorded in batches, and logged in a few lines."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from airflow_ee_provider.earth_engine.model.errors import PermissionDeniedError
from airflow_ee_provider.earth_engine.protocol.starting import Start
from airflow_ee_provider.exports import batch
from airflow_ee_provider.exports.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger("task")


def tile(number: int) -> Start:
    return Start("image:export", {"description": f"tile-{number}"}, "dag/run/task")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [100.0]
    monkeypatch.setattr(batch.time, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_first_start_is_recorded_at_once_and_later_ones_after_an_interval(clock: Callable[[float], None]) -> None:
    recorded: list[dict[str, str]] = []
    some = Batch(5, 0, recorded.append, LOG)

    for number in range(3):
        some.add(tile(number), f"operation-{number}")
    clock(batch.RECORD_INTERVAL)
    some.add(tile(3), "operation-3")

    keys = {f"operation-{number}": tile(number).key for number in range(4)}
    assert recorded == [{"operation-0": keys.pop("operation-0")}, keys]


def test_start_that_could_not_be_recorded_is_recorded_later(clock: Callable[[float], None]) -> None:
    recorded: list[dict[str, str]] = []

    def refuse(started: dict[str, str]) -> None:
        recorded.append(started)
        if len(recorded) == 1:
            raise LookupError

    some = Batch(2, 0, refuse, LOG)
    with pytest.raises(LookupError):
        some.add(tile(0), "operation-0")
    clock(batch.RECORD_INTERVAL)
    some.record()
    some.record()

    assert recorded == [{"operation-0": tile(0).key}] * 2


def test_few_starts_are_logged_one_by_one_and_many_by_their_number(
    clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    few = Batch(2, 1, lambda _: None, LOG)
    few.add(tile(0), "operation-0")
    few.log_end()
    many = Batch(3000, 0, lambda _: None, LOG)
    for number in range(12):
        many.add(tile(number), f"operation-{number}")
    clock(batch.LOG_INTERVAL)
    many.record()
    many.is_full = True
    many.log_end()

    assert caplog.messages == [
        "Continuing with 1 of 2 operations, started before.",
        "Started image:export 'tile-0': operation-0",
        "Started 12 of 3,000 operations.",
        "Started 12 of 3,000 operations in 5 s.",
        "The project's queue is full; 2,988 operations are not started yet.",
    ]


def test_batch_is_over_after_a_failure_or_with_a_full_queue() -> None:
    going_on, full, failed = (Batch(2, 0, lambda _: None, LOG) for _ in range(3))
    full.is_full = True
    failed.failure = (tile(0), PermissionDeniedError("No."))

    assert [one.is_over for one in (going_on, full, failed)] == [False, True, True]
