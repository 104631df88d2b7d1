#!/usr/bin/env bash
# Finding: geemap's exports of a collection give every image the same `fileNamePrefix`, and with it the same file: in
# Cloud Storage, each export replaces the one before. Only the first gets the `formatOptions`, because the Earth Engine
# client empties the shared dict (earth-engine-client-empties-the-options-of-an-export.sh). With one description too few,
# the function starts nothing, prints why, and returns None, as it does when all is well.
#
# Guess before the first run, from the Drive helper's docstring ("Defaults to the name of the task"): the prefix is put
# before each image's name; all exports have the same options; a wrong number of descriptions raises ValueError.
# Seen 2026-11-30, Python 3.11, geemap 0.37.2, earthengine-api 1.7.50, a server on this machine; a collection of "a" and "b":
#   no prefix:   a.tif, options True; b.tif, options None
#   prefix tile: tile.tif, options True; tile.tif, options None
#   one description for two images: returned None, started 0
# What follows for this provider: docs/results/versions.md names it: export each image alone. Fails if geemap or the
# client changes that.
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "geemap==0.37.2" "earthengine-api==1.7.50"
cat > "$work/exporting.py" <<'PYTHON'
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import ee
import geemap
from answering import method, serve
from google.oauth2.credentials import Credentials

ALGORITHMS = json.loads((Path(ee.__file__).parent / "tests/algorithms.json").read_text())
asked = []


def answer(verb, path, body):
    if "algorithms" in path:
        return 200, ALGORITHMS
    if "value:compute" in path:
        return 200, {"result": 2 if "Collection.size" in json.dumps(body) else ["a", "b"]}
    asked.append(body["fileExportOptions"])
    return 200, {"name": "projects/p/operations/A", "metadata": {"state": "PENDING"}}


url = serve(
    answer,
    algorithms={"list": method("algorithms.list", "GET", "{+parent}/algorithms", "parent")},
    value={"compute": method("value.compute", "POST", "{+project}/value:compute", "project")},
    image={"export": method("image.export", "POST", "{+project}/image:export", "project")},
)
ee.Initialize(Credentials("a-token"), project="p", url=url)


def export(**options):
    asked.clear()
    images = ee.ImageCollection([ee.Image(1), ee.Image(2)])
    with redirect_stdout(StringIO()):
        returned = geemap.ee_export_image_collection_to_cloud_storage(images, bucket="bucket", scale=30, **options)
    return returned, asked


def described(exports):
    return "; ".join(
        f"{one['cloudStorageDestination']['filenamePrefix']}.tif, options {one.get('geoTiffOptions', {}).get('cloudOptimized')}"
        for one in exports
    )


print("no prefix:  ", described(export(formatOptions={"cloudOptimized": True})[1]))
print("prefix tile:", described(export(formatOptions={"cloudOptimized": True}, fileNamePrefix="tile")[1]))
returned, started = export(descriptions=["a"])
print(f"one description for two images: returned {returned}, started {len(started)}")
PYTHON
seen=$("$work/venv/bin/python" "$work/exporting.py")
echo "$seen"
[ "$seen" = "no prefix:   a.tif, options True; b.tif, options None
prefix tile: tile.tif, options True; tile.tif, options None
one description for two images: returned None, started 0" ]
