"""Operators for Earth Engine's long-running operations."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_ee_provider.earth_engine.cancelling import CancelOutcome
from airflow_ee_provider.tasks import HOOK_PARAMETERS, OperationHolder, airflow_errors, airflow_exception, timed_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.cancelling import CancelResult


class EarthEngineCancelOperationOperator(OperationHolder, BaseOperator):
    """
    Cancel operations, and wait until Earth Engine says what became of them.

    A cancel is asynchronous and best effort: an operation counts as cancelled only once ``operations.get`` says so.
    What has already ended is no error, so that the task can be run again and again; no name at all skips it. One
    operation's error never stops the others, and the task's error names each that was not dealt with.

    Returns a list with, for each operation, its ``name``, ``outcome`` (``cancelled``, ``already finished``,
    ``finished despite the cancel``, ``not found`` or ``still cancelling``), ``state`` and ``error``.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/cancel

    :param operation_names: one name or several, ``projects/PROJECT/operations/ID`` or an id of the connection's
        project (templated; a list, or another task's output).
    :param earth_engine_conn_id: the connection (templated).
    :param project_id: the Cloud project of bare ids, in place of the connection's (templated).
    :param impersonation_chain: service accounts, the last of which calls Earth Engine (templated).
    :param wait_for_completion: wait for the confirmation; otherwise the outcome is ``still cancelling``.
    :param poll_interval: seconds between two looks at what is still cancelling.
    :param timeout: seconds to wait for the confirmation before the task fails, to be tried again.
    :param not_found_ok: do not fail for an operation that Earth Engine does not know.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says.
    :raises AirflowFailException: where trying again cannot help, for example without the permission
        ``earthengine.operations.update``, or where the server answers UNIMPLEMENTED.
    """

    template_fields: Sequence[str] = ("operation_names", *HOOK_PARAMETERS)
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        operation_names: Any,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool = True,
        poll_interval: float = 5.0,
        timeout: float = 600.0,
        not_found_ok: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
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
        self.not_found_ok = not_found_ok
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Request every cancel from the worker, at once; then wait here or in the triggerer."""
        names = self.adopt(context)
        wait_here = self.wait_for_completion and not self.deferrable
        results = self._cancel(names, wait_for_completion=wait_here, timeout=self.timeout)
        waiting = [str(r.name) for r in results if r.outcome is CancelOutcome.STILL_CANCELLING]
        outcomes = [result.as_dict() for result in results]
        if not waiting or wait_here or not self.wait_for_completion:
            return self._conclude(outcomes)
        from airflow_ee_provider.triggers.earth_engine import EarthEngineCancelOperationTrigger

        trigger = EarthEngineCancelOperationTrigger(
            operation_names=waiting, outcomes=outcomes, poll_interval=self.poll_interval, **self.hook_arguments
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))
        return None

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Conclude from what Earth Engine said in the end."""
        if "error" in event:
            raise airflow_exception(event["error"], permanent=event["permanent"])
        outcomes: list[dict[str, Any]] = event["result"]
        return self._conclude(outcomes)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Look once more when the waiting in the triggerer timed out: the error must name what still runs."""
        if timed_out(next_method, next_kwargs):
            results = self._cancel(self.operation_names, wait_for_completion=False, timeout=0.0)
            return self._conclude([result.as_dict() for result in results])
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Request the cancels that a kill of this task came before."""
        self.cancel_now(f"{self.task_id} was killed")

    def _cancel(self, names: Any, *, wait_for_completion: bool, timeout: float) -> list[CancelResult]:
        with airflow_errors():
            return self.hook.cancel_operations(
                names, wait_for_completion=wait_for_completion, poll_interval=self.poll_interval, timeout=timeout
            )

    def _conclude(self, outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the outcomes if all operations were dealt with.

        :raises AirflowException: naming each that was not.
        """
        undone = [outcome for outcome in outcomes if not self._dealt_with(CancelOutcome(outcome["outcome"]))]
        if undone:
            details = "\n".join(f"  {o['error'] or o['name']}: {o['outcome']}" for o in undone)
            raise airflow_exception(
                f"{len(undone)} of {len(outcomes)} Earth Engine operations could not be cancelled and confirmed:\n"
                f"{details}",
                permanent=all(outcome["permanent"] for outcome in undone),
            )
        return outcomes

    def _dealt_with(self, outcome: CancelOutcome) -> bool:
        if outcome is CancelOutcome.NOT_FOUND:
            return self.not_found_ok
        if outcome is CancelOutcome.STILL_CANCELLING:
            return not self.wait_for_completion
        return outcome.settled
