#!/usr/bin/env bash
# Finding: on SQLite, `airflow db migrate` from 2.11.2 to 3.3.2 keeps the DAG runs and deletes all of their task
# instances and XComs. It ends with "Database migration done!" and warns of nothing.
#
# Guess before the run: like a PostgreSQL database, it keeps all three.
# Seen 2026-11-28, Python 3.11, apache-airflow 2.11.2 and 3.3.2 with this repository's constraints:
#   before: dag_run 1, task_instance 1, xcom 1
#   after:  dag_run 1, task_instance 0, xcom 0
# What follows for this provider: an operation that a task has recorded before such an upgrade has no owner after it
# (docs/production.md). Fails if Airflow changes that.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 2.11.2 3.3.2; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --disable-pip-version-check \
    --constraint "$here/constraints/airflow-$version.txt" "apache-airflow==$version"
done
export AIRFLOW_HOME="$work/home" AIRFLOW__CORE__LOAD_EXAMPLES=False
mkdir -p "$AIRFLOW_HOME/dags"
cat > "$AIRFLOW_HOME/dags/one.py" <<'DAG'
from datetime import datetime

from airflow.decorators import dag, task


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def one():
    @task
    def give():
        return "a value"

    give()


one()
DAG
rows() {
  python3 - "$AIRFLOW_HOME/airflow.db" <<'SQL'
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
print(*(database.execute(f"select count(*) from {table}").fetchone()[0] for table in ("dag_run", "task_instance", "xcom")))
SQL
}
"$work/2.11.2/bin/airflow" db migrate > "$work/log" 2>&1
"$work/2.11.2/bin/airflow" dags test one >> "$work/log" 2>&1
before=$(rows)
"$work/3.3.2/bin/airflow" db migrate >> "$work/log" 2>&1
after=$(rows)
echo "dag_run, task_instance, xcom: before the migration $before; after it $after"
[ "$before" = "1 1 1" ] && [ "$after" = "1 0 0" ]
