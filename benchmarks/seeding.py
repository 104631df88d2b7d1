"""Fills Airflow's database like a company's after ten days, always with the same rows; names the operations for them.

It supports PostgreSQL, SQLite, MySQL and MariaDB. One statement fills a table, so that it takes only seconds.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

PROJECT = "demo"

#: The most tasks of a run that record an operation each: its first tasks.
OURS = 5


@dataclass(frozen=True)
class Size:
    """The size of the database.

    :param runs: runs, one after the other over `days`; the last `active` of them have not ended.
    :param orphans: runs before these whose first task has failed and left its operation running.
    :param foreign: XComs of each task instance that are not the provider's.
    :param oldest: whether an operation of the first run is still active, as in a long queue.
    """

    runs: int = 20_500
    dags: int = 500
    active: int = 580
    orphans: int = 100
    foreign: int = 6
    days: float = 10.0
    oldest: bool = False

    @property
    def seconds(self) -> float:
        """The seconds between two runs."""
        return self.days * 86400 / self.runs

    def tasks_of(self, run: int) -> int:
        """Return how many task instances a run has."""
        return 15 if run % 100 < 68 else 14

    def records(self) -> Iterator[tuple[int, int]]:
        """Return the run and the task of each record."""
        for run in range(1, self.runs + 1):
            for task in range(1, OURS + (run % 14 != 0)):
                yield run, task

    def is_active(self, run: int, task: int) -> bool:
        """Whether the operation of a record is active."""
        if run > self.runs - self.active:
            return True
        is_orphan = run > self.runs - self.active - self.orphans
        return task == 1 and (is_orphan or (self.oldest and run == 1))

    def created(self, run: int) -> datetime:
        """Return when a run began; its operations are created a minute later."""
        return START + timedelta(days=-self.days, seconds=run * self.seconds)


#: When the database was filled; the same in all processes of a benchmark.
START = datetime.fromisoformat(
    os.environ.setdefault("SEEDED_AT", datetime.now(timezone.utc).isoformat(timespec="seconds"))
)


def name_of(run: int, task: int) -> str:
    """Return the name of the operation of a record."""
    return f"projects/{PROJECT}/operations/SEEDED{run:09d}{task:09d}"


class _Dialect:
    """What differs between databases."""

    def __init__(self, connection: Connection) -> None:
        self.name = connection.dialect.name
        self.tables = inspect(connection)

    def ago(self, seconds: str) -> str:
        """Return the time that is some seconds before `START`."""
        now = int(START.timestamp())
        return {
            "postgresql": f"to_timestamp({now} - ({seconds}))",
            "sqlite": f"strftime('%Y-%m-%d %H:%M:%S', {now} - ({seconds}), 'unixepoch') || '.000000'",
        }.get(self.name, f"from_unixtime({now} - ({seconds}))")

    def cast(self, value: str, table: str, column: str) -> str:
        """Return a text as the type of a column."""
        kind = next(str(one["type"]).lower() for one in self.tables.get_columns(table) if one["name"] == column)
        if self.name != "postgresql":
            return value
        return f"convert_to({value}, 'UTF8')" if kind == "bytea" else f"({value})::{kind}"

    def uuid(self, number: str) -> str:
        """Return a number as a UUID."""
        return {
            "postgresql": f"lpad(to_hex({number}), 32, '0')::uuid",
            "sqlite": f"printf('%032x', {number})",
        }.get(self.name, f"lpad(hex({number}), 32, '0')")

    def _some(self, kind: str) -> str:
        """Return some value of a type."""
        if "json" in kind:
            return "'{}'"
        if "char" in kind or kind == "text":
            return "'x'"
        if "time" in kind:
            return self.ago("0")
        return "false" if "bool" in kind else self.uuid("0") if "uuid" in kind else "0"

    def insert(self, connection: Connection, table: str, values: dict[str, str], source: str) -> None:
        """Insert rows with the given values, and with some value for each other column that needs one."""
        present = {}
        for column in self.tables.get_columns(table):
            name, kind = column["name"], str(column["type"]).lower()
            if name in values:
                present[name] = values[name]
            elif not column["nullable"] and column["default"] is None and column.get("autoincrement") is not True:
                present[name] = self._some(kind)
        columns = ", ".join(f"`{name}`" if self.name == "mysql" else f'"{name}"' for name in present)
        connection.execute(text(f"insert into {table} ({columns}) select {', '.join(present.values())} from {source}"))


def fill(engine: Engine, size: Size) -> dict[str, int]:
    """Fill the tables, unless they are filled; return the number of rows of each."""
    is_filled = inspect(engine).has_table("seed_run")
    with engine.begin() as connection:
        dialect = _Dialect(connection)
        _without_foreign_keys(connection)
        if not is_filled:
            _numbers(connection, size)
            _fill(connection, dialect, size)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        tables = ("dag", "dag_run", "task_instance", "xcom")
        for table in tables:
            analyze = {"postgresql": "vacuum analyze", "sqlite": "analyze"}.get(
                connection.dialect.name, "analyze table"
            )
            connection.execute(text(f"{analyze} {table}"))
        return {table: connection.execute(text(f"select count(*) from {table}")).scalar() or 0 for table in tables}


def _without_foreign_keys(connection: Connection) -> None:
    """Turn off foreign keys: only the rows that matter are inserted. On MySQL, also set the SQL mode and time zone."""
    for statement in {
        "postgresql": ["set session_replication_role = replica"],
        "sqlite": ["pragma foreign_keys = off"],
    }.get(
        connection.dialect.name,
        [
            "set foreign_key_checks = 0",
            "set sql_mode = 'PIPES_AS_CONCAT'",
            "set time_zone = '+00:00'",
        ],
    ):
        connection.execute(text(statement))


def _numbers(connection: Connection, size: Size) -> None:
    """Create tables of the runs ``n``, the tasks ``t`` and the numbers ``k`` of each task's foreign XComs."""
    for name, columns in (("seed_run", "n integer primary key, seconds float"), ("seed_task", "t integer primary key")):
        connection.execute(text(f"create table {name} ({columns})"))
    connection.execute(text("create table seed_key (k integer primary key)"))
    age = [{"n": run, "seconds": (size.runs - run) * size.seconds} for run in range(1, size.runs + 1)]
    connection.execute(text("insert into seed_run values (:n, :seconds)"), age)
    connection.execute(text("insert into seed_task values (:t)"), [{"t": task} for task in range(1, 16)])
    connection.execute(text("insert into seed_key values (:k)"), [{"k": key} for key in range(1, size.foreign + 1)])


def _fill(connection: Connection, dialect: _Dialect, size: Size) -> None:
    first_active, first_orphan = size.runs - size.active, size.runs - size.active - size.orphans
    dag, run = f"'dag_' || (n % {size.dags})", "'scheduled__' || n"
    began, ended = dialect.ago("seconds"), dialect.ago("seconds - 1800")
    is_orphan = f"(n > {first_orphan} and n <= {first_active})"
    dag_values = {"dag_id": "'dag_' || (n - 1)", "is_active": "true", "is_paused": "false", "is_stale": "false"}
    dag_values |= {"owners": "'team_' || (n % 20)", "fileloc": "'/dags/dag_' || n || '.py'"}
    dialect.insert(connection, "dag", dag_values, f"seed_run where n <= {size.dags}")
    run_values = {
        "id": "n",
        "dag_id": dag,
        "run_id": run,
        "state": f"case when n > {first_active} then 'running' when {is_orphan} or n % 20 = 0 then 'failed'"
        " else 'success' end",
        "run_type": "'scheduled'",
        **dict.fromkeys(
            ("start_date", "queued_at", "run_after", "logical_date", "execution_date", "created_at"), began
        ),
        "updated_at": f"case when n > {first_active} then {dialect.ago('10')} else {ended} end",
        "end_date": f"case when n > {first_active} then null else {ended} end",
    }
    dialect.insert(connection, "dag_run", run_values, "seed_run")
    task, has_task = "'task_' || t", "(t < 15 or n % 100 < 68)"
    task_values = {
        "id": dialect.uuid("n * 100 + t"),
        "dag_id": dag,
        "run_id": run,
        "task_id": task,
        "map_index": "-1",
        "state": f"case when n > {first_active} then (case when t <= {OURS} then 'deferred' else null end)"
        f" when t = 1 and {is_orphan} then 'failed' else 'success' end",
        "try_number": "case when n % 50 = 0 then 2 else 1 end",
        "max_tries": "2",
        "pool_slots": "1",
        "pool": "'default_pool'",
        "start_date": began,
    }
    source = f"seed_run, seed_task where {has_task}"
    dialect.insert(connection, "task_instance", task_values, source)
    _fill_xcoms(connection, dialect, size, {"dag_run_id": "n", "dag_id": dag, "run_id": run, "task_id": task})


def _fill_xcoms(connection: Connection, dialect: _Dialect, size: Size, shared: dict[str, str]) -> None:
    shared |= {"map_index": "-1", "timestamp": dialect.ago("seconds - 60")}
    foreign = dialect.cast(
        '\'{"rows": 1234, "path": "gs://bucket/exports/2026/11/part-00001.parquet"}\'', "xcom", "value"
    )
    has_task, is_ours = "(t < 15 or n % 100 < 68)", f"t <= {OURS} and (t < {OURS} or n % 14 <> 0)"
    dialect.insert(
        connection,
        "xcom",
        {**shared, "key": "'key_' || k", "value": foreign},
        f"seed_run, seed_task, seed_key where {has_task}",
    )
    record = json.dumps(_record()).replace("'", "''")
    pad = {"mysql": "lpad({}, 9, '0')", "postgresql": "lpad(({})::text, 9, '0')"}.get(
        dialect.name, "printf('%09d', {})"
    )
    value = f"'SEEDED' || {pad.format('n')} || {pad.format('t')}"
    value = f"replace(replace('{record}', 'OPERATION', {value}), 'TASK', 'task_' || t)"
    values = {**shared, "key": "'_earth_engine_operations'", "value": dialect.cast(value, "xcom", "value")}
    dialect.insert(connection, "xcom", values, f"seed_run, seed_task where {is_ours}")
    value = dialect.cast("'1'", "xcom", "value")
    dialect.insert(
        connection,
        "xcom",
        {**shared, "key": "'_earth_engine_try'", "value": value},
        f"seed_run, seed_task where {is_ours}",
    )
    settled = dialect.cast("'{\"try_number\": ' || (case when n % 50 = 0 then 2 else 1 end) || '}'", "xcom", "value")
    first_orphan = size.runs - size.active - size.orphans
    has_settled = f"n <= {size.runs - size.active} and (t > 1 or n <= {first_orphan}) and not (t = 1 and n = 1)"
    dialect.insert(
        connection,
        "xcom",
        {**shared, "key": "'_earth_engine_settled'", "value": settled},
        f"seed_run, seed_task where {is_ours} and {has_settled}",
    )


def _record() -> dict[str, Any]:
    from airflow_ee_provider.tracking.record import Record

    account = {"earth_engine_conn_id": "earth_engine_default", "project_id": None, "impersonation_chain": None}
    record = Record(
        (f"projects/{PROJECT}/operations/OPERATION",),
        account,
        "TASK",
        -1,
        1,
        2,
        START.isoformat(),
        ("0123456789abcdef0123456789abcdef",),
        cancel_on=("kill", "failure", "timeout"),
    )
    return record.as_json()
