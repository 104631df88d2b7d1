"""A PostgreSQL database as an Airflow of some years has it: how long the collector's look takes, and by which plan.

Run it with the Airflow whose tables are meant: ``PYTHONPATH=.:tests/system .venv-3.3.2/bin/python
benchmarks/collector_database.py``. It prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS, ACTIVE, TASKS, XCOMS = 20_500, 500, 301_000, 2_000_000


def fill(connection: object) -> None:
    """Fill the tables: runs of 100 DAGs, each with some 15 tasks, of which one owns an operation."""
    from sqlalchemy import text

    per_run = round(TASKS / RUNS)
    per_task = round(XCOMS / TASKS)

    def do(statement: str) -> None:
        connection.execute(text(statement))  # type: ignore[attr-defined]

    do("set session_replication_role = replica")  # No foreign keys: the rows that matter are all here.
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
            "try_number": 1,
            "max_tries": 2,
            "run_started": None,
            "intent": "own",
            "cancel_on": ["kill", "failure", "timeout"],
        }
    )
    shared = "n, 'dag_' || (n % 100), 'scheduled__' || n, 'task_' || t, -1"
    into = "insert into xcom (dag_run_id, dag_id, run_id, task_id, map_index, key, value, timestamp) select"
    do(f"{into} {shared}, 'key_' || k, {value}, now() from {source}, generate_series(1, {per_task - 1}) k")
    cast = "::jsonb" if is_json(connection) else "::bytea"
    do(f"{into} {shared}, 'earth_engine_operations', '{record}'{cast}, now() from {source} where t in (3, 9)")
    settled = "'{\"try_number\": ' || (case when n % 50 = 0 then 2 else 1 end) || '}'"
    of_ended = f"t = 3 or n <= {RUNS - ACTIVE}"
    do(
        f"{into} {shared}, 'earth_engine_settled', ({settled}){cast}, now() from {source}"
        f" where t in (3, 9) and ({of_ended})"
    )


def insert(do: object, table: str, needed: dict[str, str], values: dict[str, str], source: str) -> None:
    """Insert rows: what is given, and something for what a column needs."""
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
    """Fill, look, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", action="store_true", help="print the plans, too")
    parser.add_argument("--keep", default="", help="a database to use, or its URL is printed where it is 'yes'")
    arguments = parser.parse_args()
    from servers import Postgres

    with Postgres() as postgres:
        os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-ee-bench-")
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = postgres.url
        airflow = str(Path(sys.executable).parent / "airflow")
        subprocess.run([airflow, "db", "migrate"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        measure(arguments)
        if arguments.keep:
            print(postgres.url, flush=True)
            time.sleep(36000)


def measure(arguments: argparse.Namespace) -> None:
    """Time the look."""
    from sqlalchemy import text

    from airflow_ee_provider.airflow_versions import database_of_its_own
    from airflow_ee_provider.lifecycle.look import Database

    engine = database_of_its_own()
    with engine.begin() as connection:
        fill(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("dag_run", "task_instance", "xcom"):
            connection.execute(text(f"vacuum analyze {table}"))
        rows = {
            table: connection.execute(text(f"select count(*) from {table}")).scalar()
            for table in ("dag_run", "task_instance", "xcom")
        }
    database = Database(engine.connect)
    newest = database.newest_run()
    named = range(newest - ACTIVE - 500, newest + 1)
    looks = []
    for _ in range(20):
        begun = time.perf_counter()
        seen = database.look(newest, named)
        looks.append(1000 * (time.perf_counter() - begun))
    found = {"rows": rows, "active": len(seen.active), "ended": len(seen.ended), "records": len(seen.instances)}
    print(json.dumps({**found, "look_ms": round(statistics.median(looks), 1), "worst_ms": round(max(looks), 1)}))
    if arguments.plan:
        explain(engine, database, newest, named)


def explain(engine: object, database: object, newest: int, named: range) -> None:
    """Print the plans."""
    from sqlalchemy import or_, text
    from sqlalchemy.dialects import postgresql

    run = database._run.c  # type: ignore[attr-defined]
    scope = or_(run.state.in_(("queued", "running")), run.id > newest, run.id.in_(list(named)))
    statements = [database._tables.of_records(scope)]  # type: ignore[attr-defined]
    if database._tables.store is not None:  # type: ignore[attr-defined]
        statements.append(database._tables.of_stored(scope))  # type: ignore[attr-defined]
    with engine.connect() as connection:  # type: ignore[attr-defined]
        for statement in statements:
            sql = str(statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
            print(sql[:3000])
            for row in connection.execute(text("explain (analyze, buffers) " + sql.replace(":", "\\:"))):
                print(row[0][:240])


if __name__ == "__main__":
    main()
