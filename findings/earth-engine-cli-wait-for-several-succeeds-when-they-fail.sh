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
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "earthengine-api==1.7.50"
cat > "$work/waiting.py" <<'PYTHON'
import subprocess
import sys
from pathlib import Path

from answering import TOKEN, configuration, method, serve


def answer(verb, path, _):
    if verb == "POST":
        return TOKEN
    if "/operations/" not in path:
        return 200, {"algorithms": []}
    state = path.partition("?")[0].rpartition("/")[2]
    operation = {"name": f"projects/p/operations/{state}", "metadata": {"state": state}, "done": state != "RUNNING"}
    if state == "FAILED":
        operation["error"] = {"code": 3, "message": "Image.load: no such image."}
    return 200, operation


folder = Path(sys.argv[1])
url = serve(
    answer,
    operations={"get": method("operations.get", "GET", "{+name}")},
    algorithms={"list": method("algorithms.list", "GET", "{+parent}/algorithms", "parent")},
)
program = [str(Path(sys.executable).with_name("earthengine")), "--ee_config", configuration(folder, url), "task"]
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
