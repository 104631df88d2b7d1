"""An unmodified ``earthengine-api`` works with the emulator as with the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator


def test_client_starts_lists_gets_and_cancels_an_image_export(ee: Any, earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, cancel_seconds=0)
    task = ee.batch.Export.image.toCloudStorage(
        ee.Image(1), "ndvi-2024", bucket="b", fileNamePrefix="x", scale=1000, maxPixels=1e9, priority=50
    )

    task.start()

    assert list(service.operations) == [task.name]
    [request] = service.requests("POST", "projects/earth-demo/image:export")
    assert request["body"]["requestId"]
    assert ee.data.getOperation(task.name)["metadata"]["priority"] == 50
    assert [operation["name"] for operation in ee.data.listOperations()] == [task.name]
    assert task.status()["state"] == "RUNNING"

    task.cancel()

    assert task.status()["state"] == "CANCELLED"
    assert service.state(task.name) == "CANCELLED"


def test_client_starts_a_table_export_and_reads_its_failure(ee: Any, earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0, outcome="FAILED", message="No features.")
    features = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]))])
    task = ee.batch.Export.table.toDrive(features, "sites")

    task.start()

    status = task.status()
    assert status["task_type"] == "EXPORT_FEATURES"
    assert status["state"] == "FAILED"
    assert status["error_message"] == "No features."


def test_client_reads_the_emulators_errors(ee: Any, earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.fail("not_registered", times=None)

    with pytest.raises(ee.EEException, match="not registered to use Earth Engine"):
        ee.data.listOperations()


def test_repeated_request_id_starts_one_operation(ee: Any, earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.fail("reset_after", path="*:export")
    task = ee.batch.Export.image.toAsset(ee.Image(1), "ndvi", "projects/earth-demo/assets/ndvi")

    task.start()

    assert list(earth_engine_emulator.service.operations) == [task.name]


def test_client_lists_every_operation_and_reads_its_status(ee: Any, earth_engine_emulator: Emulator) -> None:
    for number in range(8):
        earth_engine_emulator.service.add(f"x{number}")

    assert len(ee.batch.Task.list()) == 8
    assert {task.status()["state"] for task in ee.batch.Task.list()} <= {"READY", "RUNNING"}


def test_an_asset_is_written_to_the_emulators_own_project(ee: Any, earth_engine_emulator: Emulator) -> None:
    ee.batch.Export.image.toAsset(ee.Image(1), "x", "projects/earth-demo/assets/x", scale=1000).start()

    [request] = earth_engine_emulator.service.requests("POST", "*:export")
    assert request["path"] == "projects/earth-demo/image:export"
    assert request["body"]["assetExportOptions"]["earthEngineDestination"]["name"] == "projects/earth-demo/assets/x"


def test_client_starts_ingestions(ee: Any, earth_engine_emulator: Emulator) -> None:
    manifest = {"name": "projects/earth-demo/assets/x", "tilesets": [{"sources": [{"uris": ["gs://b/x.tif"]}]}]}

    answer = ee.data.startIngestion("an-id", manifest)

    assert answer["name"] in earth_engine_emulator.service.operations
    assert ee.data.getOperation(answer["name"])["metadata"]["type"] == "INGEST_IMAGE"


def test_ingestion_whose_response_is_lost_is_started_twice(ee: Any, earth_engine_emulator: Emulator) -> None:
    """The client repeats the request without the id that would prevent this; in a task, one operation starts."""
    service = earth_engine_emulator.service
    service.fail("reset_after", path="*:import")

    ee.data.startIngestion("an-id", {"name": "projects/earth-demo/assets/x", "tilesets": [{"sources": []}]})

    assert len(service.operations) == 2
    assert [entry["body"].get("requestId") for entry in service.requests("POST", "*:import")] == [None, None]


def test_responses_for_values_and_assets_can_be_defined(ee: Any, earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.answer("projects/*/value:compute", {"result": 42})
    service.answer("projects/*/value:compute", lambda body: {"result": sorted(body)}, method="POST")
    assert ee.Number(1).getInfo() == ["expression"]
    service.answer("projects/*/value:compute", {"result": 42})
    service.answer("projects/*/assets/*", lambda _: {"type": "IMAGE", "name": "projects/earth-demo/assets/x"})

    assert ee.Number(1).add(41).getInfo() == 42
    assert ee.data.getAsset("projects/earth-demo/assets/x")["type"] == "IMAGE"


def test_client_raises_an_error_at_once_if_no_response_is_defined(ee: Any, earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service

    with pytest.raises(ee.EEException, match=r'define its answer with service\.answer\("projects/\*/value:compute"'):
        ee.Number(1).getInfo()

    assert service.unanswered == ["POST projects/earth-demo/value:compute"]
    service.unanswered.clear()


def test_response_can_be_bytes_and_can_replace_the_list_of_functions(ee: Any, earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.answer("projects/*/image:computePixels", b"\x89PNG", method="post")
    service.answer("projects/*/algorithms", {"algorithms": [{"name": "algorithms/Mine"}]})
    service.answer("projects/*/assets/*", None)

    assert ee.data.computePixels({"expression": ee.Image(1), "fileFormat": "PNG"}) == b"\x89PNG"
    assert list(ee.data.getAlgorithms()) == ["Mine"]
    assert ee.data.getAsset("projects/earth-demo/assets/x") is None


def test_a_classifier_and_a_feature_view_are_exported(ee: Any, earth_engine_emulator: Emulator) -> None:
    classifier = ee.Classifier.smileRandomForest(3)
    ee.batch.Export.classifier.toAsset(classifier, "trees", "projects/earth-demo/assets/trees").start()
    ee.batch.Export.table.toFeatureView(ee.FeatureCollection([]), "sites", "projects/earth-demo/assets/sites").start()

    kinds = [operation.kind for operation in earth_engine_emulator.service.operations.values()]
    assert kinds == ["classifier", "table"]
