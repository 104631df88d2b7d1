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
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "earthengine-api==1.7.50"
cat > "$work/lost.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ee
import google.oauth2.credentials

IMPORT = {
    "httpMethod": "POST",
    "parameters": {"project": {"type": "string", "location": "path", "required": True}},
    "request": {"$ref": "Any"},
    "response": {"$ref": "Any"},
}
KINDS = {
    kind: {"methods": {"import": {**IMPORT, "id": f"{kind}.import", "path": f"v1/{{+project}}/{kind}:import"}}}
    for kind in ("image", "table")
}
DESCRIPTION = {
    "name": "earthengine", "version": "v1", "servicePath": "", "batchPath": "batch",
    "schemas": {"Any": {"id": "Any", "type": "object"}}, "resources": {"projects": {"resources": KINDS}},
}
asked = []


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send(json.dumps({**DESCRIPTION, "rootUrl": f"{URL}/", "baseUrl": f"{URL}/"}))

    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if len(asked) == 1:  # It has acted, and its answer is lost.
            self.connection.shutdown(2)
        else:
            self.send(json.dumps({"name": "projects/p/operations/A"}))

    def send(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
URL = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
ee.data.initialize(google.oauth2.credentials.Credentials(token="t"), cloud_api_base_url=URL, project="p")
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
