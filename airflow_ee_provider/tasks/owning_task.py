"""What a task does with operations that it owns: it records them, has them at hand, and cancels them on its way out."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException

from airflow_ee_provider.airflow_versions import (
    AIRFLOW_3,
    is_asking_airflow,
    tell_again,
)
from airflow_ee_provider.earth_engine.flows.cancelling import describe_results
from airflow_ee_provider.earth_engine.many import some_lines, some_of
from airflow_ee_provider.links.earth_engine import EarthEngineTasksLink
from airflow_ee_provider.tasks.clean_up import (
    account_of,
    airflow_errors,
    cancel_before_the_end,
    cancel_here,
    is_last_try,
    log_instead_of_raising,
    report_cancels,
)
from airflow_ee_provider.tasks.next_try import state_if_not_wanted, wanted_by_another_try
from airflow_ee_provider.tasks.record_format import cancel_on_of
from airflow_ee_provider.tasks.records import record_started, wanted_of_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.flows.starting import Start
    from airflow_ee_provider.earth_engine.operation_names import OperationName
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
    from airflow_ee_provider.tasks.record_format import Intent

#: Seconds in which Airflow answers what a task asks; otherwise it is away. And after which a kill that has come amid
#: such a question is looked at again.
ANSWERS_WITHIN, LOOKED_AT_AGAIN_IN = 1.0, 0.05


class EarthEngineTask:
    """A mixin for operators and sensors with the parameters `ACCOUNT_PARAMETERS`."""

    operator_extra_links: Any = (EarthEngineTasksLink(),)

    if TYPE_CHECKING:
        log: Any
        task_id: str

    @cached_property
    def hook(self) -> EarthEngineHook:
        """The task's hook."""
        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        return EarthEngineHook(**account_of(self))


def record_names(task: Any, context: Context, intent: Intent) -> list[OperationName]:
    """Parse a task's ``operation_names`` and record them, before anything waits on them.

    From now on they are plain texts: what a kill reads must ask nobody.

    :param intent: why the task has them.
    :raises AirflowSkipException: if there is no name at all: the upstream task started nothing.
    """
    with airflow_errors():
        names: list[OperationName] = task.hook.account.names(task.operation_names)
    if not names:
        raise AirflowSkipException(f"{task.task_id} was given no Earth Engine operation: there is nothing to do.")
    task.operation_names = [str(name) for name in names]
    task.hook.make_ready()
    record_started(context, dict.fromkeys(map(str, names), ""), account_of(task), intent, cancel_on_of(task))
    EarthEngineTasksLink.persist_for(context, names)
    return names


def cancel_and_describe(
    task: OwningTask, names: list[str], starts: Sequence[Start] = (), *, cause: str = "failure", is_final: bool = True
) -> list[str]:
    """Cancel, and return lines on what became of the operations. Never raises.

    :param starts: what may be started, and is cancelled as well.
    :param is_final: whether nobody goes on with them: a process that outlives this one may cancel them, too.
    """
    if not names and not starts:
        return []
    with log_instead_of_raising(task.log):
        if is_final:
            results = cancel_before_the_end(task.hook, names, task.log, starts)
        else:
            results = cancel_here(task.hook, names, starts)
        report_cancels(results, task.log, cause=cause, dag_id=task.dag_id_of_run)
        return describe_results(results)
    return some_lines([f"{name}: it could not be cancelled, and may still run" for name in names])


class OwningTask(EarthEngineTask):
    """A mixin for what owns operations: a kill or a timeout cancels them, or leaves them to the next try."""

    if TYPE_CHECKING:
        operation_names: Any
        cancel_on_kill: bool
        cancel_on_timeout: bool
        execution_timeout: timedelta | None

    #: When the ``execution_timeout`` passes, in seconds since the epoch, counted from the task's start.
    _execution_ends: float | None = None

    #: Whether the task is over its time: `on_kill` is called then as well.
    _is_timed_out = False

    _is_deferred = False

    #: The task instance that runs.
    _ti: Any = None

    #: Whether a kill has cancelled what this process holds: whatever it does after that is only how it ends.
    _is_killed = False

    #: Whether a kill came before there was what it needs.
    _is_killed_early = False

    #: Since when a kill is to be looked at again, in seconds of the monotonic clock.
    _undecided_since: float | None = None

    #: Whether it is amid cancelling, which the exception of Airflow 2's SIGTERM would end half-way.
    _is_cancelling = False

    #: What the next try goes on with: this process cancels nothing of it any more.
    _left: frozenset[str] = frozenset()
    _has_left = False

    def pre_execute(self, context: Context) -> None:
        """Have in the process what a kill needs, before anything else; called by Airflow in every process of the task.

        A task that resumes after a deferral is another process, and Airflow 2.11 can call `on_kill` in it before
        anything else of ours.
        """
        super().pre_execute(context)  # type: ignore[misc]
        self._ti = context["ti"]
        # A rescheduled sensor's time begins again with each poke.
        if self.execution_timeout is not None and getattr(self, "mode", None) != "reschedule":
            started = getattr(context["ti"], "start_date", None) or datetime.now(timezone.utc)
            self._execution_ends = (started + self.execution_timeout).timestamp()
        with suppress(Exception):  # Whatever it is, it is met again, where the task can say so.
            self.hook.make_ready()
            names = wanted_of_task(context) or self.hook.account.names(self.operation_names)
            self.operation_names = [str(name) for name in names]  # Plain: a lazy sequence asks Airflow.
        if self._is_killed_early:
            self.cancel_after_kill()
            raise AirflowException(f"{self.task_id} was killed before it began.")

    def cancel_own(self, why: str) -> None:
        """Cancel this task's operations on its way out; log what became of each, and raise nothing."""
        self.log.warning("%s; cancelling %s.", why, some_of(self._own_in_words))
        with self._cancelling(), log_instead_of_raising(self.log):
            results = cancel_before_the_end(self.hook, self.own_operations, self.log, self.own_starts)
            report_cancels(results, self.log, cause="kill", dag_id=self.dag_id_of_run)

    @contextmanager
    def _cancelling(self) -> Iterator[None]:
        before, self._is_cancelling = self._is_cancelling, True
        try:
            yield
        finally:
            self._is_cancelling = before

    @property
    def own_operations(self) -> list[str]:
        """What this process may cancel: all that the task holds, but for what is left to its next try."""
        return [name for name in self.operation_names if name not in self._left]

    @property
    def own_starts(self) -> list[Start]:
        """What this process has asked Earth Engine to start, without having heard its answer."""
        return []

    @property
    def _own_in_words(self) -> list[str]:
        return [*self.own_operations, *[start.describe() for start in self.own_starts]]

    @property
    def dag_id_of_run(self) -> str | None:
        """The DAG's id, as the metrics have it; None before the task runs."""
        return getattr(self._ti, "dag_id", None)

    def on_kill(self) -> None:
        """Cancel, because the task was cleared or marked, or its DAG run or its own time is over."""
        if self._is_cancelling and not AIRFLOW_3:
            self.cancel_own(f"{self.task_id} is told to end again")
            return
        # The trigger has them, or `Handover`; or `on_timeout` has cancelled them, unless it is amid that.
        if self._is_deferred or (self._is_timed_out and not self._is_cancelling):
            return
        if self._is_looked_at_again():
            return
        self._stop()
        if AIRFLOW_3 and not self.hook.is_ready:
            # A signal handler must not ask for the connection, amid what the task itself asks Airflow; and Airflow
            # lets the task go on for some seconds.
            self._is_killed_early = self.cancel_on_kill
            return
        self.hook.may_ask_airflow = False
        if not self._is_timed_out and self._execution_ends is not None and time.time() >= self._execution_ends:
            self.on_timeout("execution_timeout")
        elif self.cancel_on_kill:
            self.cancel_after_kill()

    def _is_looked_at_again(self) -> bool:
        """Whether a kill is to be decided about in a moment: amid a question of the task's, Airflow cannot be asked.

        Its handler of SIGTERM interrupts that, and lets the task go on.
        """
        now = time.monotonic()
        since = now if self._undecided_since is None else self._undecided_since
        is_again = is_asking_airflow() and now < since + ANSWERS_WITHIN
        self._undecided_since = since if is_again else None
        if is_again:
            tell_again(LOOKED_AT_AGAIN_IN)
        return is_again

    def _stop(self) -> None:
        """Begin nothing more, because this process was told to end."""

    def cancel_after_kill(self) -> None:
        """Cancel this task's operations, but for those that another try goes on with."""
        self._cancel_what_none_wants(f"{self.task_id} was killed", is_over=False)

    def cancel_after_all(self, why: str) -> None:
        """Cancel also what was left to the next try, unless there is one by now that goes on with it.

        :param why: the task is not wanted any more, as Airflow has said.
        """
        self._take_back()
        self._cancel_what_none_wants(why, is_over=True)

    def _cancel_what_none_wants(self, why: str, *, is_over: bool) -> None:
        if self._own_in_words and (wanted := self._wanted_by_another_try(is_over=is_over)) is not None:
            shown = [*sorted(wanted), *[start.describe() for start in self.own_starts]]
            self.log.warning("The next try of %s goes on with %s.", self.task_id, some_of(shown))
            self.leave(wanted)
        if self._own_in_words:
            self._is_killed = True
            self.cancel_own(why)

    def leave(self, wanted: Iterable[str]) -> None:
        """Cancel nothing any more of what the next try goes on with."""
        self._left |= frozenset(wanted)
        self._has_left = True

    def _take_back(self) -> None:
        self._left, self._has_left = frozenset(), False

    def heed_a_user(self) -> None:
        """Cancel, as after a kill, where a task fails before it is told that a user has acted.

        Airflow 3.3 refuses what a cleared task writes down, so that nobody could find what it has just started; and
        one that fails by itself is never told. Nor is one again that was told to end before that, and has left what it
        holds to its next try.
        """
        if self._undecided_since is not None:
            self.on_kill()
            return
        has_cancelled = self._is_killed and not self._has_left
        if has_cancelled or self._is_deferred or not self.cancel_on_kill:
            return
        try:
            state = state_if_not_wanted(self._ti)
        except Exception as error:  # noqa: BLE001 (Airflow raises what it likes)
            self.log.info("Airflow does not say whether anybody has acted on this task: %s", error)
            return
        if state:
            self.log.warning("%s is %s by now.", self.task_id, state)
            self._take_back()
            self.on_kill()

    def _wanted_by_another_try(self, *, is_over: bool) -> set[str] | None:
        if self._ti is None:
            return None
        return wanted_by_another_try(self._ti, self.operation_names, self.log, is_over=is_over)

    def on_timeout(self, what: object) -> None:
        """Cancel, because the task has waited for too long."""
        self._is_timed_out = True
        if self.cancel_on_timeout and (own := self._own_in_words):
            self.log.warning("%s timed out (%s); cancelling %s.", self.task_id, what, some_of(own))
            is_final = self._ti is None or is_last_try(self._ti)
            with self._cancelling():
                cancel_and_describe(self, self.own_operations, self.own_starts, cause="timeout", is_final=is_final)
