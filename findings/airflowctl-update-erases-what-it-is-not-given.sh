#!/usr/bin/env bash
# Finding: `airflowctl connections update` and `variables update` erase each field that their command line does not
# name, and end with 0: a new description takes a connection's host and extra away, and a variable's value becomes
# "null". The password stays. The commands send every field, the absent ones as null.
#
# Guess before the first run, from their help ("Update an existing connection") and the request, a PATCH: only the fields
# that are named change.
# Seen 2026-11-30, Python 3.11, apache-airflow-ctl 0.1.5, apache-airflow 3.3.2 with this repository's constraints:
#   connection before: host h.example, password one, extra {'project': 'p'}, description None
#   connection after:  host None, password one, extra {}, description New
#   variable before:   one
#   variable after:    null
# What follows for this provider: a connection's project and most of its credentials are in its extra, so such an update
# takes them away (docs/connection.md). Fails if airflowctl changes that.
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'kill $server; wait $server 2>/dev/null; rm -rf "$work"' EXIT
export AIRFLOW_HOME="$work/home" HOME="$work/home" AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True
mkdir "$work/home"
python3 -m venv "$work/airflow"
python3 -m venv "$work/ctl"
"$work/airflow/bin/pip" install --quiet --disable-pip-version-check \
  --constraint "$here/constraints/airflow-3.3.2.txt" "apache-airflow==3.3.2"
"$work/ctl/bin/pip" install --quiet --disable-pip-version-check "apache-airflow-ctl==0.1.5"
export PATH="$work/airflow/bin:$work/ctl/bin:$PATH"
airflow db migrate > "$work/log" 2>&1
airflow connections add one --conn-type generic --conn-host h.example --conn-password one \
  --conn-extra '{"project": "p"}' >> "$work/log" 2>&1
airflow variables set one one >> "$work/log" 2>&1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
airflow api-server --host 127.0.0.1 --port "$port" --workers 1 >> "$work/log" 2>&1 &
server=$!
until curl --silent --fail --output "$work/version" "http://127.0.0.1:$port/api/v2/version"; do
  kill -0 $server || exit 1
  sleep 1
done
token=$(curl --silent "http://127.0.0.1:$port/auth/token" | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
export AIRFLOW_CLI_TOKEN=$token
airflowctl auth login --api-url "http://127.0.0.1:$port" --api-token "$token" --skip-keyring >> "$work/log" 2>&1
cat > "$work/connection.py" <<'PYTHON'
import json
import sys

one = json.load(sys.stdin)[0]
print(f"host {one['host']}, password {one['password']}, extra {one['extra_dejson']}, description {one['description']}")
PYTHON
connection() { airflow connections get one --output json 2>> "$work/log" | python3 "$work/connection.py"; }
variable() { airflow variables get one 2>> "$work/log" | tail -1; }
seen=$(
  echo "connection before: $(connection)"
  airflowctl connections update --connection-id one --conn-type generic --description New >> "$work/log" 2>&1 || echo refused
  echo "connection after:  $(connection)"
  echo "variable before:   $(variable)"
  airflowctl variables update --key one --description New >> "$work/log" 2>&1 || echo refused
  echo "variable after:    $(variable)"
)
echo "$seen"
[ "$seen" = "connection before: host h.example, password one, extra {'project': 'p'}, description None
connection after:  host None, password one, extra {}, description New
variable before:   one
variable after:    null" ]
