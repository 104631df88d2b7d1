"""What Airflow 3 answers to code of the triggerer, without a triggerer: canned answers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class Supervisor:
    """Knows of one task instance, which has no XComs but those that it is given.

    :param state: of that one; None where it was cleared.
    :param errors: how many questions fail first.
    """

    #: How often each question was asked: an XCom's key, or the kind of message.
    asked: Counter[str]
    #: XComs by key, each with how often it has to be asked for before it is there.
    xcoms: dict[str, tuple[Any, int]]

    def __init__(self, ti: Any, state: str | None, errors: int = 0) -> None:
        self._ti, self.state, self._errors = ti, state, errors
        self.asked, self.xcoms = Counter(), {}

    def send(self, msg: Any) -> Any:
        """Answer a question."""
        if self._errors:
            self._errors -= 1
            raise RuntimeError("API_SERVER_ERROR")
        from airflow.sdk.execution_time.comms import (
            DagRunStateResult,
            GetDagRunState,
            GetTaskStates,
            TaskStatesResult,
            XComResult,
        )

        what = getattr(msg, "key", type(msg).__name__)
        self.asked[what] += 1
        if isinstance(msg, GetTaskStates):
            return TaskStatesResult(task_states={self._ti.run_id: {self._ti.task_id: self.state}})
        if isinstance(msg, GetDagRunState):
            return DagRunStateResult(state="running")
        value, after = self.xcoms.get(what, (None, 0))
        return XComResult(key=msg.key, value=value if self.asked[what] > after else None)


def answer_as_supervisor(monkeypatch: pytest.MonkeyPatch, ti: Any, state: str | None, errors: int = 0) -> Supervisor:
    """Let what asks Airflow 3 for its task's state be answered."""
    from airflow.sdk.execution_time import task_runner

    supervisor = Supervisor(ti, state, errors)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor
