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
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "earthengine-api==1.7.50"
cat > "$work/cancelling.py" <<'PYTHON'
import subprocess
import sys
from pathlib import Path

from answering import PAGE, TOKEN, configuration, error, method, serve

sent = []


def running(name):
    return {"name": f"projects/p/operations/{name}", "metadata": {"state": "RUNNING"}, "done": False}


def answer(verb, path, _):
    path = path.partition("?")[0]
    name = path.removesuffix(":cancel").rpartition("/")[2]
    if path.endswith(":cancel"):
        sent.append(name)
        return error(403, "PERMISSION_DENIED", "Permission denied.") if name == "theirs" else (200, {})
    if verb == "POST":
        return TOKEN
    if name == "algorithms":
        return 200, {"algorithms": []}
    if name == "operations":
        return 200, {"operations": [running(one) for one in ("first", "theirs", "third")]}
    return error(404, "NOT_FOUND", "Operation not found.") if name == "gone" else (200, running(name))


folder = Path(sys.argv[1])
url = serve(
    answer,
    operations={
        "get": method("operations.get", "GET", "{+name}"),
        "list": method("operations.list", "GET", "{+name}/operations", query=PAGE),
        "cancel": method("operations.cancel", "POST", "{+name}:cancel"),
    },
    algorithms={"list": method("algorithms.list", "GET", "{+parent}/algorithms", "parent")},
)
program = [str(Path(sys.executable).with_name("earthengine")), "--ee_config", configuration(folder, url), "task"]
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
