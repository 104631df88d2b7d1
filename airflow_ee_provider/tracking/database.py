"""Read the records of tasks from Airflow's database.

The API server and the command line may do that. A task of Airflow 3 may not, and asks the API server (`api_client`).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.stored_values import or_error
from airflow_ee_provider.base.task_states import word_of
from airflow_ee_provider.earth_engine.auth.settings import comma_separated
from airflow_ee_provider.hooks.base import CONFIG_SECTION
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.tracking.holders import CLOCKS_DIFFER, Holder, Holding, earliest_record, id_of
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, read_parts
from airflow_ee_provider.tracking.record_tables import (
    Key,
    key_of,
    may_name,
    parts_before,
    portions,
    record_tables,
    runs_since,
)
from airflow_ee_provider.tracking.unhurried import unhurried

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.tracking.record import Record
    from airflow_ee_provider.tracking.record_tables import RecordTable

log = logging.getLogger(__name__)

#: How many records' JSON there is at the same time.
PARSED_AT_A_TIME = 100


def read_holdings(names: Iterable[str], since: datetime) -> list[Holding]:
    """Return the task instances that have recorded some operations, each with its present state.

    :param names: The operations' names.
    :param since: Earlier records are not read.
    """
    return Recorded().read({id_of(name) for name in names}, since)


@dataclass(frozen=True)
class _Known:
    """A record that names an operation, with the task instance's state: what one of thousands has to be known by.

    :param row: its row.
    :param parts: for each of its parts the task instance, and the operations' names; none if it cannot be read.
    """

    row: Any
    parts: tuple[Holding, ...]

    def names(self, ids: Collection[str]) -> bool:
        """Whether the record names one of these operations; True for a record that cannot be read."""
        return not self.parts or any(id_of(name) in ids for part in self.parts for name in part.operation_names)

    def now(self, row: Any) -> _Known:
        """Return the same record with the task instance's present state."""
        parts = (Holding(_holder(row, one.holder.ownership), one.operation_names) for one in self.parts)
        return _Known(row, tuple(parts))


class Recorded:
    """Reads the records of some operations repeatedly, and parses each record only once.

    A read takes one SQL statement for the runs that were active since the last read, and one for each table and each
    thousand of these runs and of those with known records.
    """

    def __init__(self) -> None:
        self._ids: Collection[str] = frozenset()
        self._read_at: datetime | None = None
        self._known: dict[str, dict[Key, _Known]] = {}

    def of(self, operations: Collection[Operation]) -> list[Holding]:
        """Return the records of these operations. For those of the last call, only new records are read."""
        new = earliest_record(operation for operation in operations if operation.name.id not in self._ids)
        times = [new, self._read_at and self._read_at - CLOCKS_DIFFER]
        if since := min((time for time in times if time is not None), default=None):
            return self.read({operation.name.id for operation in operations}, since)
        return []

    def read(self, ids: Collection[str], since: datetime) -> list[Holding]:
        """Return the records of operations.

        :param ids: The operations' ids.
        :param since: Earlier records are not read, except known ones.
        """
        from airflow.utils.session import create_session

        begun = datetime.now(timezone.utc)
        with create_session() as session:
            runs = [row.id for row in session.execute(runs_since(since))]
            for table in record_tables():
                known = {key: one for key, one in unhurried(self._known.get(table.name, {}).items()) if one.names(ids)}
                found: dict[Key, _Known] = {}
                new: dict[Key, Any] = {}
                for some in portions(sorted({*runs, *(key.run for key in known)})):
                    for row in unhurried(session.execute(table.last_parts(some))):
                        key = key_of(row)
                        if (before := known.get(key)) and before.row.changed == row.changed:
                            found[key] = before if before.row == row else before.now(row)
                        elif before or (row.changed >= since and may_name(row.value, ids)):
                            new[key] = row
                        if len(new) >= PARSED_AT_A_TIME:
                            found |= _parsed(session, table, new)
                            new = {}
                self._known[table.name] = found | _parsed(session, table, new)
        self._ids, self._read_at = ids, begun
        return self._holdings(ids)

    def _holdings(self, ids: Collection[str]) -> list[Holding]:
        found: dict[Holder, Holding] = {}
        more: defaultdict[Holder, dict[str, None]] = defaultdict(dict)
        for one in unhurried(one for known in self._known.values() for one in known.values()):
            for part in one.parts:
                mine = [name for name in part.operation_names if id_of(name) in ids]
                if mine and len(mine) == len(part.operation_names) and part.holder not in found:
                    found[part.holder] = part
                elif mine:
                    more[part.holder].update(dict.fromkeys(mine))
        for holder, names in more.items():
            before = found[holder].operation_names if holder in found else ()
            found[holder] = Holding(holder, tuple(dict.fromkeys([*before, *names])))
        return list(found.values())


def _parsed(session: Any, table: RecordTable, rows: Mapping[Key, Any]) -> dict[Key, _Known]:
    """Parse some records."""
    parts = _parts(session, table, rows) if rows else {}
    return {
        key: _Known(row, tuple(Holding(_holder(row, part.ownership), part.operation_names) for part in parts[key]))
        for key, row in rows.items()
    }


def _parts(session: Any, table: RecordTable, rows: Mapping[Key, Any]) -> dict[Key, tuple[Record, ...]]:
    """Read all parts of some records. A record that cannot be read has no parts."""
    values: dict[Key, dict[str, Any]] = {key: {OPERATIONS_KEY: or_error(table.read, row)} for key, row in rows.items()}
    before = {key: parts_before(one[OPERATIONS_KEY]) for key, one in values.items()}
    for some in portions([key for key, number in before.items() if number]):
        for row in session.execute(table.parts(some, max(before.values()))):
            if key_of(row) in values:
                values[key_of(row)][row.key] = or_error(table.read, row)
    found: dict[Key, tuple[Record, ...]] = {}
    for key, row in rows.items():
        try:
            found[key] = tuple(read_parts(values[key].get))
        except Exception as error:  # noqa: BLE001 (an XCom backend may raise any exception; the others are still read)
            log.warning("Could not read the record of %s.%s; ignoring it: %s", row.dag_id, row.task_id, error)
            found[key] = ()
    return found


def visible_connections() -> list[str]:
    """Return the ids of the connections whose operations are shown to users.

    They are set in ``[earth_engine] connections``; by default ``earth_engine_default`` and all connections of this
    provider's type in Airflow's database.
    """
    from airflow.models.connection import Connection
    from airflow.providers.common.compat.sdk import conf
    from airflow.utils.session import create_session

    if configured := comma_separated(conf.get(CONFIG_SECTION, "connections", fallback="")):
        return list(configured)
    with create_session() as session:
        query = session.query(Connection.conn_id).filter(Connection.conn_type == EarthEngineHook.conn_type)
        return list(dict.fromkeys([EarthEngineHook.default_conn_name, *sorted(row.conn_id for row in query)]))


def _holder(row: Any, ownership: str) -> Holder:
    return Holder(
        dag_id=row.dag_id,
        run_id=row.run_id,
        task_id=row.task_id,
        map_index=row.map_index,
        try_number=row.try_number or 0,
        task_state=word_of(row.task_state),
        run_state=word_of(row.run_state),
        ownership=ownership,
        dag_owners=comma_separated(row.owners),
        triggered_by=getattr(row, "triggering_user_name", None),
    )
