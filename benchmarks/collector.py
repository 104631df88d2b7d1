"""The cost of the collector on a PostgreSQL database like that of an Airflow of some years.

It measures passes with 500 active runs, and an hour in which no operation is unneeded. ``--plan`` prints the query
plans. It needs PostgreSQL's programs on this machine.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUNS, ACTIVE, TASKS, XCOMS = 20_500, 500, 301_000, 2_000_000


def fill(connection: object) -> None:
    """Fill the tables: runs of 100 DAGs, each with some 15 tasks, of which two own an operation."""
    from sqlalchemy import text

    per_run = round(TASKS / RUNS)
    per_task = round(XCOMS / TASKS)

    def do(statement: str) -> None:
        connection.execute(text(statement))  # type: ignore[attr-defined]

    do("set session_replication_role = replica")  # No foreign keys: only the rows that matter are filled in.
    columns = {
        "dag_run": required("dag_run", connection),
        "task_instance": required("task_instance", connection),
    }
    run_values = {
        "id": "n",
        "dag_id": "'dag_' || (n % 100)",
        "run_id": "'scheduled__' || n",
        "state": f"case when n > {RUNS - ACTIVE} then 'running' when n % 20 = 0 then 'failed' else 'success' end",
        "start_date": f"now() - ({RUNS} - n) * interval '2 minutes'",
        "updated_at": f"now() - ({RUNS} - n) * interval '2 minutes'",
        "logical_date": f"now() - ({RUNS} - n) * interval '2 minutes'",
        "execution_date": f"now() - ({RUNS} - n) * interval '2 minutes'",
        "run_after": f"now() - ({RUNS} - n) * interval '2 minutes'",
        "run_type": "'scheduled'",
    }
    insert(do, "dag_run", columns["dag_run"], run_values, f"generate_series(1, {RUNS}) n")
    task_values = {
        "id": "gen_random_uuid()",
        "dag_id": "'dag_' || (n % 100)",
        "run_id": "'scheduled__' || n",
        "task_id": "'task_' || t",
        "map_index": "-1",
        "state": f"case when n > {RUNS - ACTIVE} and t > 10 then null when n > {RUNS - ACTIVE} and t > 8"
        " then 'deferred' else 'success' end",
        "try_number": "case when n % 50 = 0 then 2 else 1 end",
        "max_tries": "2",
        "pool_slots": "1",
        "pool": "'default_pool'",
    }
    source = f"generate_series(1, {RUNS}) n, generate_series(1, {per_run}) t"
    insert(do, "task_instance", columns["task_instance"], task_values, source)
    value = '\'{"some": "value"}\'' + ("::jsonb" if is_json(connection) else "::bytea")
    record = json.dumps(
        {
            "version": 1,
            "operation_names": ["projects/p/operations/A"],
            "account": None,
            "task_id": "TASK",
            "map_index": -1,
            "try_number": 1,
            "max_tries": 2,
            "run_started": None,
            "ownership": "owner",
            "cancel_on": ["kill", "failure", "timeout"],
            "parts_before": 0,
        }
    )
    shared = "n, 'dag_' || (n % 100), 'scheduled__' || n, 'task_' || t, -1"
    into = "insert into xcom (dag_run_id, dag_id, run_id, task_id, map_index, key, value, timestamp) select"
    do(f"{into} {shared}, 'key_' || k, {value}, now() from {source}, generate_series(1, {per_task - 1}) k")
    recorded = f"replace('{record}', 'TASK', 'task_' || t)"
    cast = "::jsonb" if is_json(connection) else "::bytea"
    do(f"{into} {shared}, '_earth_engine_operations', {recorded}{cast}, now() from {source} where t in (3, 9)")
    settled = "'{\"try_number\": ' || (case when n % 50 = 0 then 2 else 1 end) || '}'"
    of_ended = f"t = 3 or n <= {RUNS - ACTIVE}"
    do(
        f"{into} {shared}, '_earth_engine_settled', ({settled}){cast}, now() from {source}"
        f" where t in (3, 9) and ({of_ended})"
    )


def insert(do: object, table: str, needed: dict[str, str], values: dict[str, str], source: str) -> None:
    """Insert rows with the given values, and with some value for each other column that needs one."""
    known = {**{name: kind for name, kind in needed.items() if name not in values}}
    extra = {name: default_of(kind) for name, kind in known.items()}
    present = {name: value for name, value in values.items() if name in ALL[table]} | extra
    do(f"insert into {table} ({', '.join(present)}) select {', '.join(present.values())} from {source}")  # type: ignore[operator]


ALL: dict[str, set[str]] = {}


def required(table: str, connection: object) -> dict[str, str]:
    """Return the columns that need a value, with their types."""
    from sqlalchemy import text

    question = (
        "select column_name, data_type, is_nullable, column_default from information_schema.columns"
        f" where table_name = '{table}'"
    )
    rows = list(connection.execute(text(question)))  # type: ignore[attr-defined]
    ALL[table] = {row[0] for row in rows}
    return {row[0]: row[1] for row in rows if row[2] == "NO" and row[3] is None}


def default_of(kind: str) -> str:
    """Return some value of a type."""
    return {"integer": "0", "boolean": "false", "uuid": "gen_random_uuid()"}.get(
        kind, "''" if "char" in kind else "now()"
    )


def is_json(connection: object) -> bool:
    """Whether XComs are JSON in that database, as with Airflow 3."""
    from sqlalchemy import text

    question = "select data_type from information_schema.columns where table_name = 'xcom' and column_name = 'value'"
    [[kind]] = list(connection.execute(text(question)))  # type: ignore[attr-defined]
    return str(kind).startswith("json")


def main() -> None:
    """Create a database, and measure."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "system"))
    from servers import Postgres

    with Postgres() as postgres:
        os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-ee-bench-")
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = postgres.url
        airflow = str(Path(sys.executable).parent / "airflow")
        subprocess.run([airflow, "db", "migrate"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        measure()


def measure() -> None:
    """Fill the database, measure passes with active runs and an hour's passes without, and print the results."""
    from sqlalchemy import text

    from airflow_ee_provider.base.airflow_versions import database_of_its_own

    engine = database_of_its_own()
    with engine.begin() as connection:
        fill(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("dag_run", "task_instance", "xcom"):
            connection.execute(text(f"vacuum analyze {table}"))
        counts = {
            table: connection.execute(text(f"select count(*) from {table}")).scalar()
            for table in ("dag_run", "task_instance", "xcom")
        }
    if "--plan" in sys.argv:
        explain(engine)
    busy = looks(engine, 40)
    with engine.begin() as connection:
        become_quiet(connection)
    quiet = looks(engine, 240)
    print("RESULT")
    print(
        f"PostgreSQL with {counts['dag_run']:,} runs, {counts['task_instance']:,} task instances and"
        f" {counts['xcom']:,} XComs. *Quiet*: an hour, 240 passes, in which 2,000 runs end as usual and none is"
        " active.\n"
    )
    print("| | statements per pass | median per pass | maximum | CPU time of the thread per hour | requests |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, row in ((f"{ACTIVE} active runs, {ACTIVE} deferred tasks", busy), ("quiet", quiet)):
        print(f"| {name} | {row[0]:.1f} | {row[1]:.0f} ms | {row[2]:.0f} ms | {row[3]:.1f} s | {row[4]} |")


def become_quiet(connection: object) -> None:
    """End all runs, 2,000 of them in the last hour, and leave no operation."""
    from sqlalchemy import text

    of_active = (
        f"from xcom where key = '_earth_engine_operations' and dag_run_id > {RUNS - ACTIVE} and task_id = 'task_9'"
    )
    for statement in (
        "update dag_run set state = 'success' where state = 'running'",
        f"update dag_run set updated_at = now() - ({RUNS} - id) * interval '1.8 seconds' where id > {RUNS} - 2000",
        "update task_instance set state = 'success', try_number = 1 where state is null or state = 'deferred'",
        "insert into xcom (dag_run_id, dag_id, run_id, task_id, map_index, key, value, timestamp) select dag_run_id,"
        " dag_id, run_id, task_id, map_index, '_earth_engine_settled', value, timestamp " + of_active,
    ):
        connection.execute(text(statement))  # type: ignore[attr-defined]


def looks(engine: object, count: int) -> tuple[float, float, float, float, int]:
    """Run passes of the collector, 15 s apart by a simulated clock, and return their cost."""
    from airflow_ee_provider.collector.cancels import Cancels
    from airflow_ee_provider.collector.collector import Collector
    from airflow_ee_provider.collector.look import Database

    asked: list[object] = []
    clock = [1000.0]

    def now() -> float:
        return clock[0]

    def ask(**account: object) -> Any:
        asked.append(account)
        raise RuntimeError("Nothing is to be asked.")

    log = logging.getLogger("collector")
    cancels = Cancels(log, ask, asked.append)
    collector = Collector(Database(engine.connect), cancels, log, now=now, sleep=time.sleep)  # type: ignore[attr-defined]
    begun = time.perf_counter()
    collector.look()  # The first pass also reads older runs.
    print(f"The first look took {time.perf_counter() - begun:.1f} s.", file=sys.stderr)
    before, used, took = collector.database.statements, time.process_time(), []
    for _ in range(count):
        clock[0] += 15
        begun = time.perf_counter()
        collector.look()
        took.append(1000 * (time.perf_counter() - begun))
    per_hour = (time.process_time() - used) * 240 / count
    statements = (collector.database.statements - before) / count
    return statements, statistics.median(took), max(took), per_hour, len(asked)


def explain(engine: object) -> None:
    """Print the query plans."""
    from sqlalchemy import or_, text
    from sqlalchemy.dialects import postgresql

    from airflow_ee_provider.collector.tables import Tables

    tables = Tables()
    scope = or_(tables.run.c.state.in_(("queued", "running")), tables.run.c.id > RUNS - 20)
    with engine.connect() as connection:  # type: ignore[attr-defined]
        for statement in tables.of_look(scope):
            sql = str(statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
            for row in connection.execute(text("explain (analyze, buffers) " + sql.replace(":", "\\:"))):
                print(row[0][:240])


if __name__ == "__main__":
    main()
