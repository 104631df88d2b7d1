#!/usr/bin/env bash
# Finding: `earthengine task wait` has the exit code 0 where exports have failed, if it waits for more than one; and where
# its `--timeout` ends before the exports do, for one, too. Only for one that has failed is it 1. So a BashOperator that
# waits in this way succeeds, and the next task reads outputs that are not there.
#
# Guess before the first run, from its help ("Waits for the specified task or tasks to complete"): 1 in all of these, and
# one exception more for each export that has failed.
# Seen 2026-11-30, Python 3.11, earthengine-api 1.7.50, a server on this machine that answers about three operations:
#   wait FAILED: 1
#   wait SUCCEEDED FAILED: 0
#   wait FAILED FAILED: 0
#   wait --timeout 1 RUNNING: 0
#   wait --timeout 1 RUNNING FAILED: 0
# What follows for this provider: docs/results/versions.md names it: the decorator and the sensor fail. Fails if the client changes that.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "earthengine-api==1.7.50"
cat > "$work/waiting.py" <<'PYTHON'
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

folder = Path(sys.argv[1])
STRING = {"type": "string", "location": "path", "required": True}


def method(name, parameter, path):
    """Describe a method as the API's discovery document does."""
    answer = {"response": {"$ref": "Any"}, "httpMethod": "GET"}
    return {"id": name, "path": path, "parameters": {parameter: STRING}, "parameterOrder": [parameter], **answer}


RESOURCES = {
    "operations": {"methods": {"get": method("operations.get", "name", "v1/{+name}")}},
    "algorithms": {"methods": {"list": method("algorithms.list", "parent", "v1/{+parent}/algorithms")}},
}
DESCRIPTION = {
    "name": "earthengine", "version": "v1", "servicePath": "", "batchPath": "batch",
    "schemas": {"Any": {"id": "Any", "type": "object"}}, "resources": {"projects": {"resources": RESOURCES}},
    "parameters": {"prettyPrint": {"type": "boolean", "location": "query"}},
}


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        if "/operations/" in self.path:
            state = self.path.partition("?")[0].rpartition("/")[2]
            answer = {"name": f"projects/p/operations/{state}", "metadata": {"state": state}, "done": state != "RUNNING"}
            if state == "FAILED":
                answer["error"] = {"code": 3, "message": "Image.load: no such image."}
            self.send(answer)
        elif "/algorithms" in self.path:
            self.send({"algorithms": []})
        else:
            self.send({**DESCRIPTION, "rootUrl": f"{URL}/", "baseUrl": f"{URL}/"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"})

    def send(self, answer):
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
URL = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(*form).decode()
account = {"type": "service_account", "client_email": "a@p.example", "private_key": key, "private_key_id": "k"}
(folder / "key.json").write_text(json.dumps({**account, "project_id": "p", "token_uri": f"{URL}/token"}))
(folder / "config.json").write_text(
    json.dumps({"url": URL, "project": "p", "account": account["client_email"], "private_key": str(folder / "key.json")})
)
program = [str(Path(sys.executable).with_name("earthengine")), "--ee_config", str(folder / "config.json"), "task"]
for arguments in (
    "wait FAILED",
    "wait SUCCEEDED FAILED",
    "wait FAILED FAILED",
    "wait --timeout 1 RUNNING",
    "wait --timeout 1 RUNNING FAILED",
):
    ended = subprocess.run([*program, *arguments.split()], capture_output=True, text=True)
    print(f"{arguments}: {ended.returncode}")
    print(ended.stdout, ended.stderr, file=sys.stderr)
PYTHON
seen=$("$work/venv/bin/python" "$work/waiting.py" "$work" 2> "$work/details") || { cat "$work/details"; exit 1; }
echo "$seen"
[ "$seen" = "wait FAILED: 1
wait SUCCEEDED FAILED: 0
wait FAILED FAILED: 0
wait --timeout 1 RUNNING: 0
wait --timeout 1 RUNNING FAILED: 0" ] || { cat "$work/details"; exit 1; }
