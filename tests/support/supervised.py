"""What Airflow 3 answers to code of the triggerer, without a triggerer: canned answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class Supervisor:
    """Knows of one task instance, which has no XComs.

    :param state: of that one; None where it was cleared.
    :param errors: how many questions fail first.
    """

    def __init__(self, ti: Any, state: str | None, errors: int = 0) -> None:
        self._ti, self._state, self._errors = ti, state, errors

    def send(self, message: Any) -> Any:
        """Answer a question."""
        if self._errors:
            self._errors -= 1
            raise RuntimeError("API_SERVER_ERROR")
        from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult, XComResult

        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={self._ti.run_id: {self._ti.task_id: self._state}})
        return XComResult(key=message.key, value=None)


def answer_as_supervisor(monkeypatch: pytest.MonkeyPatch, ti: Any, state: str | None, errors: int = 0) -> None:
    """Let what asks Airflow 3 for its task's state be answered."""
    from airflow.sdk.execution_time import task_runner

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(ti, state, errors), raising=False)
