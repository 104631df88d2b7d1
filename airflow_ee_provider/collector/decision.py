"""The collector's rule: whether to cancel an operation that a task has recorded and did not cancel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from airflow_ee_provider.base.task_states import ACTIVE_STATES
from airflow_ee_provider.tracking.holders import ACTIVE_RUN_STATES
from airflow_ee_provider.tracking.record import Ownership

if TYPE_CHECKING:
    from airflow_ee_provider.tracking.record import Record

#: In place of a state: the task instance is no longer in Airflow's database.
GONE = "gone"

#: States of a task instance that no process runs.
WAITS_WITHOUT_A_PROCESS = frozenset({"deferred", "up_for_retry", "up_for_reschedule"})

#: States of a task instance that Airflow has still to start.
TO_BE_STARTED = frozenset({None, "scheduled", "queued", "restarting"})


class Verdict(str, Enum):
    """What the collector does now with a record's operations."""

    #: A task needs them, or will still record which ones it did not cancel.
    NEEDED = "needed"
    #: The collector must not cancel them: they are meant to keep running, or belong to others.
    LEFT = "left"
    #: It is not clear whether a task needs them. Nothing is cancelled, and the log has the reason.
    UNCLEAR = "unclear"
    #: No task needs them.
    CANCEL = "cancel"


@dataclass(frozen=True)
class Decision:
    """A verdict and its reason, as the log shows it after the task's name."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Facts:
    """All facts for a decision about a record.

    :param task_state: The task instance's present state; None if Airflow has still to schedule it, or `GONE`.
    :param run_state: The present state of its DAG run.
    :param try_number: The number of the task instance's latest try.
    :param max_tries: The task instance's present ``max_tries``. A clear changes it.
    :param run_started: When its run began. The clear of a finished run changes it.
    :param record: A part of the task's record.
    :param settled_try: The try that has recorded that no operation needs a cancel.
    :param is_replaced: Whether the next try has begun and the record was deleted.
    :param was_waiting: Whether this try was in a state without a process when a check last found it active.
    """

    task_state: str | None
    run_state: str | None
    try_number: int
    max_tries: int | None
    run_started: datetime | None
    record: Record
    settled_try: int | None = None
    is_replaced: bool = False
    was_waiting: bool = False

    @property
    def is_active(self) -> bool:
        """Whether Airflow runs the task instance, or will run it."""
        return self.run_state in ACTIVE_RUN_STATES and (self.task_state is None or self.task_state in ACTIVE_STATES)

    @property
    def is_settled(self) -> bool:
        """Whether a try has recorded that no operation needs a cancel. A try after a clear does not count."""
        recorded_by = self.record.try_number or self.try_number
        is_of_it = self.settled_try is not None and self.settled_try >= recorded_by
        return is_of_it and not (self.is_replaced and self.was_cleared)

    @property
    def was_cleared(self) -> bool:
        """Whether the task, or its whole run, was cleared since it recorded the operations."""
        record = self.record
        if record.max_tries is None:
            return False
        started = datetime.fromisoformat(record.run_started) if record.run_started else None
        return record.max_tries != self.max_tries or (started is not None and started != self.run_started)


def decide(facts: Facts) -> Decision:
    """Return what to do with the operations of a record.

    :param facts: The facts that Airflow reports now.
    """
    record = facts.record
    if facts.is_settled:
        return Decision(Verdict.LEFT, "has nothing to cancel")
    if record.ownership in (Ownership.OBSERVER, Ownership.CANCELLER):
        is_waiting = facts.is_active and record.ownership == Ownership.OBSERVER
        return Decision(Verdict.NEEDED if is_waiting else Verdict.LEFT, "does not own them")
    if facts.task_state == GONE:
        return _if_allowed(facts, "was deleted", ("kill",))
    if facts.is_active:
        return _of_active(facts)
    if facts.task_state is None or facts.task_state in ACTIVE_STATES:
        return _if_allowed(facts, f"is {facts.task_state or 'cleared'}, and its run is {facts.run_state}", ("kill",))
    how = f"is {facts.task_state}"
    if facts.is_replaced and facts.was_cleared:
        return _if_allowed(facts, "was cleared, and its next try has ended", ("kill",))
    if facts.is_replaced:
        return _if_allowed(facts, f"{how}, and its last try did not continue with them", ("kill",))
    if facts.task_state == "failed" and not facts.was_waiting:
        # It has failed, or a user has marked it failed; Airflow does not record which.
        return _if_allowed(facts, how, ("kill", "failure"))
    return _if_allowed(facts, how, ("kill",))


def _of_active(facts: Facts) -> Decision:
    """Decide about a task that Airflow runs or will run."""
    if facts.is_replaced:
        if facts.was_cleared:
            return _if_allowed(facts, "was cleared, and its next try has begun", ("kill",))
        return Decision(Verdict.NEEDED, "is tried again, and may continue with them")
    if facts.task_state in TO_BE_STARTED and facts.was_cleared:
        return _if_allowed(facts, "was cleared", ("kill",))
    if facts.task_state is None:
        return Decision(Verdict.UNCLEAR, "has no state: a user cleared it, or Airflow lost it and will try it again")
    return Decision(Verdict.NEEDED, f"is {facts.task_state}")


def _if_allowed(facts: Facts, how: str, ends: tuple[str, ...]) -> Decision:
    """Cancel if the task itself would have cancelled.

    :param ends: The ways in which the task may have ended, as in the names of the ``cancel_on_*`` parameters.
    """
    record = facts.record
    if record.ownership == Ownership.HANDED_OFF and facts.run_state != "failed":
        return Decision(Verdict.LEFT, f"{how}; its operations are meant to keep running")
    if record.ownership == Ownership.HANDED_OFF:
        ends = ("kill", "failure")
    if record.cancel_on is None:
        if "failed" in (facts.task_state, facts.run_state):
            return Decision(Verdict.CANCEL, how)
        return Decision(Verdict.LEFT, f"{how}, but neither it nor its run has failed")
    if missing := [f"cancel_on_{end}" for end in ends if end not in record.cancel_on]:
        is_clear = len(missing) == len(ends)
        why = f"{how}, and {' and '.join(missing)} is not set"
        return Decision(Verdict.LEFT if is_clear else Verdict.UNCLEAR, why)
    return Decision(Verdict.CANCEL, how)
