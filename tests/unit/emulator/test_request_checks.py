"""The emulator refuses the requests that Earth Engine refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_ee_provider.emulator.faults import ApiError
from airflow_ee_provider.emulator.request_checks import CHECKS
from airflow_ee_provider.emulator.service import Service

ASSET = "projects/earth-demo/assets/x"
EXPRESSION: dict[str, Any] = {"expression": {"result": "0"}}
BUCKET = {"cloudStorageDestination": {"bucket": "b"}}
DRIVE: dict[str, Any] = {"driveDestination": {}}
TO_ASSET = {"earthEngineDestination": {"name": ASSET}}
BODY = {**EXPRESSION, "fileExportOptions": BUCKET}
MANIFEST = {"imageManifest": {"name": ASSET}}


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("image", BODY),
        ("image", {**BODY, "maxPixels": "100000000", "priority": 0, "description": "x" * 100}),
        ("image", {**BODY, "maxPixels": {"value": "1"}, "priority": {"value": 9999}, "maxWorkers": {"value": 3}}),
        ("image", {**BODY, "requestId": "a-1", "workloadTag": "ndvi_2024"}),
        ("image", {**EXPRESSION, "assetExportOptions": TO_ASSET}),
        ("image", {**EXPRESSION, "fileExportOptions": DRIVE}),
        ("table", {**EXPRESSION, "bigqueryExportOptions": {"bigqueryDestination": {"table": "p.d.t"}}}),
        ("table", {**EXPRESSION, "featureViewExportOptions": {"featureViewDestination": {"name": ASSET}}}),
        ("video", BODY),
        ("map", {**EXPRESSION, "tileExportOptions": BUCKET}),
        ("videoMap", {**EXPRESSION, "tileExportOptions": BUCKET}),
        ("classifier", {**EXPRESSION, "assetExportOptions": TO_ASSET}),
        ("image:import", MANIFEST),
        ("table:import", {"tableManifest": {"name": ASSET}, "overwrite": True, "requestId": "a"}),
    ],
)
def test_valid_request_starts_an_operation(kind: str, request_: dict[str, Any]) -> None:
    assert Service().start("earth-demo", kind, json.dumps(request_).encode())["metadata"]["state"] == "PENDING"


@pytest.mark.parametrize(
    ("kind", "request_", "message"),
    [
        ("image", {}, "no expression"),
        ("image", {"expression": "x"}, "no expression"),
        ("image", {**BODY, "descripton": "x"}, 'Unknown name "descripton"'),
        ("image", {**BODY, "selectors": ["x"]}, 'Unknown name "selectors"'),
        ("map", BODY, 'Unknown name "fileExportOptions"'),
        ("image", EXPRESSION, "Exactly one of the export options .* not 0"),
        ("image", {**BODY, "assetExportOptions": TO_ASSET}, "Exactly one of the export options .* not 2"),
        ("image", {**EXPRESSION, "fileExportOptions": {"fileFormat": "GEO_TIFF"}}, "one destination .* not 0"),
        ("image", {**EXPRESSION, "fileExportOptions": "x"}, "one destination .* not 0"),
        ("image", {**EXPRESSION, "fileExportOptions": {**BUCKET, **DRIVE}}, "one destination .* not 2"),
        ("map", {**EXPRESSION, "tileExportOptions": DRIVE}, "one destination .* not 0"),
        ("image", {**EXPRESSION, "fileExportOptions": {"cloudStorageDestination": {}}}, "The bucket of"),
        ("image", {**EXPRESSION, "assetExportOptions": {"earthEngineDestination": {}}}, "The name of"),
        ("image", {**EXPRESSION, "assetExportOptions": {"earthEngineDestination": {"name": "x"}}}, "name of an asset"),
        ("table", {**EXPRESSION, "bigqueryExportOptions": {"bigqueryDestination": {}}}, "The table of"),
        ("image", {**BODY, "description": "x" * 101}, "at most 100 characters"),
        ("image", {**BODY, "description": 7}, "at most 100 characters"),
        ("image", {**BODY, "maxPixels": "many"}, "Invalid value at 'maxPixels'"),
        ("image", {**BODY, "maxPixels": 1.5}, "Invalid value at 'maxPixels'"),
        ("image", {**BODY, "maxPixels": {"value": "many"}}, "Invalid value at 'maxPixels'"),
        ("image", {**BODY, "maxPixels": 0}, "must be an integer from 1"),
        ("table", {**BODY, "maxVertices": "x"}, "Invalid value at 'maxVertices'"),
        ("image", {**BODY, "priority": 10_000}, "from 0 to 9999"),
        ("image", {**BODY, "priority": True}, "Invalid value at 'priority'"),
        ("image", {**BODY, "requestId": "a_1"}, "Invalid requestId"),
        ("image", {**BODY, "requestId": "a" * 61}, "Invalid requestId"),
        ("image", {**BODY, "workloadTag": "-x"}, "Invalid workloadTag"),
        ("image:import", {}, "no manifest"),
        ("image:import", {"imageManifest": {"tilesets": []}}, "name of an asset"),
        ("table:import", MANIFEST, 'Unknown name "imageManifest"'),
    ],
)
def test_invalid_request_is_refused(kind: str, request_: dict[str, Any], message: str) -> None:
    service = Service()

    with pytest.raises(ApiError, match=message) as caught:
        service.start("earth-demo", kind, json.dumps(request_).encode())

    assert caught.value.status == "INVALID_ARGUMENT"
    assert not service.operations


def test_unknown_method_is_not_found() -> None:
    with pytest.raises(ApiError, match="no method"):
        Service().start("earth-demo", "volume", json.dumps(BODY).encode())


def test_each_check_names_its_rule_and_source() -> None:
    assert all(check.rule and check.source.startswith("https://") for check in CHECKS)
