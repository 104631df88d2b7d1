"""The janitor: the operator that cancels a project's stale operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.flows.stale import StaleCriteria
from airflow_ee_provider.links.earth_engine import EarthEngineTasksLink
from airflow_ee_provider.operators.cancel import CancellingOperator
from airflow_ee_provider.tasks import parameters
from airflow_ee_provider.tasks.clean_up import account_of, airflow_errors
from airflow_ee_provider.tasks.record_format import ACCOUNT_PARAMETERS
from airflow_ee_provider.tasks.records import record_operations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.flows.stale import StaleOperation

#: The XCom's key for why the janitor has found each operation stale.
ABOUT_KEY = "earth_engine_stale"


class EarthEngineCancelStaleOperationsOperator(CancellingOperator):
    """
    Cancel a project's stale operations: the janitor, to be run on a schedule.

    A list shows the operations of every user of the project, and names no owner. So an operation has to meet every
    criterion that is given, and without any criterion the task refuses to run. Each cancel is confirmed, as with
    `EarthEngineCancelOperationOperator`; the log has a table of what was done and why.

    Returns a list with, for each stale operation, its ``name``, ``description``, ``why``, ``outcome`` and ``state``.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/list

    :param older_than: created (or started, see ``age_since``) longer ago than this, by Earth Engine's clock; a
        timedelta, or seconds (templated).
    :param age_since: ``create_time`` (default) or ``start_time``.
    :param description: a glob that the whole description matches, such as ``ndvi-*`` (templated).
    :param description_regex: a regular expression that is found in the description (templated).
    :param types: such as ``EXPORT_IMAGE``; one or several (templated).
    :param max_priority: of this priority or a lower one (templated).
    :param max_eecu_seconds: has used more EECU-seconds than that (templated).
    :param states: the states to look at; PENDING and RUNNING by default (templated). Not a criterion by itself.
    :param keep: names of operations that are never cancelled (templated).
    :param limit: how many are cancelled in one go, the oldest first; None for all (templated).
    :param dry_run: only say what would be cancelled.
    :param kwargs: ``earth_engine_conn_id``, ``project_id``, ``impersonation_chain``, ``wait_for_completion``,
        ``poll_interval``, ``timeout`` and ``deferrable``, as with `EarthEngineCancelOperationOperator`.
    :raises AirflowFailException: without a criterion, or where trying again cannot help.
    """

    template_fields: Sequence[str] = (
        "older_than",
        "description",
        "description_regex",
        "types",
        "max_priority",
        "max_eecu_seconds",
        "states",
        "keep",
        "limit",
        "poll_interval",
        "timeout",
        *ACCOUNT_PARAMETERS,
    )
    checked_parameters = (
        *CancellingOperator.checked_parameters,
        parameters.Age("older_than", is_optional=True),
        parameters.Whole("max_priority", is_optional=True),
        parameters.Number("max_eecu_seconds", is_optional=True),
        parameters.Whole("limit", is_optional=True),
    )
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        older_than: timedelta | float | str | None = None,
        age_since: str = "create_time",
        description: str = "",
        description_regex: str = "",
        types: str | Sequence[str] = (),
        max_priority: int | str | None = None,
        max_eecu_seconds: float | str | None = None,
        states: str | Sequence[str] = ("PENDING", "RUNNING"),
        keep: Any = (),
        limit: int | str | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"not_found_ok": True, **kwargs})
        self.older_than: Any = older_than
        self.age_since = age_since
        self.description = description
        self.description_regex = description_regex
        self.types = types
        self.max_priority: Any = max_priority
        self.max_eecu_seconds: Any = max_eecu_seconds
        self.states = states
        self.keep = keep
        self.limit: Any = limit
        self._about: dict[str, dict[str, Any]] = {}
        self.is_dry_run = dry_run  # `dry_run` is a method of Airflow's operators.
        parameters.check(self, self.checked_parameters)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List, choose, cancel."""
        with airflow_errors():
            stale = self.hook.list_stale_operations(self._criteria(), self.limit)
        about = {str(one.operation.name): _about(one) for one in stale}
        EarthEngineTasksLink.persist_for(context, [one.operation.name for one in stale])
        names = list(about)
        if self.is_dry_run or not stale:
            outcomes = [{**said, "outcome": "would be cancelled"} for said in about.values()]
            self._log_table(outcomes)
            return outcomes
        record_operations(context, names, **account_of(self))
        context["ti"].xcom_push(key=ABOUT_KEY, value=about)
        return self.cancel([(account_of(self), names)], about)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Know again why each operation was stale, which was said in another process."""
        ti = context["ti"]
        self._about = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, key=ABOUT_KEY) or {}
        return super().resume_execution(next_method, next_kwargs, context)

    def raise_unless_cancelled(self, outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Log the table, whether or not all were cancelled."""
        outcomes = [{**self._about.get(outcome["name"], {}), **outcome} for outcome in outcomes]
        self._log_table(outcomes)
        return super().raise_unless_cancelled(outcomes)

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
