"""An unmodified ``earthengine-api`` cannot tell the emulator from the service."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator


@pytest.fixture
def ee(earth_engine_emulator: Emulator) -> Iterator[Any]:
    import ee as client
    import google.oauth2.credentials

    # It also fetches a list of deprecations from another host, without a time limit of its own.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(5)
    try:
        client.Initialize(
            credentials=google.oauth2.credentials.Credentials(token="t"),  # noqa: S106
            url=earth_engine_emulator.url,
            project="demo",
        )
    finally:
        socket.setdefaulttimeout(before)
    yield client
    client.Reset()


def test_it_starts_lists_gets_and_cancels_an_image_export(ee: Any, earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, cancel_seconds=0)
    task = ee.batch.Export.image.toCloudStorage(
        ee.Image(1), "ndvi-2024", bucket="b", fileNamePrefix="x", scale=1000, maxPixels=1e9, priority=50
    )

    task.start()

    assert list(service.operations) == [task.name]
    [request] = service.requests("POST", "projects/demo/image:export")
    assert request["body"]["requestId"]
    assert ee.data.getOperation(task.name)["metadata"]["priority"] == 50
    assert [operation["name"] for operation in ee.data.listOperations()] == [task.name]
    assert task.status()["state"] == "RUNNING"

    task.cancel()

    assert task.status()["state"] == "CANCELLED"
    assert service.state(task.name) == "CANCELLED"


def test_it_starts_a_table_export_and_sees_it_fail(ee: Any, earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0, outcome="FAILED", message="No features.")
    features = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]))])
    task = ee.batch.Export.table.toDrive(features, "sites")

    task.start()

    status = task.status()
    assert status["task_type"] == "EXPORT_FEATURES"
    assert status["state"] == "FAILED"
    assert status["error_message"] == "No features."


def test_it_reads_the_emulators_errors(ee: Any, earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.fail("not_registered", times=None)

    with pytest.raises(ee.EEException, match="not registered to use Earth Engine"):
        ee.data.listOperations()


def test_a_request_id_that_it_repeats_starts_one_operation(ee: Any, earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.fail("reset_after", path="*:export")
    task = ee.batch.Export.image.toAsset(ee.Image(1), "ndvi", "projects/demo/assets/ndvi")

    task.start()

    assert list(earth_engine_emulator.service.operations) == [task.name]
