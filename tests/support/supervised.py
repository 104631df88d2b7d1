"""Canned responses of Airflow 3's supervisor to code that runs in the triggerer, without a triggerer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class Supervisor:
    """A supervisor that knows one task instance, its XComs, and those in ``xcoms``.

    :param state: the task instance's state; None if it was cleared.
    :param errors: the number of first requests that fail.
    """

    #: The number of requests, by an XCom's key, or by the type of the message.
    asked: Counter[str]
    #: XComs by key, each with the number of requests after which it exists.
    xcoms: dict[str, tuple[Any, int]]

    def __init__(self, ti: Any, state: str | None, errors: int = 0) -> None:
        self._ti, self.state, self._errors = ti, state, errors
        self.asked, self.xcoms = Counter(), {}

    def send(self, msg: Any) -> Any:
        """Respond to a request."""
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
        value, after = self.xcoms.get(what, (getattr(self._ti, "xcoms", {}).get(what), 0))
        return XComResult(key=msg.key, value=value if self.asked[what] > after else None)


def answer_as_supervisor(monkeypatch: pytest.MonkeyPatch, ti: Any, state: str | None, errors: int = 0) -> Supervisor:
    """Replace the supervisor that code asks for its task's state on Airflow 3."""
    from airflow.sdk.execution_time import task_runner

    supervisor = Supervisor(ti, state, errors)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor
