"""Operators that cancel operations."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_ee_provider.earth_engine.cancelling import CancelOutcome
from airflow_ee_provider.earth_engine.stale import StaleCriteria
from airflow_ee_provider.holders import OperationHolder
from airflow_ee_provider.records import operations_of_run, operations_of_task, record_operations
from airflow_ee_provider.tasks import (
    HOOK_PARAMETERS,
    airflow_errors,
    airflow_exception,
    hook_arguments,
    result_of,
    timed_out,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.stale import StaleOperation


class _CancellingOperator(OperationHolder, BaseOperator):
    """What the cancelling operators share: request every cancel at once, then wait here or in the triggerer."""

    def __init__(
        self,
        *,
        operation_names: Any = (),
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

    def cancel(self, names: Sequence[Any], about: Mapping[str, dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """Cancel, confirm, and return what became of each.

        :param about: what the outcome of a name is to say besides.
        """
        outcomes = self._outcomes(names, wait_here=self.wait_for_completion and not self.deferrable)
        outcomes = [(about or {}).get(outcome["name"], {}) | outcome for outcome in outcomes]
        waiting = [o["name"] for o in outcomes if o["outcome"] == CancelOutcome.STILL_CANCELLING.value]
        if waiting and self.wait_for_completion and self.deferrable:
            from airflow_ee_provider.triggers.earth_engine import EarthEngineCancelOperationTrigger

            trigger = EarthEngineCancelOperationTrigger(
                operation_names=waiting, outcomes=outcomes, poll_interval=self.poll_interval, **hook_arguments(self)
            )
            self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))
        return self.conclude(outcomes)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Conclude from what Earth Engine said in the end."""
        return self.conclude(result_of(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Look once more when the waiting in the triggerer timed out: the error must name what still runs."""
        if timed_out(next_method, next_kwargs):
            return self.conclude(self._outcomes(operations_of_task(context), wait_here=False))
        return super().resume_execution(next_method, next_kwargs, context)

    def conclude(self, outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
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

    def _outcomes(self, names: Sequence[Any], *, wait_here: bool) -> list[dict[str, Any]]:
        with airflow_errors():
            results = self.hook.cancel_operations(
                names, wait_for_completion=wait_here, poll_interval=self.poll_interval, timeout=self.timeout
            )
        return [result.as_dict() for result in results]

    def _dealt_with(self, outcome: CancelOutcome) -> bool:
        if outcome is CancelOutcome.NOT_FOUND:
            return self.not_found_ok
        if outcome is CancelOutcome.STILL_CANCELLING:
            return not self.wait_for_completion
        return outcome.settled


class EarthEngineCancelOperationOperator(_CancellingOperator):
    """
    Cancel operations, and wait until Earth Engine says what became of them.

    A cancel is asynchronous and best effort: an operation counts as cancelled only once ``operations.get`` says so.
    What has already ended is no error, so that the task can be run again and again; no name at all skips it. One
    operation's error never stops the others, and the task's error names each that was not dealt with.

    As a teardown at the end of a DAG, without names, it leaves nothing running behind the run:
    ``work >> EarthEngineCancelOperationOperator(task_id="clean_up").as_teardown()``. Airflow runs it even where it
    calls no callback, as when somebody marks the run failed.

    Returns a list with, for each operation, its ``name``, ``outcome`` (``cancelled``, ``already finished``,
    ``finished despite the cancel``, ``not found`` or ``still cancelling``), ``state`` and ``error``.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/cancel

    :param operation_names: one name or several, ``projects/PROJECT/operations/ID`` or an id of the connection's
        project (templated; a list, or another task's output). By default what all tasks of the run have recorded.
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

    def __init__(self, *, operation_names: Any = None, **kwargs: Any) -> None:
        super().__init__(operation_names=operation_names, **kwargs)
        self._of_run = operation_names is None  # Not where another task's output turns out to be None.

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Cancel what has a name."""
        if self._of_run:
            self.operation_names = operations_of_run(context)
        return self.cancel(self.adopt(context))

    def on_kill(self) -> None:
        """Request the cancels that a kill of this task came before."""
        self.cancel_now(f"{self.task_id} was killed")


class EarthEngineCancelStaleOperationsOperator(_CancellingOperator):
    """
    Cancel a project's stale operations: the janitor, to be run on a schedule.

    A list shows the operations of every user of the project, and names no owner. So an operation has to meet every
    criterion that is given, and without any criterion the task refuses to run. Each cancel is confirmed, as with
    `EarthEngineCancelOperationOperator`; the log has a table of what was done and why.

    Returns a list with, for each stale operation, its ``name``, ``description``, ``why``, ``outcome`` and ``state``.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/list

    :param older_than: created (or started, see ``age_since``) longer ago than this timedelta, by Earth Engine's clock.
    :param age_since: ``create_time`` (default) or ``start_time``.
    :param description: a glob that the whole description matches, such as ``ndvi-*`` (templated).
    :param description_regex: a regular expression that is found in the description (templated).
    :param types: such as ``EXPORT_IMAGE``; one or several.
    :param max_priority: of this priority or a lower one.
    :param max_eecu_seconds: has used more EECU-seconds than that.
    :param states: the states to look at; PENDING and RUNNING by default. Not a criterion by itself.
    :param keep: names of operations that are never cancelled (templated).
    :param limit: how many are cancelled in one go, the oldest first; None for all.
    :param dry_run: only say what would be cancelled.
    :param kwargs: ``earth_engine_conn_id``, ``project_id``, ``impersonation_chain``, ``wait_for_completion``,
        ``poll_interval``, ``timeout`` and ``deferrable``, as with `EarthEngineCancelOperationOperator`.
    :raises AirflowFailException: without a criterion, or where trying again cannot help.
    """

    template_fields: Sequence[str] = ("description", "description_regex", "keep", *HOOK_PARAMETERS)
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        older_than: timedelta | None = None,
        age_since: str = "create_time",
        description: str = "",
        description_regex: str = "",
        types: str | Sequence[str] = (),
        max_priority: int | None = None,
        max_eecu_seconds: float | None = None,
        states: str | Sequence[str] = ("PENDING", "RUNNING"),
        keep: Any = (),
        limit: int | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"not_found_ok": True, **kwargs})
        self.older_than = older_than
        self.age_since = age_since
        self.description = description
        self.description_regex = description_regex
        self.types = types
        self.max_priority = max_priority
        self.max_eecu_seconds = max_eecu_seconds
        self.states = states
        self.keep = keep
        self.limit = limit
        self.only_say = dry_run  # `dry_run` is a method of Airflow's operators.

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List, choose, cancel."""
        with airflow_errors():
            stale = self.hook.list_stale_operations(self._criteria(), self.limit)
        about = {str(one.operation.name): _about(one) for one in stale}
        names = list(about)
        if self.only_say or not stale:
            outcomes = [{**said, "outcome": "would be cancelled"} for said in about.values()]
            self._log_table(outcomes)
            return outcomes
        record_operations(context, names)
        return self.cancel(names, about)

    def conclude(self, outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Log the table, whether or not all were dealt with."""
        self._log_table(outcomes)
        return super().conclude(outcomes)

    def _criteria(self) -> StaleCriteria:
        return StaleCriteria(
            older_than=self.older_than,
            age_since=self.age_since,
            description=self.description,
            description_regex=self.description_regex,
            types=_texts(self.types),
            max_priority=self.max_priority,
            max_eecu_seconds=self.max_eecu_seconds,
            states=_texts(self.states),
            keep=frozenset(self.hook.account.names(self.keep)),
        )

    def _log_table(self, outcomes: Iterable[Mapping[str, Any]]) -> None:
        from tabulate import tabulate

        columns = ("outcome", "name", "description", "why")
        rows = [[outcome.get(column, "") for column in columns] for outcome in outcomes]
        if rows:
            self.log.info("\n%s", tabulate(rows, headers=columns))


def _about(stale: StaleOperation) -> dict[str, Any]:
    operation = stale.operation
    return {
        "name": str(operation.name),
        "description": operation.description,
        "why": stale.why,
        "state": operation.state.value,
    }


def _texts(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
