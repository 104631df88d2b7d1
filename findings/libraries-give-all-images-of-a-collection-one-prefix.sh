#!/usr/bin/env bash
# Finding: two libraries send the same file prefix for all images of a collection to Cloud Storage. geemap, if it is given
# a prefix: all exports write the same file, and each replaces the one before. geetools always: the folder and "/"; Earth
# Engine's reference calls that a path, and does not say how the file in it is named. Only the first export gets the
# `formatOptions`, because the Earth Engine client empties the shared dict
# (earth-engine-client-empties-the-options-of-an-export.sh). With one description too few, geemap starts nothing, prints
# why, and returns None, as it does when all is well.
#
# Guess before the first run, from geetools' docstring ("Each image in the Collection Will be named using the
# index_property value") and geemap's: each image has a prefix of its own, and all have the same options; a wrong number
# of descriptions raises ValueError.
# Seen 2026-11-30, Python 3.11, geemap 0.37.2, geetools 1.19.0, earthengine-api 1.7.50, a server on this machine; a
# collection of the images "a" and "b":
#   geemap, no prefix:   prefix a, optimized True; prefix b, optimized None
#   geemap, prefix tile: prefix tile, optimized True; prefix tile, optimized None
#   geetools, folder:    prefix tiles/, optimized True; prefix tiles/, optimized None
#   geemap, one description for two images: returned None, started 0
# What follows for this provider: docs/results/versions.md names it: export each image alone. Fails if a library or the
# client changes that.
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "geemap==0.37.2" "geetools==1.19.0" \
  "earthengine-api==1.7.50"
cat > "$work/exporting.py" <<'PYTHON'
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import ee
import geemap
import geetools  # noqa: F401  # Adds to ee.batch.Export.
from answering import method, serve
from google.oauth2.credentials import Credentials

ALGORITHMS = json.loads((Path(ee.__file__).parent / "tests/algorithms.json").read_text())
asked = []


def answer(verb, path, body):
    if "algorithms" in path:
        return 200, ALGORITHMS
    if "value:compute" in path:
        asks_for = json.dumps(body)
        if "Collection.size" in asks_for:
            return 200, {"result": 2}
        # geetools then asks for the index of the image that has the index "a", and of "b".
        return 200, {"result": ["a", "b"] if "AggregateFeatureCollection" in asks_for else "a" if '"a"' in asks_for else "b"}
    asked.append(body["fileExportOptions"])
    return 200, {"name": "projects/p/operations/A", "metadata": {"state": "PENDING"}}


url = serve(
    answer,
    algorithms={"list": method("algorithms.list", "GET", "{+parent}/algorithms", "parent")},
    value={"compute": method("value.compute", "POST", "{+project}/value:compute", "project")},
    image={"export": method("image.export", "POST", "{+project}/image:export", "project")},
)
ee.Initialize(Credentials("a-token"), project="p", url=url)


def described(export, **options):
    """Return what an export function returns, and what its exports ask for."""
    asked.clear()
    images = ee.ImageCollection([ee.Image(1), ee.Image(2)])
    with redirect_stdout(StringIO()):
        returned = export(images, bucket="bucket", scale=30, **options)
        for task in returned or []:
            task.start()
    destinations = [one["cloudStorageDestination"]["filenamePrefix"] for one in asked]
    optimized = [one.get("geoTiffOptions", {}).get("cloudOptimized") for one in asked]
    return returned, "; ".join(f"prefix {one}, optimized {two}" for one, two in zip(destinations, optimized, strict=True))


with_geemap = geemap.ee_export_image_collection_to_cloud_storage
with_geetools = ee.batch.Export.geetools.imagecollection.toCloudStorage
optimized = {"cloudOptimized": True}
print("geemap, no prefix:  ", described(with_geemap, formatOptions={**optimized})[1])
print("geemap, prefix tile:", described(with_geemap, formatOptions={**optimized}, fileNamePrefix="tile")[1])
in_folder = {"folder": "tiles", "index_property": "system:index"}
print("geetools, folder:   ", described(with_geetools, formatOptions={**optimized}, **in_folder)[1])
returned, _ = described(with_geemap, descriptions=["a"])
print(f"geemap, one description for two images: returned {returned}, started {len(asked)}")
PYTHON
seen=$("$work/venv/bin/python" "$work/exporting.py")
echo "$seen"
[ "$seen" = "geemap, no prefix:   prefix a, optimized True; prefix b, optimized None
geemap, prefix tile: prefix tile, optimized True; prefix tile, optimized None
geetools, folder:    prefix tiles/, optimized True; prefix tiles/, optimized None
geemap, one description for two images: returned None, started 0" ]
