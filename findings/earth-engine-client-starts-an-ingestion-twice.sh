#!/usr/bin/env bash
# Finding: `ee.data.startIngestion(request_id, …)` never sends its request id. The id only decides whether the client
# repeats the request, so that an answer that is lost starts two ingestions. `startTableIngestion` sends its id.
#
# Guess before the first run, from its docstring ("a unique ID for the ingestion"): both send it, as the exports do.
# Seen 2026-11-29, Python 3.11, earthengine-api 1.7.50, a server on this machine that cuts the connection after the first
# request:
#   startIngestion:      requests 2, request ids None None
#   startTableIngestion: requests 2, request ids an-id an-id
# What follows for this provider: inside @task.earth_engine, the request gets an id of ours, and a lost answer starts one
# ingestion (tests/integration/test_exports_of.py). Fails if the client changes that.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "earthengine-api==1.7.50"
cat > "$work/lost.py" <<'PYTHON'
import ee
import google.oauth2.credentials
from answering import method, serve

asked = []


def answer(_verb, _path, body):
    asked.append(body)
    return None if len(asked) == 1 else (200, {"name": "projects/p/operations/A"})  # The first answer is lost.


KINDS = {kind: {"import": method(f"{kind}.import", "POST", f"{{+project}}/{kind}:import", "project")}
         for kind in ("image", "table")}
ee.data.initialize(google.oauth2.credentials.Credentials(token="t"), cloud_api_base_url=serve(answer, **KINDS), project="p")
manifest = {"name": "projects/p/assets/x"}
for name, start in (("startIngestion", ee.data.startIngestion), ("startTableIngestion", ee.data.startTableIngestion)):
    asked.clear()
    start("an-id", dict(manifest))
    print(f"{name}: requests {len(asked)}, request ids", *(one.get("requestId") for one in asked))
PYTHON
seen=$("$work/venv/bin/python" "$work/lost.py")
echo "$seen"
[ "$seen" = "startIngestion: requests 2, request ids None None
startTableIngestion: requests 2, request ids an-id an-id" ]
