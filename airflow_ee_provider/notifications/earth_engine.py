"""Notifiers: cancelling operations from callbacks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_ee_provider.records import is_run_context, operations_of_run, operations_of_task
from airflow_ee_provider.tasks import HOOK_PARAMETERS, clean_up, hook_arguments, report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context


class EarthEngineCancelOperationsNotifier(BaseNotifier):
    """
    Cancel operations from a callback of a task or a DAG, such as ``on_failure_callback``.

    Without names, it cancels what the task has recorded under the XCom key ``earth_engine_operations``, or, as a
    DAG's callback, what all tasks of the run have recorded. It cancels everything that it can, logs what became of
    each, and raises nothing: the error that it was called for stays the one that users see.

    :param operation_names: one name or several (templated); by default those of the task or of the run.
    :param earth_engine_conn_id: the connection (templated).
    :param project_id: the Cloud project of bare ids, in place of the connection's (templated).
    :param impersonation_chain: service accounts, the last of which calls Earth Engine (templated).
    :param wait_for_completion: wait until Earth Engine confirms the cancels.
    :param poll_interval: seconds between two looks at what is still cancelling.
    :param timeout: seconds to wait for the confirmation; a DAG's callbacks run in the dag-processor, which stops
        them after ``[dag_processor] dag_file_processor_timeout`` (50 s by default).
    """

    template_fields: Sequence[str] = ("operation_names", *HOOK_PARAMETERS)

    def __init__(
        self,
        *,
        operation_names: Any = None,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool = True,
        poll_interval: float = 2.0,
        timeout: float = 30.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.operation_names = operation_names
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval
        self.timeout = timeout

    def __call__(self, *args: Any) -> None:
        """Notify with a copy: rendering changes the templated fields, and Airflow may call one notifier again."""
        super(EarthEngineCancelOperationsNotifier, copy.copy(self)).__call__(*args)

    def notify(self, context: Context) -> None:
        """Cancel, synchronously: in a worker or in the dag-processor."""
        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        with clean_up(self.log):
            if names := self._names(context):
                report(EarthEngineHook(**hook_arguments(self)).cancel_operations(names, **self._how), self.log)

    async def async_notify(self, context: Context) -> None:
        """Cancel, asynchronously: in the triggerer."""
        from asgiref.sync import sync_to_async

        from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook

        with clean_up(self.log):
            if names := await sync_to_async(self._names)(context):
                hook = EarthEngineAsyncHook(**hook_arguments(self))
                report(await hook.cancel_operations(names, **self._how), self.log)

    @property
    def _how(self) -> dict[str, Any]:
        return {
            "wait_for_completion": self.wait_for_completion,
            "poll_interval": self.poll_interval,
            "timeout": self.timeout,
        }

    def _names(self, context: Context) -> Any:
        whose = "run" if is_run_context(context) else "task"
        names = self.operation_names
        if names is None:
            names = operations_of_run(context) if whose == "run" else operations_of_task(context)
        if names:
            self.log.warning("Cancelling the Earth Engine operations of the %s: %s.", whose, names)
        else:
            self.log.info("The %s holds no Earth Engine operation: there is nothing to cancel.", whose)
        return names
