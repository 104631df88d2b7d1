"""A function's own changes to operations and assets, as detected in its requests."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ee_provider.earth_engine.ee_client.side_effects import Deeds
from airflow_ee_provider.earth_engine.model.destinations import destination_of
from airflow_ee_provider.earth_engine.protocol.starting import Start

BASE = "https://earthengine.googleapis.com/v1"
ASSET, OTHER = "projects/p/assets/a/x", "projects/p/assets/a/y"
DATE, AT = "Thu, 01 Jan 2026 00:00:00 GMT", 1767225600.0


def observed(method: str, path: str, status: int = 200, body: Any = None) -> Deeds:
    deeds = Deeds()
    deeds.observe(method, f"{BASE}/{path}", body, {"status": str(status), "date": DATE})
    return deeds


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "gone"),
    [
        ("DELETE", f"{ASSET}?alt=json", 200, None, {ASSET: AT + 1}),
        ("DELETE", ASSET, 404, None, {ASSET: AT + 1}),  # It does not exist.
        ("DELETE", ASSET, 403, None, {}),
        ("GET", ASSET, 404, None, {ASSET: AT}),
        ("GET", ASSET, 200, None, {}),
        ("POST", f"{ASSET}:move?alt=json", 200, f'{{"destinationName": "{OTHER}"}}', {ASSET: AT + 1, OTHER: AT + 1}),
        ("POST", f"{ASSET}:copy", 200, f'{{"destinationName": "{OTHER}"}}', {OTHER: AT + 1}),
        ("POST", f"{ASSET}:copy", 409, f'{{"destinationName": "{OTHER}"}}', {}),
        ("POST", f"{ASSET}:copy", 200, "no JSON", {}),
        ("POST", "projects/p/image:export", 200, "{}", {}),
    ],
)
def test_deleted_moved_missing_and_overwritten_assets_are_gone(
    method: str, path: str, status: int, body: Any, gone: dict[str, float]
) -> None:
    assert observed(method, path, status, body).gone == gone


def test_moved_folder_takes_its_assets_along() -> None:
    deeds = observed("POST", "projects/p/assets/a:move", 200, '{"destinationName": "projects/p/assets/b"}')

    assert deeds.gone_since(ASSET) == AT + 1
    assert deeds.gone_since("projects/p/assets/ab") is None


@pytest.mark.parametrize(("status", "cancelled"), [(200, {"projects/p/operations/ABC"}), (400, set())])
def test_accepted_cancels_are_remembered(status: int, cancelled: set[str]) -> None:
    assert observed("POST", "projects/p/operations/ABC:cancel?alt=json", status).cancelled == cancelled


@pytest.mark.parametrize(
    ("body", "destination"),
    [
        ({"assetExportOptions": {"earthEngineDestination": {"name": ASSET}}}, ASSET),
        ({"imageManifest": {"name": ASSET}}, ASSET),
        (
            {"fileExportOptions": {"fileFormat": "X", "cloudStorageDestination": {"bucket": "b"}}},
            'cloudStorageDestination {"bucket": "b"}',
        ),
        ({"expression": {}}, ""),
    ],
)
def test_destination_of_a_start(body: Any, destination: str) -> None:
    assert destination_of(body) == destination


def test_import_is_described_by_its_asset() -> None:
    assert Start("image:import", {"imageManifest": {"name": ASSET}}, "i").describe() == f"image:import '{ASSET}'"
