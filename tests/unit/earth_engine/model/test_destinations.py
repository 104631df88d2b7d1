from __future__ import annotations

from typing import Any

import pytest

from airflow_ee_provider.earth_engine.model.destinations import console_url_of, link_to, openlineage_dataset


@pytest.mark.parametrize(
    ("body", "url"),
    [
        (
            {"fileExportOptions": {"cloudStorageDestination": {"bucket": "b", "filenamePrefix": "ndvi/2024/x"}}},
            "https://console.cloud.google.com/storage/browser/b/ndvi/2024",
        ),
        (
            {"tileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}},
            "https://console.cloud.google.com/storage/browser/b",
        ),
        (
            {"assetExportOptions": {"earthEngineDestination": {"name": "projects/p/assets/a"}}},
            "https://code.earthengine.google.com/?asset=projects/p/assets/a",
        ),
        (
            {"fileExportOptions": {"driveDestination": {"folder": "my maps"}}},
            "https://drive.google.com/drive/search?q=my%20maps",
        ),
        ({"assetExportOptions": {"bigqueryDestination": {"table": "p.d.t"}}}, ""),
        ({"fileExportOptions": "odd"}, ""),
        ({}, ""),
    ],
)
def test_console_url_is_read_from_the_request(body: dict[str, Any], url: str) -> None:
    assert console_url_of(body) == url


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://console.developers.google.com/storage/browser/b/ndvi/2024", ("gs://b", "ndvi/2024")),
        ("https://console.developers.google.com/storage/browser/b", ("gs://b", "/")),
        ("https://code.earthengine.google.com/?asset=projects/p/assets/a", ("earthengine", "projects/p/assets/a")),
        ("https://drive.google.com/#folders/abc", ("https://drive.google.com", "#folders/abc")),
    ],
)
def test_destination_is_an_openlineage_dataset(uri: str, expected: tuple[str, str]) -> None:
    assert openlineage_dataset(uri) == expected


@pytest.mark.parametrize(
    "uri",
    ["", "javascript:alert(1)", "http://x.example", "https://[broken", "https://x.example/\n", "https://" + "x" * 9999],
)
def test_invalid_address_is_no_link(uri: str) -> None:
    assert not link_to(uri)
    assert openlineage_dataset(uri)
