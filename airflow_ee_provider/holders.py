"""What every task that holds operations does, be it an operator or a sensor."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_ee_provider.links.earth_engine import EarthEngineTasksLink
from airflow_ee_provider.records import operations_of_task, record_operations
from airflow_ee_provider.tasks import (
    KILL,
    airflow_errors,
    clean_up,
    hook_arguments,
    report,
    result_of,
    timed_out,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.operations import OperationName
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


class OperationHolder:
    """A mixin for operators and sensors with the parameters `HOOK_PARAMETERS` and ``operation_names``."""

    operator_extra_links: Any = (EarthEngineTasksLink(),)

    if TYPE_CHECKING:
        operation_names: Any
        log: Any
        task_id: str

    @cached_property
    def hook(self) -> EarthEngineHook:
        """The task's hook."""
        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        return EarthEngineHook(**hook_arguments(self))

    def adopt(self, context: Context) -> list[OperationName]:
        """Parse the names and record them as this task's, before anything waits on them.

        :raises AirflowSkipException: if there is no name at all: the upstream task started nothing.
        """
        with airflow_errors():
            names = self.hook.account.names(self.operation_names)
        if not names:
            raise AirflowSkipException(f"{self.task_id} was given no Earth Engine operation: there is nothing to do.")
        record_operations(context, names)
        EarthEngineTasksLink.persist_for(context, names)
        return names

    def cancel_now(self, why: str) -> None:
        """Cancel this task's operations on its way out; log what became of each, and raise nothing."""
        self.log.warning("%s; cancelling %s.", why, self.operation_names)
        self.cancelled(self.operation_names)

    def cancelled(self, names: Any) -> list[str]:
        """Cancel operations on the way out; return a line on what became of each, none if it failed; raise nothing."""
        with clean_up(self.log):
            results = self.hook.cancel_operations(names, **KILL)
            report(results, self.log)
            return [result.describe() for result in results]
        return []


class WaitingHolder(OperationHolder):
    """A mixin for what waits until its operations have succeeded, here or in the triggerer."""

    if TYPE_CHECKING:
        max_eecu_seconds: float | None
        cancel_on_kill: bool
        cancel_on_timeout: bool
        execution_timeout: timedelta | None
        defer: Any

    #: Whether the failure of one operation ends the waiting for the others.
    stop_at_failure = True

    def wait_in_triggerer(self, names: Iterable[object], poll_interval: float, timeout: float | None = None) -> None:
        """Defer until all have succeeded or one has not.

        :param timeout: seconds; besides ``execution_timeout``.
        """
        from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationTrigger

        limits = [timeout, self.execution_timeout.total_seconds() if self.execution_timeout else None]
        seconds = min((limit for limit in limits if limit is not None), default=None)
        trigger = EarthEngineOperationTrigger(
            operation_names=[str(name) for name in names],
            poll_interval=poll_interval,
            max_eecu_seconds=self.max_eecu_seconds,
            stop_at_failure=self.stop_at_failure,
            cancel_on_kill=self.cancel_on_kill,
            timeout_at=None if seconds is None else time.time() + seconds,
            **hook_arguments(self),
        )
        bound = None if seconds is None else timedelta(seconds=seconds)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=bound)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the operations, or fail as they did."""
        return succeeded(result_of(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Cancel first where the trigger timed out: Airflow runs no code of the trigger's then."""
        if not self.operation_names:  # What this task has started itself was written down, but in another process.
            self.operation_names = operations_of_task(context)
        if timed_out(next_method, next_kwargs):
            self.on_timeout("the waiting in the triggerer")
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]

    def on_kill(self) -> None:
        """Cancel, because the task was cleared or marked, or its DAG run timed out."""
        if self.cancel_on_kill and self.operation_names:
            self.cancel_now(f"{self.task_id} was killed")

    def on_timeout(self, what: object) -> None:
        """Cancel, because the task has waited for too long."""
        if self.cancel_on_timeout:
            self.cancel_now(f"{self.task_id} timed out ({what})")


def succeeded(operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the operations if none has failed.

    :raises AirflowFailException: naming each that has, with Earth Engine's code and message.
    """
    failed = [operation for operation in operations if operation["error"]]
    if failed:
        details = "\n".join(
            f"  {o['name']}: {o['state']}, code {o['error']['code']}: {o['error']['message']}" for o in failed
        )
        raise AirflowFailException(f"{len(failed)} of the Earth Engine operations did not succeed:\n{details}")
    return operations
