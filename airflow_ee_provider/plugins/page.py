"""What the page shows a user, and what it does for one: called in threads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.providers.common.compat.sdk import conf
from airflow.utils.session import create_session

from airflow_ee_provider.base.measuring import measure_cancels
from airflow_ee_provider.hooks.connection import CONFIG_SECTION
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.plugins.cached_overview import read_all
from airflow_ee_provider.plugins.permissions import (
    may_use_connection,
    readable_dags,
    reasons_against,
    what_forbids_cancel,
)
from airflow_ee_provider.tracking.audit import audit_row
from airflow_ee_provider.tracking.database import read_holdings
from airflow_ee_provider.tracking.holders import orphans_among

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ee_provider.earth_engine.model.results import CancelDict
    from airflow_ee_provider.tracking.holders import Holder
    from airflow_ee_provider.tracking.overview import ListedOperation, Overview

#: Seconds that requesting the cancels may take.
CANCEL_TIMEOUT = 120.0

#: How far back records are read: an operation runs for ten days at most, and may wait before that.
OLDEST = timedelta(days=60)


@dataclass(frozen=True)
class Wanted:
    """Which holders a page is about; None stands for all."""

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None

    def has(self, holder: Holder) -> bool:
        """Whether the page is about that task instance."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return all(getattr(holder, name) == value for name, value in given.items())

    @property
    def is_all(self) -> bool:
        """Whether the page is about everything."""
        return all(value is None for value in vars(self).values())


def content(overview: Overview, age: float, user: Any, wanted: Wanted) -> str:
    """Return the page's JSON for a user: what they may see, and of what they may not, how many there are."""
    visible, hidden = _visible(overview.operations, user)
    name, why = user.get_name(), reasons_against(user)
    shown = [one for one in visible if wanted.is_all or any(wanted.has(holder) for holder in one.held.holders)]
    return json.dumps(
        {
            "operations": [
                {**one.as_dict(), "mine": _is_mine(one, name), "forbidden": "" if one.held.operation.done else why(one)}
                for one in shown
            ],
            "connections": [conn_id for conn_id in overview.connections if may_use_connection(user, conn_id)],
            "hidden": hidden if wanted.is_all else 0,
            "age": round(age, 1),
            "errors": {conn_id: e for conn_id, e in overview.errors.items() if may_use_connection(user, conn_id)},
            "eecu_hour_price": _price(),
            "currency": conf.get(CONFIG_SECTION, "currency", fallback="USD"),
        }
    )


def _price() -> float | None:
    text = conf.get(CONFIG_SECTION, "eecu_hour_price", fallback="")
    return float(text) if text else None


def _visible(operations: Iterable[ListedOperation], user: Any) -> tuple[list[ListedOperation], int]:
    """Return what a user may see, and the number of the others."""
    everything = list(operations)
    connections = {conn_id for conn_id in {one.conn_id for one in everything} if may_use_connection(user, conn_id)}
    dags = readable_dags(user, {holder.dag_id for one in everything for holder in one.held.holders})
    visible = [
        one
        for one in everything
        if one.conn_id in connections and all(holder.dag_id in dags for holder in one.held.holders)
    ]
    return visible, len(everything) - len(visible)


def _is_mine(shown: ListedOperation, user_name: str) -> bool:
    return any(user_name in (holder.triggered_by, *holder.dag_owners) for holder in shown.held.holders)


def cancel(user: Any, names: list[str]) -> list[CancelDict]:
    """Ask to cancel operations in the name of the connections that list them; all of them, or none.

    :raises LookupError: if one of them is not listed.
    :raises PermissionError: if the user may not cancel one of them; says why.
    """
    visible, _ = _visible(read_all().operations, user)  # Who holds them now, not five seconds ago.
    listed = {str(one.held.operation.name): one for one in visible}
    if unknown := [name for name in names if name not in listed]:
        raise LookupError(f"{', '.join(unknown[:3])}: no such operation is listed for you.")
    chosen = [listed[name] for name in names]
    if why := what_forbids_cancel(user, chosen):
        raise PermissionError(f"Nothing was cancelled. {why}.")
    _audit(user, chosen)
    results: list[CancelDict] = []
    for conn_id in dict.fromkeys(one.conn_id for one in chosen):
        of_connection = [name for name in names if listed[name].conn_id == conn_id]
        asked = EarthEngineHook(conn_id).cancel_operations(
            of_connection, wait_for_completion=False, timeout=CANCEL_TIMEOUT
        )
        measure_cancels([result.outcome for result in asked], "page")
        results += [result.as_dict() for result in asked]
    return results


def orphans(user: Any, names: Iterable[str], since: datetime) -> dict[str, str]:
    """Return which of some active operations are orphaned, each with the task instance that owned it, for people.

    :param since: records made before that are not read.
    :raises PermissionError: if the user may not read what each DAG has recorded: a part of it would mislead.
    """
    holdings = read_holdings(max(since, datetime.now(timezone.utc) - OLDEST))
    dags = {one.holder.dag_id for one in holdings}
    if readable_dags(user, dags, DagAccessEntity.XCOM) != dags:
        raise PermissionError("You need the permission to read the XComs of all DAGs.")
    return orphans_among(names, holdings)


def _audit(user: Any, operations: Iterable[ListedOperation]) -> None:
    """Write into Airflow's audit log what is about to be asked for, before it is."""
    with create_session() as session:
        for one in operations:
            extra = {"operation": str(one.held.operation.name), "connection": one.conn_id}
            session.add(audit_row(user.get_name(), extra, next(iter(one.held.holders), None)))
