#!/usr/bin/env bash
# Finding: with google-api-python-client, `service.projects()` is not a look-up. Each call builds a new object, and a new
# function with its docstring for every method of the collection, from the discovery document. Two levels of a small API
# take longer than making the request from them; earthengine-api asks for both levels at each start of an export.
#
# Guess before the run: the objects are made once with the service, and a call returns the same one.
# Seen 2026-11-30, Python 3.11, google-api-python-client 2.202.0, two levels of 20 methods each:
#   the same object: False; the same function: False; keeping both levels makes a request 57 times as fast
# What follows for this provider: inside a task's function these objects are kept (earth_engine/ee_client/patches.py):
# a start of the official client takes half of its processor time. Fails if the library keeps them itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/built.py" <<'PYTHON'
import time

from googleapiclient.discovery import build_from_document

parameters = {"project": {"type": "string", "required": True, "location": "path"}}
methods = {
    f"verb{number}": {
        "id": f"demo.projects.images.verb{number}",
        "path": f"v1/{{+project}}:verb{number}",
        "httpMethod": "POST",
        "parameters": parameters,
        "parameterOrder": ["project"],
        "description": "Does something.",
    }
    for number in range(20)
}
document = {
    "kind": "discovery#restDescription",
    "name": "demo",
    "version": "v1",
    "rootUrl": "https://demo.example/",
    "servicePath": "",
    "baseUrl": "https://demo.example/",
    "batchPath": "batch",
    "schemas": {},
    "resources": {"projects": {"methods": methods, "resources": {"images": {"methods": methods}}}},
}
service = build_from_document(document, developerKey="none")
kept = service.projects().images()


def seconds(make):
    begun = time.perf_counter()
    for _ in range(200):
        make()
    return time.perf_counter() - begun


asked = seconds(lambda: service.projects().images().verb1(project="p"))
ratio = asked / seconds(lambda: kept.verb1(project="p"))
same = service.projects() is service.projects()
function = service.projects().verb1.__func__ is service.projects().verb1.__func__
print(f"the same object: {same}; the same function: {function}; keeping both levels makes a request {ratio:.0f} times as fast")
assert not same and not function and ratio > 1.5
PYTHON
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check google-api-python-client==2.202.0
"$work/venv/bin/python" "$work/built.py"
