"""Read the records of tasks from Airflow's database.

The API server and the command line may do that. A task of Airflow 3 may not, and asks the API server (`api_client`).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.task_states import word_of
from airflow_ee_provider.earth_engine.auth.settings import comma_separated
from airflow_ee_provider.hooks.base import CONFIG_SECTION
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.tracking.holders import CLOCKS_DIFFER, Holder, Holding, earliest_record, id_of
from airflow_ee_provider.tracking.record_tables import (
    Key,
    key_of,
    may_name,
    portions,
    read_records,
    record_tables,
    runs_since,
)
from airflow_ee_provider.tracking.unhurried import unhurried

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.tracking.record import Record
    from airflow_ee_provider.tracking.record_tables import RecordTable

log = logging.getLogger(__name__)

#: The maximum number of records whose JSON is in memory at the same time.
PARSED_AT_A_TIME = 100

#: How long to wait before a record that could not be read is read again: an XCom backend may fail for a moment.
TRIED_AGAIN_AFTER = timedelta(minutes=1)


def read_holdings(names: Iterable[str], since: datetime) -> list[Holding]:
    """Return the task instances that have recorded some operations, each with its present state.

    :param names: The operations' names.
    :param since: Earlier records are not read.
    """
    return Recorded().read({id_of(name) for name in names}, since)


class _Known:
    """The records of a table that name operations, each with the task instance's state.

    There can be thousands of records. Python's garbage collector traverses all objects of the process, Airflow's
    included, except strings. So each record is stored in strings and few other objects.
    """

    def __init__(self) -> None:
        #: By the record's `_name_of`: when it was written, and its task instance's state.
        self.changed: dict[str, datetime] = {}
        self.states: dict[str, str] = {}
        #: Each record's parts: the task instance and the operations' names. A single part is stored without a tuple.
        self.parts: dict[str, Holding | tuple[Holding, ...]] = {}

    def add(self, name: str, row: Any, parts: tuple[Holding, ...]) -> None:
        """Add a record. A record that cannot be read has no parts."""
        self.changed[name], self.states[name] = row.changed, _state_in(row)
        self.parts[name] = parts[0] if len(parts) == 1 else parts

    def take(self, name: str, row: Any, before: _Known) -> None:
        """Add a record of an earlier read, with the task instance's present state."""
        self.changed[name], self.states[name] = before.changed[name], before.states[name]
        self.parts[name] = before.parts[name]
        if before.states[name] != _state_in(row):
            parts = (Holding(_holder(row, one.holder.ownership), one.operation_names) for one in before.parts_of(name))
            self.add(name, row, tuple(parts))

    def parts_of(self, name: str) -> tuple[Holding, ...]:
        """Return the parts of a record."""
        parts = self.parts[name]
        return (parts,) if isinstance(parts, Holding) else parts

    def all_parts(self) -> Iterator[Holding]:
        """Yield the parts of all records."""
        for name in self.parts:
            yield from self.parts_of(name)

    def naming(self, ids: Collection[str]) -> dict[str, int]:
        """Return the records that name one of these operations, or that cannot be read, each with its run's number."""
        return {
            name: int(name.partition(" ")[0])
            for name in unhurried(self.parts)
            if not (parts := self.parts_of(name))
            or any(id_of(one) in ids for part in parts for one in part.operation_names)
        }


def _name_of(row: Any) -> str:
    return f"{row.run} {row.region} {row.map_index} {row.task_id}"


def _state_in(row: Any) -> str:
    """Return the columns of a row that can change although the record does not, as a string."""
    user = getattr(row, "triggering_user_name", None)
    return repr((row.task_state, row.try_number, row.run_state, row.owners, user))


class Recorded:
    """Reads the records of some operations repeatedly, and parses each record only once.

    A read takes one SQL statement for the runs that were active since the last read, and one for each table and each
    thousand of these runs and of those with known records.
    """

    def __init__(self) -> None:
        self._ids: Collection[str] = frozenset()
        self._read_at: datetime | None = None
        self._known: defaultdict[str, _Known] = defaultdict(_Known)
        self._tried_again_at = datetime.min.replace(tzinfo=timezone.utc)

    def of(self, operations: Collection[Operation]) -> list[Holding]:
        """Return the records of these operations. For operations of the last call, only new records are read."""
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
        tries_again = begun - self._tried_again_at >= TRIED_AGAIN_AFTER
        if tries_again:
            self._tried_again_at = begun
        with create_session() as session:
            runs = [row.id for row in session.execute(runs_since(since))]
            for table in record_tables():
                before, now, new = self._known[table.name], _Known(), dict[Key, Any]()
                known = before.naming(ids)
                for some in portions(sorted({*runs, *known.values()})):
                    for row in unhurried(session.execute(table.last_parts(some))):
                        name = _name_of(row)
                        is_read = name in known and (bool(before.parts_of(name)) or not tries_again)
                        if is_read and before.changed[name] == row.changed:
                            now.take(name, row, before)
                        elif name in known or (row.changed >= since and may_name(row.value, ids)):
                            new[key_of(row)] = row
                        if len(new) >= PARSED_AT_A_TIME:
                            _parse(session, table, new, now)
                _parse(session, table, new, now)
                self._known[table.name] = now
        self._ids, self._read_at = ids, begun
        return self._holdings(ids)

    def _holdings(self, ids: Collection[str]) -> list[Holding]:
        found: dict[Holder, Holding] = {}
        more: defaultdict[Holder, dict[str, None]] = defaultdict(dict)
        for part in unhurried(part for known in self._known.values() for part in known.all_parts()):
            mine = [name for name in part.operation_names if id_of(name) in ids]
            if mine and len(mine) == len(part.operation_names) and part.holder not in found:
                found[part.holder] = part
            elif mine:
                more[part.holder].update(dict.fromkeys(mine))
        for holder, names in more.items():
            before = found[holder].operation_names if holder in found else ()
            found[holder] = Holding(holder, tuple(dict.fromkeys([*before, *names])))
        return list(found.values())


def _parse(session: Any, table: RecordTable, rows: dict[Key, Any], known: _Known) -> None:
    """Parse records, add them to the known ones, and empty ``rows``."""
    for key, parts in (_parts(session, table, rows) if rows else {}).items():
        row = rows[key]
        parsed = (Holding(_holder(row, part.ownership), part.operation_names) for part in parts)
        known.add(_name_of(row), row, tuple(parsed))
    rows.clear()


def _parts(session: Any, table: RecordTable, rows: Mapping[Key, Any]) -> dict[Key, tuple[Record, ...]]:
    """Read all parts of some records. A record that cannot be read has no parts."""
    found: dict[Key, tuple[Record, ...]] = {}
    for key, read in read_records(session.execute, table, rows).items():
        if isinstance(read, Exception):
            row = rows[key]
            log.warning("Could not read the record of %s.%s; ignoring it: %s", row.dag_id, row.task_id, read)
        found[key] = () if isinstance(read, Exception) else tuple(read)
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
