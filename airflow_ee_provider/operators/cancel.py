"""The operator that cancels operations, and what it shares with the janitor."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator, conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.base.airflow_versions import trigger_timed_out
from airflow_ee_provider.base.connection import connection_kwargs
from airflow_ee_provider.base.errors import airflow_exception, log_errors, result_or_raise
from airflow_ee_provider.base.measuring import measure_cancels, measured_at_its_end
from airflow_ee_provider.base.signatures import passed_on
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.log_text import abbreviated, truncated_lines
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome, CancelResult
from airflow_ee_provider.lifecycle.cancelling import cancel_before_the_end, report_cancels
from airflow_ee_provider.lifecycle.task import EarthEngineTask, record_names
from airflow_ee_provider.links.earth_engine import EarthEngineTasksLink
from airflow_ee_provider.tracking.record import Ownership
from airflow_ee_provider.tracking.run import authorized_records, by_account, records_of_run, records_of_upstream
from airflow_ee_provider.tracking.store import record_operations, records_of_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import CancelDict
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
    from airflow_ee_provider.tracking.record import Record

#: Operations, and the `CONNECTION_FIELDS` of whoever is to cancel them.
Group = tuple["dict[str, Any]", "list[str]"]


class CancellingOperator(EarthEngineTask, BaseOperator):
    """What the cancelling operators share: request every cancel at once, then wait here or in the triggerer."""

    #: Of its cancels, for the metrics.
    cause = "operator"

    checked_parameters: tuple[parameters.Parameter, ...] = (
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
        """Check what was rendered, before anything is sent."""
        super().pre_execute(context)
        parameters.check_rendered(self, self.checked_parameters)

    def cancel(self, groups: Sequence[Group]) -> list[CancelDict]:
        """Cancel, confirm, and return what became of each."""
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
        """Conclude from what Earth Engine said in the end."""
        return self.raise_unless_cancelled(result_or_raise(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Look once more when the waiting in the triggerer timed out: the error must name what still runs."""
        if trigger_timed_out(next_method, next_kwargs):
            groups = by_account(records_of_task(context), connection_kwargs(self))
            return self.raise_unless_cancelled(self._outcomes(groups, wait_here=False))
        return super().resume_execution(next_method, next_kwargs, context)

    @measured_at_its_end
    def on_kill(self) -> None:
        """Request the cancels that a kill of this task came before."""
        if names := [name for _, names in self._groups for name in names]:
            self.log.warning("%s was killed; cancelling %s.", self.task_id, abbreviated(names))
            for account, names in self._groups:
                with log_errors(self.log):
                    hook = self._hook(account)
                    hook.may_reload_connection = False
                    results = cancel_before_the_end(hook, names, self.log)
                    report_cancels(results, self.log, cause="kill", dag_id=self.dag_id)

    def raise_unless_cancelled(self, outcomes: list[CancelDict]) -> list[CancelDict]:
        """Return the outcomes if all operations were dealt with.

        :raises AirflowException: naming each that was not.
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
        """Cancel each group in its own name; who cannot be asked in one name may be in another."""
        outcomes: list[CancelDict] = []
        for account, names in groups:
            try:
                results = self._hook(account).cancel_operations(
                    names, wait_for_completion=wait_here, poll_interval=self.poll_interval, timeout=self.cancel_timeout
                )
            except EarthEngineError as error:
                if len(groups) == 1:
                    raise airflow_exception(str(error), permanent=error.permanent) from error
                outcomes += [_not_asked(name, account, error) for name in names]
            else:
                outcomes += [result.as_dict() for result in results]
        return outcomes

    def _hook(self, account: Mapping[str, Any]) -> EarthEngineHook:
        """Return the account's hook, the same one each time: a kill must not read a connection."""
        if dict(account) == connection_kwargs(self):
            return self.hook
        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        return self._hooks.setdefault(repr(sorted(account.items())), EarthEngineHook(**account))

    def _is_dealt_with(self, outcome: CancelOutcome) -> bool:
        if outcome is CancelOutcome.STILL_CANCELLING:
            return not self.wait_for_completion
        return outcome.is_fine(not_found_ok=self.not_found_ok)


def _not_asked(name: str, account: Mapping[str, Any], error: EarthEngineError) -> CancelDict:
    """Stand for an operation whose account cannot be asked in."""
    said = f"{name}, of the connection {account['earth_engine_conn_id']!r}: {error}"
    result = CancelResult(OperationName.parse(name), CancelOutcome.ERROR, error=error).as_dict()
    return {**result, "error": {"code": error.code, "message": said}}


def _line_of(outcome: CancelDict) -> str:
    error = outcome["error"]
    return f"{error['message'] if error else outcome['name']}: {CancelOutcome(outcome['outcome']).text}"


class EarthEngineCancelOperationsOperator(CancellingOperator):
    """
    Cancel operations, and wait until Earth Engine says what became of them.

    A cancel is asynchronous and best effort: an operation counts as cancelled only once ``operations.get`` says so.
    What has already ended is no error, so that the task can be run again and again; no name at all skips it. One
    operation's error never stops the others, and the task's error names each that was not dealt with.

    Without names, ``scope`` says whose recorded operations it cancels, each in the name of the connection that started
    it. ``upstream``: those of the tasks that lead to it in this run, directly or not; as a teardown with setups, of
    those between the setups and itself; in a mapped task group, of those of its own map index in the group; and of a
    task that the DAG's file no longer has, if that is not active any more. ``run``: those of every task of the run,
    also of tasks that still work.

    As a teardown at the end of a DAG it leaves nothing running behind the run:
    ``work >> EarthEngineCancelOperationsOperator(task_id="clean_up").as_teardown()``. Airflow runs it even where it
    calls no callback, as when somebody marks the run failed.

    Returns a list with what became of each operation, a `CancelDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/cancel

    :param operation_names: one name or several, ``projects/PROJECT/operations/ID`` or an id of the connection's
        project (templated; a list, or another task's output; nothing at all skips the task). Without it, see ``scope``.
    :param scope: whose operations to cancel, where no names are given: ``upstream`` or ``run``.
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
    :raises AirflowFailException: where trying again cannot help, for example without the permission
        ``earthengine.operations.update``, or where the server answers UNIMPLEMENTED.
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
        """Cancel what has a name."""
        if self._are_given:
            return self.cancel(
                [(connection_kwargs(self), [str(name) for name in record_names(self, context, Ownership.CANCELLER)])]
            )
        unreadable: list[Exception] = []
        found = records_of_run(context) if self.scope == "run" else records_of_upstream(context, self)
        found = authorized_records(found, context, connection_kwargs(self))
        groups = by_account(_readable(found, unreadable), connection_kwargs(self))
        for error in unreadable:
            self.log.error("%s Its operations may still run.", error)
        if not groups and not unreadable:
            raise AirflowSkipException(f"{self.task_id}: the tasks of its {self.scope} hold no Earth Engine operation.")
        for account, names in groups:
            record_operations(context, names, **account, ownership=Ownership.CANCELLER)
            EarthEngineTasksLink.persist_for(context, OperationName.parse_all(names))
        outcomes = self.cancel(groups)
        if unreadable:
            raise airflow_exception("; ".join(str(error) for error in unreadable), permanent=False)
        return outcomes


def _readable(found: Iterable[Record | Exception], unreadable: list[Exception]) -> Iterator[Record]:
    """Yield what could be read, and keep what could not."""
    for record in found:
        if isinstance(record, Exception):
            unreadable.append(record)
        else:
            yield record
