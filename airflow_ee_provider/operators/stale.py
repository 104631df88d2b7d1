"""The operator that cancels a project's stale operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.base.errors import airflow_errors
from airflow_ee_provider.base.parameters import connection_kwargs
from airflow_ee_provider.earth_engine.model.log_text import count_by, truncated_lines
from airflow_ee_provider.earth_engine.model.metrics import measure
from airflow_ee_provider.earth_engine.model.operations import escaped_for_log
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome, CancelResult
from airflow_ee_provider.earth_engine.protocol.stale import AGE_FIELDS, StaleCriteria
from airflow_ee_provider.lifecycle.owning_task import names_of
from airflow_ee_provider.links.earth_engine import persist_links
from airflow_ee_provider.operators.cancel import CancellingOperator
from airflow_ee_provider.operators.parameters import passed_on
from airflow_ee_provider.tracking.api_client import find_orphans
from airflow_ee_provider.tracking.record import Ownership
from airflow_ee_provider.tracking.store import record_operations

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.model.results import CancelDict
    from airflow_ee_provider.earth_engine.protocol.stale import StaleOperation

#: Parameters that select fewer operations; they must not be empty if they are given.
_NEVER_EMPTY = (
    "older_than",
    "description",
    "description_regex",
    "types",
    "max_priority",
    "min_eecu_seconds",
    "states",
    "keep",
    "limit",
)

#: The XCom's key for the reason why each operation is stale.
REASONS_KEY = "_earth_engine_stale_reasons"


class EarthEngineCancelStaleOperationsOperator(CancellingOperator):
    """
    Cancel a project's stale operations, on a schedule.

    Earth Engine lists the operations of all users of the project, without owners. So an operation must match all
    criteria that you set. The task fails and cancels nothing if a template renders a criterion to an empty value, or if
    the criteria select every operation of the project and ``select_all`` is not set. The operator confirms each cancel,
    as `EarthEngineCancelOperationsOperator` does. The task's log has a table of the outcomes and reasons.

    The task returns a list with the outcome of each cancel, a `CancelDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/list

    :param older_than: Select operations that are older than this, by Earth Engine's clock; a timedelta, or seconds. See
        ``age_since`` (templated).
    :param age_since: The time from which ages are counted: ``create_time`` or ``start_time`` (templated).
    :param description: Select operations whose whole description matches this glob (templated).
    :param description_regex: Select operations in whose description this regular expression is found (templated).
    :param types: Select operations of this type, or of these types (templated).
    :param max_priority: Select operations of this priority or a lower one (templated).
    :param min_eecu_seconds: Select operations that have used this many EECU-seconds or more (templated).
    :param states: The states to select. It is no criterion: another one must be set as well (templated).
    :param keep: Names of operations that are never cancelled (templated).
    :param limit: Maximum number of operations that one run of the task cancels, the oldest first. None for all
        (templated).
    :param orphaned: Select operations that a task has recorded as its own and no active task needs. The operator reads
        the records of all DAGs: on Airflow 2 from Airflow's database, on Airflow 3 through ``airflow_conn_id``
        (templated).
    :param airflow_conn_id: A connection of the type HTTP to Airflow's API server, for ``orphaned`` on Airflow 3. Its
        host is the server's address; its login and password are a user's, or its password is a token. The user must be
        allowed to read the DAG runs and XComs of all DAGs (templated).
    :param select_all: Allow criteria that select every operation of the project.
    :param dry_run: Cancel nothing, and report the operations as WOULD_BE_CANCELLED.
    :param earth_engine_conn_id: The connection to Earth Engine; None for Application Default Credentials (templated).
    :param project_id: The Cloud project whose operations are listed. By default the connection's project (templated).
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
    :raises AirflowFailException: If criteria are empty or select every operation, or if a retry cannot succeed.
    """

    template_fields: Sequence[str] = (
        "older_than",
        "age_since",
        "description",
        "description_regex",
        "types",
        "max_priority",
        "min_eecu_seconds",
        "states",
        "keep",
        "limit",
        "orphaned",
        "airflow_conn_id",
        "earth_engine_conn_id",
        "project_id",
        "impersonation_chain",
        "wait_for_completion",
        "poll_interval",
        "cancel_timeout",
        "not_found_ok",
    )
    checked_parameters = (
        *CancellingOperator.checked_parameters,
        parameters.Age("older_than", is_optional=True),
        parameters.Choice("age_since", AGE_FIELDS),
        parameters.Integer("max_priority", is_optional=True),
        parameters.Number("min_eecu_seconds", is_optional=True),
        parameters.Integer("limit", is_optional=True),
        parameters.Flag("orphaned"),
        parameters.Text("description"),
        parameters.Text("description_regex"),
        parameters.Text("types", is_list=True),
        parameters.Text("states", is_list=True),
        parameters.Text("airflow_conn_id"),
        parameters.Flag("select_all"),
    )
    cause = "stale"
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        older_than: timedelta | float | str | None = None,
        age_since: str = "create_time",
        description: str | None = None,
        description_regex: str | None = None,
        types: str | Sequence[str] | None = None,
        max_priority: int | str | None = None,
        min_eecu_seconds: float | str | None = None,
        states: str | Sequence[str] = ("PENDING", "RUNNING"),
        keep: Any = None,
        limit: int | str | None = None,
        orphaned: bool | str = False,
        airflow_conn_id: str | None = None,
        select_all: bool = False,
        dry_run: bool = False,
        earth_engine_conn_id: str | None = "earth_engine_default",
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        wait_for_completion: bool | str = True,
        poll_interval: float | timedelta | str = 5.0,
        cancel_timeout: float | timedelta | str = 600.0,
        not_found_ok: bool | str = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals(), CancellingOperator.__init__))
        self.older_than: Any = older_than
        self.age_since = age_since
        self.description = description
        self.description_regex = description_regex
        self.types = types
        self.max_priority: Any = max_priority
        self.min_eecu_seconds: Any = min_eecu_seconds
        self.states = states
        self.keep = keep
        self.limit: Any = limit
        self.orphaned: Any = orphaned
        self.airflow_conn_id = airflow_conn_id
        self.select_all = select_all
        self._reasons: dict[str, str] = {}
        self.is_dry_run = parameters.Flag("dry_run").read(dry_run)  # `dry_run` is a method of Airflow's operators.
        self._given = parameters.given(self, _NEVER_EMPTY)
        parameters.check(self, self.checked_parameters)

    def pre_execute(self, context: Context) -> None:
        """Refuse a criterion that a template rendered to an empty value: without it, more would be cancelled."""
        parameters.check_not_empty(self, self._given)
        super().pre_execute(context)

    def execute(self, context: Context) -> list[CancelDict]:
        """List the operations, select those that match, and cancel them."""
        with airflow_errors():
            stale = self.hook.list_stale_operations(self._criteria(), self.limit)
        persist_links(context, [one.operation.name for one in stale])
        if self.is_dry_run or not stale:
            outcomes = [_would_be_cancelled(one) for one in stale]
            self._log_table(outcomes)
            return outcomes
        self._reasons = {str(one.operation.name): one.reason for one in stale}
        names = list(self._reasons)
        record_operations(context, names, **connection_kwargs(self), ownership=Ownership.CANCELLER)
        context["ti"].xcom_push(key=REASONS_KEY, value=self._reasons)
        return self.cancel([(connection_kwargs(self), names)])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Read the reasons again, which another process recorded."""
        ti = context["ti"]
        self._reasons = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, key=REASONS_KEY) or {}
        return super().resume_execution(next_method, next_kwargs, context)

    def raise_unless_cancelled(self, outcomes: list[CancelDict]) -> list[CancelDict]:
        """Add the reasons to the outcomes, and log the table, in any case."""
        for outcome in outcomes:
            outcome["reason"] = self._reasons.get(outcome["name"], "")
        self._log_table(outcomes)
        return super().raise_unless_cancelled(outcomes)

    def _criteria(self) -> StaleCriteria:
        return StaleCriteria(
            older_than=self.older_than,
            age_since=self.age_since,
            description=self.description or "",
            description_regex=self.description_regex or "",
            types=_texts(self.types or ()),
            max_priority=self.max_priority,
            min_eecu_seconds=self.min_eecu_seconds,
            states=_texts(self.states),
            keep=self._kept(),
            among=self._orphans() if self.orphaned else None,
            select_all=self.select_all,
        )

    def _kept(self) -> frozenset[OperationName]:
        kept = frozenset(names_of(self, "keep"))
        if "keep" in self._given and not kept:  # For example a list in which a template was rendered to nothing.
            raise AirflowFailException(f"keep is {self.keep!r:.100} and names no operation: more would be cancelled.")
        return kept

    def _orphans(self) -> dict[OperationName, str]:
        """Return the project's orphaned operations, each with the task that it belonged to."""
        active = self.hook.list_operations(active_only=True)
        orphans = find_orphans(active, self.airflow_conn_id)
        measure("orphans", len(orphans))
        return {one.name: f"is orphaned: {orphans[str(one.name)]}" for one in active if str(one.name) in orphans}

    def _log_table(self, outcomes: Iterable[CancelDict]) -> None:
        from tabulate import tabulate

        rows = [
            [CancelOutcome(o["outcome"]).text, o["name"], escaped_for_log(o.get("description", "")), o["reason"]]
            for o in outcomes
        ]
        shown = truncated_lines(tabulate(rows, headers=("outcome", "name", "description", "reason")).splitlines())
        if rows:
            total = f"{len(rows):,} operations: {count_by(row[0] for row in rows)}."
            self.log.info("%s", "\n".join(["", *shown, total]))


def _would_be_cancelled(stale: StaleOperation) -> CancelDict:
    result = CancelResult(stale.operation.name, CancelOutcome.WOULD_BE_CANCELLED, stale.operation)
    return {**result.as_dict(), "reason": stale.reason}


def _texts(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
