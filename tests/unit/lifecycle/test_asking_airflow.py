"""What is decided where Airflow answers a part of the questions, or none, in the time there is."""

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
    """Airflow answers no question but those that a test answers."""
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
def test_a_task_that_has_failed_needs_nothing_although_airflow_answers_no_more(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(asking_airflow, "own_state", lambda _: state)

    assert decide_by_asking(TI, SIGNAL, LOG).outcome is Outcome.CANCEL


@pytest.mark.parametrize("state", ["success", "running", "deferred", "queued"])
def test_a_part_of_the_answers_is_not_enough_where_a_later_try_may_need_them(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """A later try may have handed them off, and succeeded."""
    monkeypatch.setattr(asking_airflow, "own_state", lambda _: state)

    assert decide_by_asking(TI, SIGNAL, LOG).outcome is Outcome.LEAVE


def test_without_an_answer_the_next_try_keeps_them() -> None:
    assert decide_by_asking(TI, SIGNAL, LOG).outcome is Outcome.LEAVE
    assert decide_by_asking(TI, Situation(Event.SIGNAL), LOG).outcome is Outcome.CANCEL


def test_with_all_answers_what_a_later_try_has_recorded_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_airflow, "own_state", lambda _: "failed")
    monkeypatch.setattr(asking_airflow, "operations_of_a_later_try", lambda _: {"projects/p/operations/A"})

    decision = decide_by_asking(TI, SIGNAL, LOG)

    assert (decision.outcome, decision.keep) == (Outcome.CANCEL, {"projects/p/operations/A"})


@pytest.mark.parametrize("unanswered", ["own_state", "operations_of_a_later_try"])
def test_the_log_names_what_kept_airflow_from_answering(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unanswered: str
) -> None:
    """Many errors of a socket have no text; and where a part of the answers is enough, the rest was still refused."""

    def refused(_: Any) -> Any:
        raise ConnectionResetError

    monkeypatch.setattr(asking_airflow, "own_state", lambda _: "failed")
    monkeypatch.setattr(asking_airflow, unanswered, refused)

    decide_by_asking(TI, SIGNAL, LOG)

    [line] = caplog.records
    assert line.levelname == "WARNING"
    assert "ConnectionResetError" in line.getMessage()
