"""How a task's process acts on a decision: it cancels, and writes down when nothing is left to cancel."""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.errors import has_tries_left, log_errors
from airflow_ee_provider.base.process import is_asking_airflow
from airflow_ee_provider.base.time_limit import run_with_timeout
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.lifecycle.cancelling import cancel_before_the_end, cancel_here, report_cancels
from airflow_ee_provider.lifecycle.decision import Decision, Outcome
from airflow_ee_provider.lifecycle.task import EarthEngineTask
from airflow_ee_provider.tracking.settled import note_settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.earth_engine.protocol.starting import Start


#: Seconds in which Airflow has to take down that nothing is left: a process that was told to end has five in all.
WRITTEN_WITHIN = 1.0


class Phase(str, Enum):
    """How far a task's process is."""

    WORKING = "working"
    #: It was told to end before it had what a cancel needs.
    TOLD_EARLY = "told early"
    CANCELLING = "cancelling"
    #: It has cancelled its operations; what it does after that is only how it ends.
    CANCELLED = "cancelled"
    #: It has asked to be deferred: its trigger has the operations, or `Handover`.
    DEFERRED = "deferred"
    #: Airflow has decided how it ends.
    ENDING = "ending"


class ActingTask(EarthEngineTask):
    """A mixin for what has operations to cancel."""

    if TYPE_CHECKING:
        operation_names: Any

    _phase = Phase.WORKING

    #: The task instance that runs.
    _ti: Any = None

    @property
    def runs_on_after_task(self) -> bool:
        """Whether what the task has is to run on after it, for as long as its run has not failed."""
        return False

    @property
    def own_operations(self) -> list[str]:
        """What the task has, as far as it is not known to have ended."""
        return list(self.operation_names)

    @property
    def own_starts(self) -> list[Start]:
        """What this process has asked Earth Engine to start, without having heard its answer."""
        return []

    @property
    def dag_id_of_run(self) -> str | None:
        """The DAG's id, as the metrics have it; None before the task runs."""
        return getattr(self._ti, "dag_id", None)

    def act(self, decision: Decision, why: str) -> None:
        """Cancel, where that was decided."""
        if decision.outcome is Outcome.CANCEL:
            self.cancel_late_starts()
            self._cancel(why, [name for name in self.own_operations if name not in decision.keep], decision.cause)

    @property
    def owned_for_log(self) -> list[str]:
        """What the task has, and what it may have started, for the log."""
        return [*self.own_operations, *[start.describe() for start in self.own_starts]]

    def _cancel(self, why: str, names: list[str], cause: str) -> None:
        """Cancel on the way out; log in which state each operation is then, and raise nothing."""
        starts, have_ended = self.own_starts, False
        with self._cancelling():
            if not starts and not names:
                return
            shown = abbreviated([*names, *[start.describe() for start in starts]])
            self.log.warning("%s; cancelling %s.", why, shown)
            # What a next try can cancel as well is not worth a process of its own.
            is_followed = cause == "timeout" and self._ti is not None and has_tries_left(self._ti)
            with log_errors(self.log):
                if is_followed:
                    results = cancel_here(self.hook, names, starts)
                else:
                    results = cancel_before_the_end(self.hook, names, self.log, starts)
                report_cancels(results, self.log, cause=cause, dag_id=self.dag_id_of_run)
                have_ended = all(result.outcome.is_fine(not_found_ok=True) for result in results)
        if have_ended and not is_followed:
            self.note_nothing_left()

    @contextmanager
    def _cancelling(self) -> Iterator[None]:
        self._phase = Phase.CANCELLING
        yield
        self._phase = Phase.CANCELLED

    def stop(self) -> None:
        """Start nothing more."""

    def cancel_late_starts(self) -> None:
        """Cancel as well what Earth Engine is only now heard to have started."""

    def note_nothing_left(self) -> None:
        """Write down that nothing is left to cancel, so that the collector need not ask Earth Engine."""
        if self._ti is None or is_asking_airflow():
            return
        try:
            run_with_timeout(lambda: note_settled(self._ti), WRITTEN_WITHIN)
        except Exception as error:  # noqa: BLE001 (Airflow raises what it likes)
            self.log.debug("The collector will ask Earth Engine: %s", error)
