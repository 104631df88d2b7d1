#!/usr/bin/env bash
# Finding: in a task of Airflow 3.1, `Variable.set` and `Variable.delete` return as if all was well although the API
# server has refused them, or could not be reached: the error is logged, and the task continues. In Airflow 3.3, both
# raise AirflowRuntimeError.
#
# Guess before the run: both versions raise, as `Variable.get` and `XCom.set` do.
# Seen 2026-11-29, Python 3.11, apache-airflow 3.1.8 (task SDK 1.1.8) and 3.3.2 (1.3.2) with this repository's constraints:
#   3.1.8: set returned None; delete returned None
#   3.3.2: set raised AirflowRuntimeError; delete raised AirflowRuntimeError
# What follows for this provider: before 3.3 a task's memory (docs/starting-once.md) may not be written although nothing
# fails; the XCom, which is written first, is. Fails if Airflow changes that.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export AIRFLOW_HOME="$work/home"
cat > "$work/refused.py" <<'PYTHON'
from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms, task_runner


class Refusing:
    """A task's connection to its supervisor, which hands on that the API server has refused something."""

    def send(self, message):
        raise AirflowRuntimeError(comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500}))


task_runner.SUPERVISOR_COMMS = Refusing()


def outcome(function, *args):
    try:
        return f"returned {function(*args)}"
    except Exception as error:
        return f"raised {type(error).__name__}"


print(f"set {outcome(Variable.set, 'key', 'value')}; delete {outcome(Variable.delete, 'key')}")
PYTHON
seen() {
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install --quiet --disable-pip-version-check \
    --constraint "$here/constraints/airflow-$1.txt" "apache-airflow==$1"
  "$work/$1/bin/python" "$work/refused.py" 2> "$work/log" | tail -1
}
old=$(seen 3.1.8)
new=$(seen 3.3.2)
echo "3.1.8: $old"
echo "3.3.2: $new"
[ "$old" = "set returned None; delete returned None" ]
[ "$new" = "set raised AirflowRuntimeError; delete raised AirflowRuntimeError" ]
