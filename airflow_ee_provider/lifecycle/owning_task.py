"""The base class of tasks that own operations: the methods that Airflow calls, and the wait for the operations."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from airflow_ee_provider.base.airflow_versions import trigger_timed_out
from airflow_ee_provider.base.errors import airflow_errors
from airflow_ee_provider.base.parameters import Parameter, check_rendered, connection_kwargs
from airflow_ee_provider.base.process import can_run_a_trigger, is_a_dag_test, measured_at_its_end
from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError
from airflow_ee_provider.earth_engine.model.metrics import flush
from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
from airflow_ee_provider.lifecycle.ending import Ending, Phase
from airflow_ee_provider.lifecycle.signals import cancel_if_interrupted_while_deferred
from airflow_ee_provider.links.earth_engine import LINKS, persist_links
from airflow_ee_provider.tracking.record import cancel_on_of
from airflow_ee_provider.tracking.store import needed_by_task, record_started, recorded_by_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
    from airflow_ee_provider.tracking.record import Ownership


def hook_of(task: Any) -> EarthEngineHook:
    """Return a hook with a task's connection parameters."""
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

    return EarthEngineHook(**connection_kwargs(task))


def names_of(task: Any, parameter: str) -> list[OperationName]:
    """Parse a task's parameter that contains names of operations.

    :raises AirflowFailException: If one of them is not a name; names the parameter.
    """
    with airflow_errors():
        account = task.hook.account
    try:
        names: list[OperationName] = account.names(getattr(task, parameter))
    except InvalidOperationNameError as error:
        raise AirflowFailException(f"{parameter}: {error}") from None
    return names


def record_names(task: Any, context: Context, ownership: Ownership) -> list[OperationName]:
    """Parse a task's ``operation_names`` and record them, before the task waits for them.

    The task's attribute is then a list of strings, so that a kill can read it without a request to Airflow.

    :param ownership: The relation of the task to the operations.
    :raises AirflowSkipException: If there is no name, since the upstream task started nothing.
    """
    names = names_of(task, "operation_names")
    if not names:
        raise AirflowSkipException(f"{task.task_id} is skipped: operation_names contains no operation.")
    task.operation_names = [str(name) for name in names]
    task.knows_operations = True
    task.hook.preload()
    record_started(context, dict.fromkeys(map(str, names), ""), connection_kwargs(task), ownership, cancel_on_of(task))
    persist_links(context, names)
    return names


#: The parameters that limit the compute of operations.
LIMITS = ("max_eecu_seconds", "max_total_eecu_seconds")


class OwningTask:
    """A mixin for a task that owns operations and waits for them, in its process or in the triggerer.

    `Ending` decides whether and when to cancel. It reads the task's operations from the properties below.
    """

    if TYPE_CHECKING:
        cancel_on_kill: bool
        cancel_on_timeout: bool
        cancel_on_failure: Any
        stop_at_failure: Any
        max_failures: Any
        checked_parameters: tuple[Parameter, ...]
        execution_timeout: timedelta | None
        operation_names: Any
        task_id: str
        log: Any
        defer: Any

    operator_extra_links: Any = LINKS

    #: The name of the parameter with the time between two polls.
    interval_parameter = "poll_interval"

    hook = cached_property(hook_of)

    #: Whether a further try continues with the operations, or cancels them, before it starts others.
    resumes_operations = False

    #: Whether this process has read the operations that earlier processes and tries have recorded. If not, it must not
    #: note that none needs a cancel: the collector cancels what the task does not know.
    knows_operations = False

    _ending: Ending | None = None

    @property
    def ending(self) -> Ending:
        """Cancels the operations, if necessary, when the task or its process ends."""
        if self._ending is None or self._ending.task is not self:  # Airflow runs a copy of the DAG's task.
            self._ending = Ending(self)
        return self._ending

    # The task's operations

    @property
    def ownership(self) -> Ownership:
        """The task's relation to its operations."""
        raise NotImplementedError

    @property
    def own_operations(self) -> list[str]:
        """The task's operations that are not known to have ended."""
        return list(self.operation_names)

    @property
    def all_operations(self) -> set[str]:
        """All operations of which this process knows whether they have ended."""
        return set(self.operation_names)

    def knows_all(self) -> bool:
        """Whether `all_operations` are all that this try and earlier ones have recorded, also by the author's code."""
        return self.knows_operations and self.all_operations.issuperset(recorded_by_process(self.ending.ti))

    @property
    def own_starts(self) -> list[Start]:
        """Starts that Earth Engine has not answered yet."""
        return []

    @property
    def runs_on_after_task(self) -> bool:
        """Whether the operations keep running after the task, as long as its DAG run has not failed."""
        return False

    def left_by_the_last_try(self, context: Context) -> list[str]:
        """Return an earlier try's operations that this try has not recorded yet."""
        del context
        return []

    def stop(self) -> None:
        """Start no more operations."""

    def cancel_late_starts(self) -> None:
        """Cancel each operation whose start Earth Engine answers from now on."""

    # What Airflow calls

    def pre_execute(self, context: Context) -> None:
        """Read what a kill needs, the connection and the operations' names; then check the rendered parameters.

        Called first in each process of the task. A task that resumes after a deferral runs in another process. Airflow
        2.11 can call `on_kill` there before any other method of the task.
        """
        super().pre_execute(context)  # type: ignore[misc]
        ends = None
        # For a rescheduled sensor, the execution_timeout starts again with each poke.
        if self.execution_timeout is not None and getattr(self, "mode", None) != "reschedule":
            started = getattr(context["ti"], "start_date", None) or datetime.now(timezone.utc)
            ends = (started + self.execution_timeout).timestamp()
        self.ending.begin(context["ti"], ends)
        with suppress(Exception):  # The task's own code meets the error again, and reports it.
            self.hook.preload()
            names = needed_by_task(context) or self.hook.account.names(self.operation_names)
            self.operation_names = [str(name) for name in names]  # Strings, since a lazy sequence calls Airflow.
            self.knows_operations = bool(names)
        if self.ending.phase is Phase.KILLED_EARLY:
            with suppress(Exception):  # If Airflow does not answer, the collector cancels them.
                self.operation_names = [*self.operation_names, *self.left_by_the_last_try(context)]
                self.knows_operations = True
        self.ending.end_if_killed_early()
        check_rendered(self, self.checked_parameters)

    @measured_at_its_end
    def on_kill(self) -> None:
        """Decide whether to cancel the operations, because Airflow ends this process."""
        self.ending.on_signal()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume the task. If its trigger timed out, cancel first, since Airflow then runs no code of the trigger."""
        if trigger_timed_out(next_method, next_kwargs):
            self.ending.on_timeout("the wait in the triggerer")
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]

    # The wait

    @property
    def limits(self) -> dict[str, Any]:
        """The limits for the operations' compute; valid after the parameters are rendered."""
        return {name: getattr(self, name) for name in LIMITS}

    @property
    def wait_options(self) -> WaitOptions:
        """The options of the wait, in a worker and in the triggerer; valid after the parameters are rendered."""
        stop = self.cancel_on_failure if self.stop_at_failure is None else self.stop_at_failure
        interval = getattr(self, self.interval_parameter)
        return WaitOptions(interval, stop, max_failures=self.max_failures, **self.limits)

    def wait_in_triggerer(
        self,
        context: Context,
        names: Iterable[object],
        trigger_class: Callable[..., Any],
        *,
        method: str = "execute_complete",
        timeout: float | None = None,
        **more: Any,
    ) -> None:
        """Defer to a trigger. Return if no trigger can run here, so that the task waits in its process.

        :param trigger_class: The trigger's class, such as `EarthEngineOperationsTrigger`.
        :param method: The name of the task's method that is called with the trigger's event.
        :param timeout: The longest wait in seconds, besides ``execution_timeout``; None for no limit.
        :param more: Further parameters of the trigger.
        """
        if not can_run_a_trigger(context["ti"]):
            self.log.info("Not deferring: dag.test() cannot run a trigger in a thread that runs an event loop.")
            return
        now = time.time()
        ends = (None if timeout is None else now + timeout, self.ending.execution_ends)
        timeout_at = min((end for end in ends if end is not None), default=None)
        if self.cancel_on_kill and not is_a_dag_test(context["ti"]):
            self.ending.end_unless_own()
            if self.ending.phase is not Phase.WORKING:
                raise AirflowException(f"{self.task_id} was killed, so it does not wait in the triggerer.")
        trigger = trigger_class(
            operation_names=[str(name) for name in names],
            **self.wait_options.as_kwargs(),
            cancel_on_kill=self.cancel_on_kill,
            timeout_at=None if self.cancel_on_timeout else timeout_at,
            **connection_kwargs(self),
            **more,
        )
        self.ending.phase = Phase.DEFERRED
        cancel_if_interrupted_while_deferred(self.ending)
        bound = None if timeout_at is None else timedelta(seconds=max(0.0, timeout_at - now))
        flush()
        self.defer(trigger=trigger, method_name=method, timeout=bound)
