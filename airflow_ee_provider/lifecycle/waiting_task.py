"""What a task does that waits for its operations, here or in the triggerer."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_ee_provider.base.airflow_versions import trigger_timed_out
from airflow_ee_provider.base.connection import connection_kwargs
from airflow_ee_provider.base.process import can_run_a_trigger, is_a_dag_test
from airflow_ee_provider.earth_engine.model.log_text import truncated_lines
from airflow_ee_provider.earth_engine.model.metrics import flush
from airflow_ee_provider.lifecycle.acting import Phase
from airflow_ee_provider.lifecycle.handover import Handover
from airflow_ee_provider.lifecycle.owning_task import OwningTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
    from airflow_ee_provider.tracking.record import Ownership

#: The parameters that bound what operations may use.
LIMITS = ("max_eecu_seconds", "max_total_eecu_seconds")


class WaitingTask(OwningTask):
    """A mixin for what waits until its operations have succeeded, here or in the triggerer."""

    if TYPE_CHECKING:
        defer: Any

    @property
    def ownership(self) -> Ownership:
        """Why it has its operations."""
        raise NotImplementedError

    @property
    def limits(self) -> dict[str, Any]:
        """What the operations may use, once the parameters are rendered."""
        return {name: getattr(self, name) for name in LIMITS}

    @property
    def wait_options(self) -> WaitOptions:
        """How this task waits, in a worker and in the triggerer alike; once its parameters are rendered."""
        raise NotImplementedError

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
        """Defer to a trigger; return where nothing would run it.

        :param trigger_class: of the trigger, such as `EarthEngineOperationsTrigger`.
        :param method: of the task, called with the trigger's event.
        :param timeout: seconds; besides ``execution_timeout``.
        :param more: parameters of that trigger.
        """
        if not can_run_a_trigger(context["ti"]):
            self.log.info("An event loop runs in this thread, so that dag.test() cannot run a trigger: it waits here.")
            return
        now = time.time()
        ends = [end for end in (None if timeout is None else now + timeout, self._execution_ends) if end is not None]
        timeout_at = min(ends, default=None)
        is_watched = self.cancel_on_kill and not is_a_dag_test(context["ti"])
        handover = Handover(context["ti"], self.act, self.log) if is_watched else None
        if handover:
            self.continue_if_own()
            if self._phase is not Phase.WORKING:
                raise AirflowException(f"{self.task_id} was killed: it is not deferred.")
        trigger = trigger_class(
            operation_names=[str(name) for name in names],
            **self.wait_options.as_kwargs(),
            cancel_on_kill=self.cancel_on_kill,
            timeout_at=None if self.cancel_on_timeout else timeout_at,
            handover=handover.token if handover else None,
            **connection_kwargs(self),
            **more,
        )
        if handover:
            handover.begin()
        self._phase = Phase.DEFERRED
        bound = None if timeout_at is None else timedelta(seconds=max(0.0, timeout_at - now))
        flush()
        self.defer(trigger=trigger, method_name=method, timeout=bound)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Cancel first where the trigger timed out: Airflow runs no code of the trigger's then."""
        if trigger_timed_out(next_method, next_kwargs):
            self.on_timeout("the waiting in the triggerer")
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]


def raise_for_failures(operations: list[OperationDict], options: WaitOptions) -> list[OperationDict]:
    """Return the operations if no more than may fail have failed.

    :raises AirflowFailException: naming each that has, with Earth Engine's code and message.
    """
    failed = [operation for operation in operations if operation["error"]]
    if not options.allows(len(failed), len(operations)):
        details = "\n".join(truncated_lines([f"  {line_of(operation)}" for operation in failed]))
        raise AirflowFailException(f"{len(failed)} of the Earth Engine operations did not succeed:\n{details}")
    return operations


def line_of(operation: OperationDict) -> str:
    """Say in one line how an operation, as plain JSON, has ended."""
    from airflow_ee_provider.earth_engine.model.operations import escaped_for_log, label

    parts = [f"{label(operation['name'], operation['description'])}: {operation['state']}"]
    if error := operation["error"]:
        parts.append(f"code {error['code']}: {escaped_for_log(error['message'], 1000)}")
    if operation["duration_seconds"] is not None:
        parts.append(f"{operation['duration_seconds']:.0f} s")
    if operation["batch_eecu_usage_seconds"]:
        parts.append(f"{operation['batch_eecu_usage_seconds']:g} EECU-seconds")
    return ", ".join(parts) + "".join(f" → {escaped_for_log(uri)}" for uri in operation["destination_uris"])
