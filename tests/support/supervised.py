"""What Airflow 3 answers to code of the triggerer, without a triggerer: canned answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class Supervisor:
    """Knows of one task instance, which has no XComs.

    :param state: of that one; None where it was cleared.
    """

    def __init__(self, ti: Any, state: str | None) -> None:
        self._ti, self._state = ti, state

    def send(self, message: Any) -> Any:
        """Answer a question."""
        from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult, XComResult

        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={self._ti.run_id: {self._ti.task_id: self._state}})
        return XComResult(key=message.key, value=None)


def answer_as_supervisor(monkeypatch: pytest.MonkeyPatch, ti: Any, state: str | None) -> None:
    """Let what asks Airflow 3 for its task's state be answered."""
    from airflow.sdk.execution_time import task_runner

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(ti, state), raising=False)
