#!/usr/bin/env bash
# Finding: ee-client (SEPAL's `eeclient`) returns None for an export that runs, as it does for one that does not exist:
# `get_task_async` where the server refuses the request (403, for example), and `get_task_by_name_async` where the export
# is on the second page of the list. A program that starts what it does not find starts it again.
#
# Guess before the first run, from both docstrings ("return None if nothing is found"): a refusal raises, and all pages
# are read.
# Seen 2026-11-30, Python 3.11, ee-client 3.3.1, a server on this machine:
#   get_task_async, 404: None
#   get_task_async, 403: None
#   get_task_by_name_async, first page: RUNNING
#   get_task_by_name_async, second page: None
# What follows for this provider: docs/results/versions.md names it. Only a 404 is "not found" here, and each page of a
# list is read. Fails if the library changes that.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "ee-client==3.3.1"
cat > "$work/looking.py" <<'PYTHON'
import asyncio
import logging

import eeclient.client
from answering import error, serve
from eeclient.tasks import get_task_async, get_task_by_name_async
from google.auth.credentials import Credentials

OPERATIONS = "/v1/projects/p/operations"


class Token(Credentials):
    def refresh(self, _):
        self.token = "a-token"


def running(name):
    times = {"createTime": "2026-11-30T10:00:00Z", "updateTime": "2026-11-30T10:00:00Z"}
    metadata = {"@type": "type.googleapis.com/google.earthengine.v1.OperationMetadata", "type": "EXPORT_IMAGE"}
    return {"name": f"projects/p/operations/{name}",
            "metadata": {**metadata, **times, "state": "RUNNING", "description": name, "priority": 100}}


ANSWERS = {
    OPERATIONS: (200, {"operations": [running("first")], "nextPageToken": "2"}),
    f"{OPERATIONS}?pageToken=2": (200, {"operations": [running("second")]}),
    f"{OPERATIONS}/missing": error(404, "NOT_FOUND", "Not found."),
    f"{OPERATIONS}/first": error(403, "PERMISSION_DENIED", "No."),
}


async def main():
    session = eeclient.client.EESession.from_google_credentials(Token(), project="p")
    for code, name in ((404, "missing"), (403, "first")):
        print(f"get_task_async, {code}:", await get_task_async(session, name))
    for page in ("first", "second"):
        found = await get_task_by_name_async(session, page)
        print(f"get_task_by_name_async, {page} page:", found and found.metadata.state)


eeclient.client.EARTH_ENGINE_API_URL = serve(lambda _verb, path, _body: ANSWERS[path]) + "/v1"
logging.disable()
asyncio.run(main())
PYTHON
seen=$("$work/venv/bin/python" "$work/looking.py")
echo "$seen"
[ "$seen" = "get_task_async, 404: None
get_task_async, 403: None
get_task_by_name_async, first page: RUNNING
get_task_by_name_async, second page: None" ]
