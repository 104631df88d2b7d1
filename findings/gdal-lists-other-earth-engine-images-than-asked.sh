#!/usr/bin/env bash
# Finding: GDAL's Earth Engine driver (EEDA) returns other images than its filter and the collection say, without an
# error or a warning: an empty page ends the list, though a page follows it; "NOT … IN" excludes the first value only;
# "startTime = …" asks for all images from that time on. It leaves the filter to Earth Engine, and does not check the
# result again.
#
# Guess before the first run: it reads the next page after an empty one; each filter selects what it selects in a
# GeoPackage, since GDAL evaluates by itself what the server cannot.
# Seen 2026-11-30, Python 3.11, pyogrio 0.13.0 (GDAL 3.12.4), a server on this machine that answers in three pages, the
# second without images; with a filter, in one. In Google's filters, as in SQL, `NOT` applies before `OR`:
#   no filter:           returned A, asked for the third page: False
#   NOT IN (B, C):       filter=(NOT sensor = "B" OR sensor = "C")
#   startTime = 2 March: startTime=2026-03-02T00:00:00Z
# What follows for this provider: nothing. A DAG that makes one export for each image of a collection should list the
# images with `ee`. Fails if GDAL changes that.
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "pyogrio==0.13.0"
cat > "$work/server.py" <<'PYTHON'
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from answering import serve

asked = Path(sys.argv[1])


def image(sensor):
    grid = {"crsCode": "EPSG:4326", "dimensions": {"width": 1, "height": 1}, "affineTransform": {"scaleX": 1, "scaleY": -1}}
    name, band = f"projects/p/assets/c/{sensor}", {"id": "b", "dataType": {"precision": "INT"}, "grid": grid}
    times = {"startTime": "2026-03-01T00:00:00Z", "updateTime": "2026-03-09T00:00:00Z"}
    return {"type": "IMAGE", "name": name, **times, "bands": [band], "properties": {"sensor": sensor}}


def answer(_verb, path, _body):
    query = parse_qs(urlsplit(path).query)
    with asked.open("a") as file:
        print(*(f"{name}={values[0]}" for name, values in query.items()), file=file)
    token = query.get("pageToken", [""])[0]
    if not token:
        following = {} if query.get("filter") or query.get("startTime") else {"nextPageToken": "second"}
        return 200, {"images": [image("A")], **following}
    return 200, {"nextPageToken": "third"} if token == "second" else {"images": [image("D")]}


print(serve(answer), flush=True)
threading.Event().wait()
PYTHON
cat > "$work/listing.py" <<'PYTHON'
import os
import subprocess
import sys
from pathlib import Path

asked = Path(sys.argv[1])
command = [sys.executable, f"{asked.parent}/server.py", str(asked)]
# A process of its own: pyogrio lets no other thread of Python run while it waits.
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
    os.environ |= {"EEDA_URL": f"{server.stdout.readline().strip()}/v1/", "EEDA_BEARER": "t"}
    from pyogrio.raw import read

    def names(**options):
        asked.write_text("")
        _, _, _, fields = read("EEDA:projects/p/assets/c", columns=["name"], **options)
        return [name.rpartition("/")[2] for name in fields[0]], asked.read_text().split("\n", 1)[1].strip()

    returned, requests = names()
    print(f"no filter:           returned {' '.join(returned)}, asked for the third page: {'third' in requests}")
    print("NOT IN (B, C):      ", names(where="NOT sensor IN ('B', 'C')")[1])
    print("startTime = 2 March:", names(where="startTime = '2026/03/02 00:00:00'")[1])
    server.kill()
PYTHON
seen=$("$work/venv/bin/python" "$work/listing.py" "$work/asked")
echo "$seen"
[ "$seen" = 'no filter:           returned A, asked for the third page: False
NOT IN (B, C):       filter=(NOT sensor = "B" OR sensor = "C")
startTime = 2 March: startTime=2026-03-02T00:00:00Z' ]
