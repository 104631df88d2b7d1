#!/usr/bin/env bash
# Finding: with `--output json`, Airflow 3.3.2 logs to the standard error, but its standard output begins with each warning
# that comes before the command line has been parsed, and is not JSON. An option under its old name is enough. On Python
# 3.14, every command has two: Airflow's own definition of its arguments warns.
#
# Guess before the first run: 3.3.1 sent the logs of such commands to the standard error, so warnings go there, too, as
# those of 2.11 do.
# Seen 2026-12-01, with this repository's constraints, Python 3.11:
#   apache-airflow 2.11.2, an option under its old name: JSON
#   apache-airflow 3.3.2: JSON
#   apache-airflow 3.3.2, an option under its old name: a warning, then JSON
# and with Python 3.14.10, which is tried only if it is on the PATH:
#   apache-airflow 3.3.2, Python 3.14: a warning, then JSON
#   apache-airflow 3.3.2, Python 3.14, PYTHONWARNINGS=ignore::PendingDeprecationWarning: JSON
# What follows for this provider: `python -m airflow_ee_provider` writes only its result to the standard output; `airflow
# earth-engine` cannot (docs/results/versions.md). Fails if Airflow changes that.
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work"
cat > "$work/kind.py" <<'PYTHON'
import json
import sys

first, *others = sys.stdin.read().splitlines()
try:
    json.loads("\n".join([first, *others]))
except ValueError:
    json.loads(others[-1])
    print("a warning, then JSON" if "py.warnings" in first else first)
else:
    print("JSON")
PYTHON
# What `airflow pools list --output json` writes to the standard output: PYTHON VERSION [VARIABLE=VALUE]
of() {
  venv="$work/$1-$2" home="$work/home-$1-$2"
  if [ ! -e "$venv" ]; then
    "$1" -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check \
      --constraint "$here/constraints/airflow-$2.txt" "apache-airflow==$2" >> "$work/log" 2>&1
    AIRFLOW_HOME="$home" "$venv/bin/airflow" db migrate >> "$work/log" 2>&1
  fi
  env AIRFLOW_HOME="$home" ${3:+"$3"} "$venv/bin/airflow" pools list --output json 2>> "$work/log" | "$1" "$work/kind.py"
}
old() { of "$1" "$2" "AIRFLOW__CORE__SQL_ALCHEMY_CONN=sqlite:///$work/home-$1-$2/airflow.db"; }
seen=$(
  echo "apache-airflow 2.11.2, an option under its old name: $(old python3 2.11.2)"
  echo "apache-airflow 3.3.2: $(of python3 3.3.2)"
  echo "apache-airflow 3.3.2, an option under its old name: $(old python3 3.3.2)"
)
echo "$seen"
[ "$seen" = "apache-airflow 2.11.2, an option under its old name: JSON
apache-airflow 3.3.2: JSON
apache-airflow 3.3.2, an option under its old name: a warning, then JSON" ] || { cat "$work/log" >&2; exit 1; }
command -v python3.14 > "$work/found" || exit 0
quiet=PYTHONWARNINGS=ignore::PendingDeprecationWarning
seen=$(
  echo "apache-airflow 3.3.2, Python 3.14: $(of python3.14 3.3.2)"
  echo "apache-airflow 3.3.2, Python 3.14, $quiet: $(of python3.14 3.3.2 $quiet)"
)
echo "$seen"
[ "$seen" = "apache-airflow 3.3.2, Python 3.14: a warning, then JSON
apache-airflow 3.3.2, Python 3.14, $quiet: JSON" ]
