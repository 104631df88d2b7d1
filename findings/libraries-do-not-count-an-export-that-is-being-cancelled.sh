#!/usr/bin/env bash
# Finding: while Earth Engine has not confirmed a cancel (operation state CANCELLING), the export still runs and uses
# quota, but three libraries that list tasks no longer count it. The summaries of geeup and geeadd have no row for it:
# they count the word CANCELLING, and the Python client says CANCEL_REQUESTED. openet-core's list of active tasks leaves
# it out. The client itself counts it as active.
#
# Guess before the first run, from their code: both summaries count it as cancelled, and openet-core returns it.
# Seen 2026-11-30, Python 3.11, earthengine-api 1.7.50, geeup 2.0.0, geeadd 2.1.0, openet-core 0.9.0, a server on this
# machine that lists four operations (PENDING, RUNNING, CANCELLING, CANCELLED):
#   earthengine-api, active: PENDING, RUNNING, CANCELLING
#   geeup, summary: 1 running, 1 pending, 1 cancelled
#   geeadd, summary: 1 running, 1 pending, 1 cancelled
#   openet-core, active: PENDING, RUNNING
# What follows for this provider: docs/results/versions.md names it. Here, an operation counts as active until Earth
# Engine says that it has ended. Fails if a library changes that.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  "earthengine-api==1.7.50" "geeup==2.0.0" "geeadd==2.1.0" "openet-core==0.9.0"
cat > "$work/counting.py" <<'PYTHON'
import re
import sys

import ee
import geeup.tasks
import openet.core.utils
from answering import PAGE, method, serve
from click.testing import CliRunner
from google.oauth2.credentials import Credentials

sys.argv = ["geeadd"]  # With a command, its import initialises ee.
from geeadd.geeadd import cli  # noqa: E402

STATES = ("PENDING", "RUNNING", "CANCELLING", "CANCELLED")


def operation(state):
    times = {f"{word}Time": "2026-11-30T10:00:00Z" for word in ("create", "start", "update")}
    metadata = {"state": state, "type": "EXPORT_IMAGE", "description": state, "priority": 100, **times}
    return {"name": f"projects/p/operations/{state}", "metadata": metadata, "done": state == "CANCELLED"}


def summary(counts):
    return ", ".join(f"{counts[word]} {word.lower()}" for word in ("Running", "Pending", "Cancelled"))


url = serve(
    lambda *_: (200, {"operations": [operation(state) for state in STATES]}),
    operations={"list": method("operations.list", "GET", "{+name}/operations", query=PAGE)},
)
ee.data.initialize(Credentials("a-token"), api_base_url=url, cloud_api_base_url=url, project="p")
active = [task.config["description"] for task in ee.batch.Task.list() if ee.batch.Task.State.active(task.state)]
print("earthengine-api, active:", ", ".join(active))
counted = geeup.tasks.summarize_tasks()
print("geeup, summary:", summary({"Pending": counted["READY"], **{key.title(): n for key, n in counted.items()}}))
printed = CliRunner().invoke(cli, ["tasks", "list"]).output
print("geeadd, summary:", summary(dict(re.findall(r"(Running|Pending|Cancelled)\W+(\d+)", printed))))
print("openet-core, active:", ", ".join(sorted(openet.core.utils.get_ee_tasks(), key=STATES.index)))
PYTHON
seen=$("$work/venv/bin/python" "$work/counting.py")
echo "$seen"
[ "$seen" = "earthengine-api, active: PENDING, RUNNING, CANCELLING
geeup, summary: 1 running, 1 pending, 1 cancelled
geeadd, summary: 1 running, 1 pending, 1 cancelled
openet-core, active: PENDING, RUNNING" ]
