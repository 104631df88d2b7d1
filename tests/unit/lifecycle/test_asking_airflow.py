"""The decision if Airflow responds to only some of the requests in time, or to none."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.lifecycle import asking_airflow
from airflow_ee_provider.lifecycle.asking_airflow import decide_by_asking
from airflow_ee_provider.lifecycle.decision import Event, Outcome, Situation

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = logging.getLogger("task")
TI: Any = SimpleNamespace(dag_id="dag", run_id="run", task_id="task", map_index=-1, try_number=1)
SIGNAL = Situation(Event.SIGNAL, has_tries_left=True)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make Airflow respond only to the requests for which a test defines a response."""
    end = threading.Event()

    def never(*_: Any) -> Any:
        end.wait(60)
        raise ConnectionError

    for question in ("own_state", "is_run_active_now", "operations_of_a_later_try", "own_try"):
        monkeypatch.setattr(asking_airflow, question, never)
    for seconds in ("LATER_TRY_BEGINS", "ANSWERED_WITHIN", "INTERVAL"):
        monkeypatch.setattr(asking_airflow, seconds, 0.1)
    yield
    end.set()


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_operations_of_a_failed_task_are_cancelled_without_further_responses(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(asking_airflow, "own_state", lambda _: state)

    assert decide_by_asking(TI, SIGNAL, LOG).outcome is Outcome.CANCEL


@pytest.mark.parametrize("state", ["success", "running", "deferred", "queued"])
def test_operations_are_left_without_all_responses_if_a_later_try_may_need_them(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """A later try may have handed off the operations, and succeeded."""
    monkeypatch.setattr(asking_airflow, "own_state", lambda _: state)

    assert decide_by_asking(TI, SIGNAL, LOG).outcome is Outcome.LEAVE


def test_without_a_response_operations_are_left_only_to_a_next_try() -> None:
    assert decide_by_asking(TI, SIGNAL, LOG).outcome is Outcome.LEAVE
    assert decide_by_asking(TI, Situation(Event.SIGNAL), LOG).outcome is Outcome.CANCEL


def test_with_all_responses_operations_of_a_later_try_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_airflow, "own_state", lambda _: "failed")
    monkeypatch.setattr(asking_airflow, "operations_of_a_later_try", lambda _: {"projects/p/operations/A"})

    decision = decide_by_asking(TI, SIGNAL, LOG)

    assert (decision.outcome, decision.keep) == (Outcome.CANCEL, {"projects/p/operations/A"})


@pytest.mark.parametrize("unanswered", ["own_state", "operations_of_a_later_try"])
def test_log_names_the_error_that_prevented_a_response(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unanswered: str
) -> None:
    """Many socket errors have no text; the error is logged even if the other responses are enough."""

    def refused(_: Any) -> Any:
        raise ConnectionResetError

    monkeypatch.setattr(asking_airflow, "own_state", lambda _: "failed")
    monkeypatch.setattr(asking_airflow, unanswered, refused)

    decide_by_asking(TI, SIGNAL, LOG)

    [line] = caplog.records
    assert line.levelname == "WARNING"
    assert "ConnectionResetError" in line.getMessage()
