"""The content of the UI page and its actions, for one user. The functions are called in threads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.providers.common.compat.sdk import conf
from airflow.utils.session import create_session

from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError
from airflow_ee_provider.earth_engine.model.metrics import measure_cancels
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.cancelling import READING_SHARE
from airflow_ee_provider.hooks.base import CONFIG_SECTION
from airflow_ee_provider.hooks.earth_engine import EarthEngineServerHook
from airflow_ee_provider.plugins.choosing import MOST_TOTALS, Choice, Place, totals
from airflow_ee_provider.plugins.permissions import Permissions, permissions_of
from airflow_ee_provider.plugins.visibility import as_seen, editable, readable
from airflow_ee_provider.tracking.audit import audit_row
from airflow_ee_provider.tracking.database import read_holdings, visible_connections
from airflow_ee_provider.tracking.holders import OLDEST, orphans_among
from airflow_ee_provider.tracking.overview import read_named
from airflow_ee_provider.tracking.unhurried import unhurried

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_ee_provider.earth_engine.model.results import CancelDict
    from airflow_ee_provider.earth_engine.protocol.cancelling import CancelResult
    from airflow_ee_provider.plugins.visibility import Seen
    from airflow_ee_provider.tracking.overview import ListedOperation, Overview

#: The longest time for requesting cancels, in seconds.
CANCEL_TIMEOUT = 120.0

#: Fields of operations and of their tasks that the page does not show.
_NOT_SHOWN = frozenset({"priority", "duration_seconds", "dag_owners", "triggered_by"})

#: The most tasks and destinations of an operation, and the most characters of its error, that the page shows.
MOST_SHOWN, LONGEST_MESSAGE = 5, 1000


#: How many answers are kept for an overview, and the most rows of a kept answer. A page of the table has 50 rows.
MOST_KEPT, MOST_ROWS_KEPT = 200, 100

#: The user and the request that an answer belongs to.
_Key = tuple[Permissions, str, Place, Choice]


@dataclass(frozen=True)
class _Answers:
    """The kept answers for an overview, without its age; and a lock for each answer that a thread makes.

    A lock exists only while a thread has it or waits for it.
    """

    texts: dict[_Key, str] = field(default_factory=dict)
    _turns: WeakValueDictionary[_Key, Lock] = field(default_factory=WeakValueDictionary)
    _turns_are_given: Lock = field(default_factory=Lock)

    def turn(self, key: _Key) -> Lock:
        """Return the same lock to all threads that need an answer at the same time."""
        with self._turns_are_given:  # Otherwise, two threads could get different locks.
            return self._turns.setdefault(key, Lock())


#: The kept answers for each overview that is in use.
_kept: WeakKeyDictionary[Overview, _Answers] = WeakKeyDictionary()

#: Only one thread computes at a time. Several would be no faster, and would delay other requests.
_turn = Lock()


@dataclass(frozen=True)
class Content:
    """An answer of the page.

    :param text: The answer as JSON.
    :param etag: A value that changes whenever the answer's content changes.
    """

    text: str
    etag: str


def content(overview: Overview, age: float, user: Any, place: Place, choice: Choice) -> Content:
    """Return the page's JSON for a user: the operations that they may see, and the number of the others.

    Several tabs of a user share an answer for an overview, until the auth manager is asked about the user again.
    """
    kept, permissions, user_name = _kept.setdefault(overview, _Answers()), permissions_of(user), user.get_name()
    key = (permissions, user_name, place, choice)
    with kept.turn(key):
        if (text := kept.texts.get(key)) is None:
            text = _content(overview, permissions, user_name, place, choice)
            if len(kept.texts) < MOST_KEPT and choice.limit is not None and choice.limit <= MOST_ROWS_KEPT:
                kept.texts[key] = text
    etag = blake2b(text.encode(), digest_size=16).hexdigest()
    return Content(f'{text},"age":{age:.1f}}}', f'"{etag}"')


def _content(overview: Overview, permissions: Permissions, user_name: str, place: Place, choice: Choice) -> str:
    everything = overview.operations
    if place != Place():
        everything = [one for one in unhurried(everything) if place.is_about(one.held.holders)]
    may_read = readable(unhurried(everything), permissions)
    with _turn:
        # Keep only the listed operations: a `Seen` for each of thousands would make Python's garbage collector run.
        listed: list[ListedOperation] = []
        partly: dict[str, Seen] = {}
        for one in unhurried(everything):
            if (seen := as_seen(one, may_read)) and place.is_about(seen.listed.held.holders):
                listed.append(seen.listed)
                if seen.hidden_holders:
                    partly[seen.name] = seen
        chosen = choice.choose(unhurried(listed), lambda one: _is_mine(one, user_name))
        orphaned = sum(one.held.orphaned for one in unhurried(chosen))
        by_dag = totals(unhurried(chosen))
    rows_seen = (partly.get(str(one.held.operation.name)) or as_seen(one, may_read) for one in choice.rows(chosen))
    shown = [one for one in rows_seen if one]
    may_edit = editable(shown, permissions)
    connections = permissions.connections(overview.connections, "GET")
    errors = {conn_id: error for conn_id, error in overview.errors.items() if conn_id in connections}
    about = {
        "total": len(listed),
        "chosen": len(chosen),
        "orphaned": orphaned,
        "totals": by_dag[:MOST_TOTALS],
        "other_dags": max(0, len(by_dag) - MOST_TOTALS),
        "connections": [conn_id for conn_id in overview.connections if conn_id in connections],
        "hidden": len(everything) - len(listed),
        "errors": errors,
        "hidden_errors": len(overview.errors) - len(errors),
        "eecu_hour_price": _price(),
        "currency": conf.get(CONFIG_SECTION, "currency", fallback="USD"),
    }
    # Row by row, since no other thread can run during one call of the encoder.
    rows = (_row(one, user_name, one.forbids(may_edit)) for one in unhurried(shown))
    return f'{{"operations":[{",".join(map(_json, rows))}],{_json(about)[1:-1]}'


def _row(seen: Seen, user_name: str, forbidden: str) -> dict[str, Any]:
    """Return an operation's row: the fields of its type in www/src/api.ts."""
    one = seen.listed
    row: dict[str, Any] = {name: value for name, value in one.as_dict().items() if name not in _NOT_SHOWN}
    if one.held.operation.error:
        row["error"] = {**row["error"], "message": row["error"]["message"][:LONGEST_MESSAGE]}
    row["destination_uris"] = row["destination_uris"][:MOST_SHOWN]
    row["more_holders"] = max(0, len(one.held.holders) - MOST_SHOWN)
    row["holders"] = [
        {name: value for name, value in holder.items() if name not in _NOT_SHOWN}
        for holder in row["holders"][:MOST_SHOWN]
    ]
    row |= {"hidden_holders": seen.hidden_holders, "needed": seen.needed}
    return row | {"mine": _is_mine(one, user_name), "forbidden": forbidden}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _price() -> float | None:
    text = conf.get(CONFIG_SECTION, "eecu_hour_price", fallback="")
    return float(text) if text else None


def _is_mine(shown: ListedOperation, user_name: str) -> bool:
    return any(user_name in (holder.triggered_by, *holder.dag_owners) for holder in shown.held.holders)


def cancel(user: Any, names: list[str]) -> list[CancelDict]:
    """Request the cancels of all these operations, or of none, with the connections that list them.

    An operation that cannot be read now is cancelled too: its records and the connection decide whether the user may.

    :raises LookupError: If one of them is not listed for the user.
    :raises PermissionError: If the user may not cancel one of them; with the reason.
    """
    parsed = {name for text in names if (name := _name(text))}
    # The operations, their tasks and the user's permissions are read now, not taken from the cached overview.
    named = read_named(visible_connections(), parsed, CANCEL_TIMEOUT * READING_SHARE)
    listed = {str(one.held.operation.name): one for one in named}
    chosen = [listed[name] for name in names if name in listed]
    permissions = Permissions(user)
    may_read = readable(chosen, permissions)
    seen = {found.name: found for one in chosen if (found := as_seen(one, may_read))}
    if unknown := [name for name in names if name not in seen]:
        raise LookupError(f"Nothing was cancelled. No such operation is listed for you: {', '.join(unknown[:3])}.")
    may_edit = editable(seen.values(), permissions)
    if forbidden := [f"{name}: {why}" for name, one in seen.items() if (why := one.forbids(may_edit))]:
        raise PermissionError(f"Nothing was cancelled. {forbidden[0]}.")
    _audit(user, chosen)
    results: list[CancelDict] = []
    for conn_id in dict.fromkeys(one.conn_id for one in chosen):
        of_connection = [name for name in names if listed[name].conn_id == conn_id]
        hook = EarthEngineServerHook(conn_id)
        asked = hook.cancel_operations(of_connection, wait_for_completion=False, timeout=CANCEL_TIMEOUT)
        measure_cancels([result.outcome for result in asked], "page")
        results += [_as_shown(result, hook) for result in asked]
    return results


def _as_shown(result: CancelResult, hook: EarthEngineServerHook) -> CancelDict:
    """Return a result as JSON, without the answer of a server that an anonymous connection names."""
    shown = result.as_dict()
    if result.error:
        shown["error"] = {"code": result.error.code, "message": hook.describe(result.error)}
    return shown


def _name(text: str) -> OperationName | None:
    try:
        return OperationName.parse(text)
    except InvalidOperationNameError:
        return None


def orphans(user: Any, names: Sequence[str], since: datetime) -> dict[str, str]:
    """Return which of some active operations are orphaned, each with a text that names the task that owned it.

    :param since: Earlier records are not read.
    :raises PermissionError: If the user may not read the records of one of the DAGs. Without them, the result would be
        wrong.
    """
    holdings = read_holdings(names, max(since, datetime.now(timezone.utc) - OLDEST))
    dags = {one.holder.dag_id for one in unhurried(holdings)}
    if Permissions(user).dags(dags, "GET", DagAccessEntity.XCOM) != dags:
        raise PermissionError("You need the permission to read the XComs of all DAGs.")
    return orphans_among(names, holdings)


def _audit(user: Any, operations: Iterable[ListedOperation]) -> None:
    """Write the cancels into Airflow's audit log, before they are requested."""
    with create_session() as session:
        for one in operations:
            extra = {"operation": str(one.held.operation.name), "connection": one.conn_id}
            session.add(audit_row(user.get_name(), extra, next(iter(one.held.holders), None)))
