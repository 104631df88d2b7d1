#!/usr/bin/env bash
# Finding: `earthengine task cancel` stops at the first operation that it cannot read or may not cancel, also with `all`.
# It sends no cancel for the others, which continue to run. Its output names only what it has tried. So one export of a
# colleague that this account may not cancel, or one id that has expired, keeps all that follow it running.
#
# Guess before the first run, from its help ("IDs of one or more tasks to cancel, or `all` to cancel all tasks"): it
# tries each, prints what it could not cancel, and ends with 1.
# Seen 2026-11-30, Python 3.11, earthengine-api 1.7.50, a server on this machine that lists three running operations and
# refuses to cancel "theirs" (403); it does not know "gone" (404):
#   cancel all: exit 1, sent first theirs
#   cancel gone first third: exit 1, sent
#   cancel first gone third: exit 1, sent first
# What follows for this provider: docs/results/versions.md names it: the cancelling operator and the notifier send every
# cancel, and fail at the end with each refusal. Fails if the client changes that.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "earthengine-api==1.7.50"
cat > "$work/cancelling.py" <<'PYTHON'
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


def method(name, verb, path, **parameters):
    """Describe a method as the API's discovery document does."""
    about = {"id": f"operations.{name}", "httpMethod": verb, "path": path, "response": {"$ref": "Any"}}
    return {**about, "parameters": {"name": STRING, **parameters}, "parameterOrder": ["name"]}


PAGE = {"pageSize": {"type": "integer", "location": "query"}, "pageToken": {"type": "string", "location": "query"}}
METHODS = {
    "get": method("get", "GET", "v1/{+name}"),
    "list": method("list", "GET", "v1/{+name}/operations", **PAGE),
    "cancel": {**method("cancel", "POST", "v1/{+name}:cancel"), "request": {"$ref": "Any"}},
}
ALGORITHMS = {"list": {**method("list", "GET", "v1/{+parent}/algorithms"), "id": "algorithms.list",
                       "parameters": {"parent": STRING}, "parameterOrder": ["parent"]}}
RESOURCES = {"operations": {"methods": METHODS}, "algorithms": {"methods": ALGORITHMS}}
NAMES = ("first", "theirs", "third")
sent = []
DESCRIPTION = {
    "name": "earthengine", "version": "v1", "servicePath": "", "batchPath": "batch",
    "schemas": {"Any": {"id": "Any", "type": "object", "properties": {"nextPageToken": {"type": "string"}}}},
    "resources": {"projects": {"resources": RESOURCES}},
    "parameters": {"prettyPrint": {"type": "boolean", "location": "query"}},
}


def running(name):
    return {"name": f"projects/p/operations/{name}", "metadata": {"state": "RUNNING"}, "done": False}


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.endswith("/operations"):
            self.send({"operations": [running(name) for name in NAMES]})
        elif path.endswith("/gone"):
            self.send({"error": {"code": 404, "message": "Operation not found.", "status": "NOT_FOUND"}}, 404)
        elif "/operations/" in path:
            self.send(running(path.rpartition("/")[2]))
        elif path.endswith("/algorithms"):
            self.send({"algorithms": []})
        else:
            self.send({**DESCRIPTION, "rootUrl": f"{URL}/", "baseUrl": f"{URL}/"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if ":cancel" not in self.path:
            self.send({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"})
            return
        sent.append(self.path.partition(":cancel")[0].rpartition("/")[2])
        if sent[-1] == "theirs":
            self.send({"error": {"code": 403, "message": "Permission denied.", "status": "PERMISSION_DENIED"}}, 403)
        else:
            self.send({})

    def send(self, answer, code=200):
        text = json.dumps(answer).encode()
        self.send_response(code)
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
for arguments in ("cancel all", "cancel gone first third", "cancel first gone third"):
    sent.clear()
    ended = subprocess.run([*program, *arguments.split()], capture_output=True, text=True)
    print(f"{arguments}: exit {ended.returncode}, sent", *sent)
    print(ended.stdout, ended.stderr, file=sys.stderr)
PYTHON
seen=$("$work/venv/bin/python" "$work/cancelling.py" "$work" 2> "$work/details") || { cat "$work/details"; exit 1; }
echo "$seen"
[ "$seen" = "cancel all: exit 1, sent first theirs
cancel gone first third: exit 1, sent
cancel first gone third: exit 1, sent first" ] || { cat "$work/details"; exit 1; }
