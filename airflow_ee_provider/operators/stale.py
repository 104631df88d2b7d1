"""The janitor: the operator that cancels a project's stale operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_ee_provider.base import parameters
from airflow_ee_provider.base.connection import connection_kwargs
from airflow_ee_provider.base.errors import airflow_errors
from airflow_ee_provider.base.signatures import passed_on
from airflow_ee_provider.earth_engine.model.log_text import count_by, truncated_lines
from airflow_ee_provider.earth_engine.model.metrics import measure
from airflow_ee_provider.earth_engine.model.operations import escaped_for_log
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome, CancelResult
from airflow_ee_provider.earth_engine.protocol.stale import AGE_FIELDS, StaleCriteria
from airflow_ee_provider.links.earth_engine import EarthEngineTasksLink
from airflow_ee_provider.operators.cancel import CancellingOperator
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

#: Parameters that choose fewer operations: where one is given, it is not empty.
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

#: The XCom's key for why the janitor has found each operation stale.
REASONS_KEY = "_earth_engine_stale_reasons"


class EarthEngineCancelStaleOperationsOperator(CancellingOperator):
    """
    Cancel a project's stale operations: the janitor, to be run on a schedule.

    A list shows the operations of every user of the project, and names no owner. So an operation has to meet every
    criterion that is given. A criterion that is given and is empty once it is rendered fails the task, and so do
    criteria that select every operation of the project, unless ``select_all`` is set. Each cancel is confirmed, as with
    `EarthEngineCancelOperationsOperator`; the log has a table of what was done and why.

    Returns a list with what became of each stale operation, a `CancelDict`.

    .. seealso:: https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/list

    :param older_than: created (or started, see ``age_since``) longer ago than this, by Earth Engine's clock; a
        timedelta, or seconds (templated).
    :param age_since: ``create_time`` or ``start_time`` (templated).
    :param description: a glob that the whole description matches, such as ``ndvi-*`` (templated).
    :param description_regex: a regular expression that is found in the description (templated).
    :param types: such as ``EXPORT_IMAGE``; one or several (templated).
    :param max_priority: of this priority or a lower one (templated).
    :param min_eecu_seconds: has used that many EECU-seconds or more (templated).
    :param states: the states to look at; PENDING and RUNNING by default (templated). Not a criterion by itself.
    :param keep: names of operations that are never cancelled (templated).
    :param limit: how many are cancelled in one go, the oldest first; None for all (templated).
    :param orphaned: what tasks have recorded as their own, and no task that could still want it is active (templated).
        Looks at all DAGs: on Airflow 2 in Airflow's database, on Airflow 3 through ``airflow_conn_id``.
    :param airflow_conn_id: for ``orphaned`` on Airflow 3: a connection of the type HTTP with the API server's address
        as its host, and a user as login and password, or a token as its password; one that may read the DAG runs and
        XComs of all DAGs (templated).
    :param select_all: allow criteria that select every operation of the project.
    :param dry_run: only say what would be cancelled: the outcome is WOULD_BE_CANCELLED.
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
    :raises AirflowFailException: for criteria that are empty or select everything, or where trying again cannot help.
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
        parameters.Texts("types"),
        parameters.Texts("states"),
        parameters.Text("airflow_conn_id"),
    )
    cause = "janitor"
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
        self.is_dry_run = dry_run  # `dry_run` is a method of Airflow's operators.
        self._given = parameters.given(self, _NEVER_EMPTY)
        parameters.check(self, self.checked_parameters)

    def pre_execute(self, context: Context) -> None:
        """Refuse a criterion that a template has made empty: without it, more would be cancelled."""
        parameters.check_not_empty(self, self._given)
        super().pre_execute(context)

    def execute(self, context: Context) -> list[CancelDict]:
        """List, choose, cancel."""
        with airflow_errors():
            stale = self.hook.list_stale_operations(self._criteria(), self.limit)
        EarthEngineTasksLink.persist_for(context, [one.operation.name for one in stale])
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
        """Know again why each operation was stale, which was said in another process."""
        ti = context["ti"]
        self._reasons = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, key=REASONS_KEY) or {}
        return super().resume_execution(next_method, next_kwargs, context)

    def raise_unless_cancelled(self, outcomes: list[CancelDict]) -> list[CancelDict]:
        """Say why each was cancelled, and log the table, whether or not all were."""
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
            keep=frozenset(self.hook.account.names(self.keep or ())),
            among=self._orphans() if self.orphaned else None,
            select_all=self.select_all,
        )

    def _orphans(self) -> dict[OperationName, str]:
        """Return the project's orphaned operations, each with who held it last."""
        active = [operation for operation in self.hook.list_operations() if not operation.done]
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
