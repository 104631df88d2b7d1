#!/usr/bin/env bash
# Finding: `ee.batch.Export.image.…` takes the entries out of the dict that it is given as `formatOptions` or
# `pyramidingPolicy`. So a loop that shares such a dict starts its first export with the options and all others without
# them, and raises nothing: plain GeoTIFFs in place of cloud-optimized ones without data, classes averaged in pyramids.
#
# Guess before the first run, from the client, which copies its arguments into a `config`: both exports are the same.
# Seen 2026-11-30, Python 3.11, earthengine-api 1.7.50, a server on this machine that describes two algorithms:
#   formatOptions, first:     {'cloudOptimized': True, 'noData': {'floatValue': -1}}
#   formatOptions, second:    None
#   pyramidingPolicy, first:  MODE {'class': 'SAMPLE'}
#   pyramidingPolicy, second: None {'class': 'SAMPLE'}
# What follows for this provider: docs/results/versions.md names it. Fails if the client changes that.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here  # answering.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "earthengine-api==1.7.50"
cat > "$work/shared.py" <<'PYTHON'
import ee
import google.oauth2.credentials
from answering import method, serve

LOAD = {
    "name": "algorithms/Image.load", "returnType": "Image", "description": "",
    "arguments": [{"argumentName": "id", "type": "String"}],
}
url = serve(
    lambda *_: (200, {"algorithms": [LOAD]}),
    algorithms={"list": method("algorithms.list", "GET", "{+parent}/algorithms", "parent")},
)
ee.Initialize(google.oauth2.credentials.Credentials(token="t"), url=url, project="p")
image = ee.Image("an/image")
options = {"cloudOptimized": True, "noData": -1}
policy = {".default": "mode", "class": "sample"}
for which in ("first", "second"):
    to_file = ee.batch.Export.image.toCloudStorage(image, which, bucket="b", formatOptions=options)
    print(f"formatOptions, {which}:", to_file.config["fileExportOptions"].get("geoTiffOptions"))
for which in ("first", "second"):
    to_asset = ee.batch.Export.image.toAsset(image, which, f"projects/p/assets/{which}", pyramidingPolicy=policy)
    asset = to_asset.config["assetExportOptions"]
    print(f"pyramidingPolicy, {which}:", asset.get("pyramidingPolicy"), asset.get("pyramidingPolicyOverrides"))
PYTHON
seen=$("$work/venv/bin/python" "$work/shared.py")
echo "$seen"
[ "$seen" = "formatOptions, first: {'cloudOptimized': True, 'noData': {'floatValue': -1}}
formatOptions, second: None
pyramidingPolicy, first: MODE {'class': 'SAMPLE'}
pyramidingPolicy, second: None {'class': 'SAMPLE'}" ]
