"""The operator that cancels operations, and the code that it shares with the stale-operations operator."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator, conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.base.airflow_versions import trigger_timed_out
from airflow_ee_provider.base.errors import airflow_exception, log_errors, result_or_raise
from airflow_ee_provider.base.parameters import connection_kwargs
from airflow_ee_provider.base.process import measured_at_its_end
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, TransientError
from airflow_ee_provider.earth_engine.model.log_text import abbreviated, truncated_lines
from airflow_ee_provider.earth_engine.model.metrics import measure_cancels
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome, CancelResult
from airflow_ee_provider.lifecycle.cancelling import cancel_before_the_end, report_cancels
from airflow_ee_provider.lifecycle.owning_task import hook_of, record_names
from airflow_ee_provider.links.earth_engine import LINKS, persist_links
from airflow_ee_provider.operators.parameters import passed_on
from airflow_ee_provider.tracking.record import Ownership
from airflow_ee_provider.tracking.run import by_account, groups_to_cancel, records_of_run, records_of_upstream
from airflow_ee_provider.tracking.store import record_operations, records_of_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import CancelDict
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

#: The `CONNECTION_FIELDS` of an account, and the operations that it cancels.
Group = tuple["dict[str, Any]", "list[str]"]


class CancellingOperator(BaseOperator):
    """Base of the cancelling operators: request all cancels at once, then wait in the worker or in the triggerer."""

    #: The cause of its cancels, for the metrics.
    cause = "operator"

    operator_extra_links = LINKS

    hook = cached_property(hook_of)

    checked_parameters: tuple[parameters.Parameter, ...] = (
        *parameters.CONNECTION,
        parameters.Flag("deferrable"),
        parameters.PollInterval("poll_interval"),
        parameters.Seconds("cancel_timeout"),
        parameters.Flag("wait_for_completion"),
        parameters.Flag("not_found_ok"),
    )

    def __init__(
        self,
        *,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool | str = True,
        poll_interval: float | timedelta | str = 5.0,
        cancel_timeout: float | timedelta | str = 600.0,
        not_found_ok: bool | str = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.wait_for_completion: Any = wait_for_completion
        self.poll_interval: Any = poll_interval
        self.cancel_timeout: Any = cancel_timeout
        self.not_found_ok: Any = not_found_ok
        self.deferrable = deferrable
        self._groups: list[Group] = []
        self._hooks: dict[str, EarthEngineHook] = {}

    def pre_execute(self, context: Context) -> None:
        """Check the rendered parameters before any request."""
        super().pre_execute(context)
        parameters.check_rendered(self, self.checked_parameters)

    def cancel(self, groups: Sequence[Group]) -> list[CancelDict]:
        """Cancel, confirm, and return the outcome of each cancel."""
        self._groups = list(groups)
        outcomes = self._outcomes(groups, wait_here=self.wait_for_completion and not self.deferrable)
        waiting = {o["name"] for o in outcomes if o["outcome"] == CancelOutcome.STILL_CANCELLING.value}
        if waiting and self.wait_for_completion and self.deferrable:
            self._wait_in_triggerer(outcomes, waiting)
        return self.raise_unless_cancelled(outcomes)

    def _wait_in_triggerer(self, outcomes: list[CancelDict], waiting: set[str]) -> None:
        from airflow_ee_provider.triggers.earth_engine import EarthEngineCancelOperationsTrigger

        groups = [(account, [name for name in names if name in waiting]) for account, names in self._groups]
        (account, names), *others = [group for group in groups if group[1]]
        trigger = EarthEngineCancelOperationsTrigger(
            operation_names=names,
            outcomes=[{**outcome} for outcome in outcomes],
            others=[{**account, "operation_names": names} for account, names in others],
            poll_interval=self.poll_interval,
            **account,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.cancel_timeout))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[CancelDict]:
        """Return the outcomes that the trigger found, or raise."""
        return self.raise_unless_cancelled(result_or_raise(event) or [])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Read the operations once more after the trigger timed out: the error must name those that still run."""
        if trigger_timed_out(next_method, next_kwargs):
            groups = by_account(records_of_task(context), connection_kwargs(self))
            return self.raise_unless_cancelled(self._outcomes(groups, wait_here=False))
        return super().resume_execution(next_method, next_kwargs, context)

    @measured_at_its_end
    def on_kill(self) -> None:
        """Request the cancels that were not yet requested when the task was killed."""
        if names := [name for _, names in self._groups for name in names]:
            self.log.warning("%s was killed; cancelling %s.", self.task_id, abbreviated(names))
            for account, names in self._groups:
                with log_errors(self.log):
                    hook = self._hook(account)
                    hook.may_reload_connection = False
                    results = cancel_before_the_end(hook, names, self.log)
                    report_cancels(results, self.log, cause="kill", dag_id=self.dag_id)

    def raise_unless_cancelled(self, outcomes: list[CancelDict]) -> list[CancelDict]:
        """Return the outcomes if each operation is cancelled or needs no cancel.

        :raises AirflowException: If one may still run; the message names each.
        """
        measure_cancels([outcome["outcome"] for outcome in outcomes], self.cause, self.dag_id)
        undone = [outcome for outcome in outcomes if not self._is_dealt_with(CancelOutcome(outcome["outcome"]))]
        if undone:
            details = "\n".join(truncated_lines([f"  {_line_of(outcome)}" for outcome in undone]))
            raise airflow_exception(
                f"{len(undone)} of {len(outcomes)} Earth Engine operations could not be cancelled and confirmed:\n"
                f"{details}",
                permanent=all(outcome["permanent"] for outcome in undone),
            )
        return outcomes

    def _outcomes(self, groups: Sequence[Group], *, wait_here: bool) -> list[CancelDict]:
        """Cancel each group with its own account; an error of one account does not stop the others."""
        outcomes: list[CancelDict] = []
        for account, names in groups:
            try:
                results = self._hook(account).cancel_operations(
                    names, wait_for_completion=wait_here, poll_interval=self.poll_interval, timeout=self.cancel_timeout
                )
                outcomes += [result.as_dict() for result in results]
            except Exception as raised:  # A secrets backend may raise any exception.
                error = raised if isinstance(raised, EarthEngineError) else TransientError(str(raised))
                if len(groups) == 1:
                    raise airflow_exception(str(error), permanent=error.permanent) from raised
                outcomes += [_not_asked(name, account, error) for name in names]
        return outcomes

    def _hook(self, account: Mapping[str, Any]) -> EarthEngineHook:
        """Return the account's hook, the same object each time: a kill must not read a connection."""
        if dict(account) == connection_kwargs(self):
            return self.hook
        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        return self._hooks.setdefault(repr(sorted(account.items())), EarthEngineHook(**account))

    def _is_dealt_with(self, outcome: CancelOutcome) -> bool:
        if outcome is CancelOutcome.STILL_CANCELLING:
            return not self.wait_for_completion
        return outcome.is_fine(not_found_ok=self.not_found_ok)


def _not_asked(name: str, account: Mapping[str, Any], error: EarthEngineError) -> CancelDict:
    """Return the outcome for an operation whose account failed."""
    said = f"{name}, of the connection {account['earth_engine_conn_id']!r}: {error}"
    result = CancelResult(OperationName.parse(name), CancelOutcome.ERROR, error=error).as_dict()
    return {**result, "error": {"code": error.code, "message": said}}


def _line_of(outcome: CancelDict) -> str:
    error = outcome["error"]
    return f"{error['message'] if error else outcome['name']}: {CancelOutcome(outcome['outcome']).text}"


class EarthEngineCancelOperationsOperator(CancellingOperator):
    """
    Cancel operations, and wait until Earth Engine confirms each cancel.

    A cancel is asynchronous: Earth Engine accepts the request, and the operation may still finish. The operator reports
    an operation as cancelled only after Earth Engine confirms it. Operations that have already ended are no error, so
    you can run the task again. If one cancel fails, the others continue; the task's error names each operation that may
    still run. If there is no operation, the task is skipped.

    Without ``operation_names``, the operator cancels operations that tasks of this run have recorded, each with the
    connection that started it. ``scope="upstream"``: the tasks upstream of this one; for a teardown with setups, the
    tasks between them; in a mapped task group, those of the same map index; and a task that the DAG's file no longer
    has, if it is not active. ``scope="run"``: all tasks of the run, including tasks that still run.

    Use it as a teardown to cancel when a person marks the run failed, because Airflow calls no callback then:
    ``work >> EarthEngineCancelOperationsOperator(task_id="clean_up").as_teardown()``. Airflow skips teardowns at
    ``dagrun_timeout``.

    The task returns a list with the outcome of each cancel, a `CancelDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/cancel

    :param operation_names: One name or a list of names, ``projects/PROJECT/operations/ID`` or an id of the connection's
        project; or another task's output. If a template renders it to an empty value, the task is skipped (templated).
    :param scope: The tasks whose recorded operations are cancelled if you do not set ``operation_names``: ``upstream``
        or ``run``.
    :param earth_engine_conn_id: The connection to Earth Engine; None for Application Default Credentials (templated).
    :param project_id: The Cloud project of bare ids. By default the connection's project (templated).
    :param impersonation_chain: One service account to impersonate, or a chain of them; the last one calls Earth Engine
        (templated).
    :param wait_for_completion: Wait until Earth Engine confirms the cancels. If False, the outcome is STILL_CANCELLING
        (templated).
    :param poll_interval: Maximum time between two polls of what is still cancelling, in seconds or as a timedelta; at
        least 1 second (templated).
    :param cancel_timeout: Maximum time to wait for the confirmation, in seconds or as a timedelta. After it the task
        fails, and Airflow may retry it (templated).
    :param not_found_ok: Do not fail for an operation that Earth Engine does not know (templated).
    :param deferrable: Wait in the triggerer. By default the value of ``[operators] default_deferrable``.
    :raises AirflowFailException: If a retry cannot succeed, for example without the permission
        ``earthengine.operations.update``, or if the server answers UNIMPLEMENTED.
    """

    template_fields: Sequence[str] = (
        "operation_names",
        "earth_engine_conn_id",
        "project_id",
        "impersonation_chain",
        "wait_for_completion",
        "poll_interval",
        "cancel_timeout",
        "not_found_ok",
    )
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        operation_names: Any = parameters.NotGiven,
        scope: str | None = None,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool | str = True,
        poll_interval: float | timedelta | str = 5.0,
        cancel_timeout: float | timedelta | str = 600.0,
        not_found_ok: bool | str = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals(), CancellingOperator.__init__))
        self._are_given = operation_names is not parameters.NotGiven
        self.scope = parameters.scope(scope, ("upstream", "run"), are_names_given=self._are_given) or "upstream"
        self.operation_names = operation_names if self._are_given else ()
        parameters.check(self, self.checked_parameters)

    def execute(self, context: Context) -> list[CancelDict]:
        """Cancel the operations."""
        if self._are_given:
            return self.cancel(
                [(connection_kwargs(self), [str(name) for name in record_names(self, context, Ownership.CANCELLER)])]
            )
        recorded = records_of_run(context) if self.scope == "run" else records_of_upstream(context, self)
        groups, unreadable = groups_to_cancel(recorded, context, connection_kwargs(self), self.log)
        if not groups and not unreadable:
            raise AirflowSkipException(
                f"{self.task_id}: no task of its {self.scope} has recorded an Earth Engine operation."
            )
        for account, names in groups:
            record_operations(context, names, **account, ownership=Ownership.CANCELLER)
            persist_links(context, OperationName.parse_all(names))
        outcomes = self.cancel(groups)
        if unreadable:
            raise airflow_exception("; ".join(str(error) for error in unreadable), permanent=False)
        return outcomes
