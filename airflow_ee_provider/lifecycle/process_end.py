"""The end of a task's process: Airflow calls its listeners there, once it has decided how the task ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from airflow_ee_provider.base import process

if TYPE_CHECKING:
    from collections.abc import Callable


class ProcessEnd:
    """Tells a task how Airflow lets its process end.

    What fails is tried again, or is not, by rules that Airflow applies after ``execute`` has raised: ``retries``, a
    retry policy, the class of the exception. So what is done with the task's operations is decided after that.

    :param ti: the task instance.
    :param on_end: is given its state.
    """

    def __init__(self, ti: Any, on_end: Callable[[str], None]) -> None:
        self._ti, self._on_end = ti, on_end

    def expect(self) -> None:
        """Let Airflow call `before_stopping` when this process is about to end."""
        process.add_listener(self)

    @hookimpl
    def before_stopping(self, component: Any) -> None:
        """Let the task decide; called by Airflow in the task's process."""
        del component
        process.remove_listener(self)
        state = getattr(self._ti, "state", None)
        ends_as = str(getattr(state, "value", state) or "")
        # There, Airflow says that a task is to be tried again, and never does it.
        is_over = ends_as == "up_for_retry" and process.is_a_task_test(self._ti)
        self._on_end("failed" if is_over else ends_as)
