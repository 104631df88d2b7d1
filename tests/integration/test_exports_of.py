"""What the provider makes of an ``ee.batch.Task`` is what ``task.start()`` itself sends, whatever it exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.earth_engine.errors import InvalidRequestError, PermissionDeniedError
from airflow_ee_provider.earth_engine.official_client import exports_of, initialized_client
from airflow_ee_provider.earth_engine.operations import OperationName
from airflow_ee_provider.earth_engine.starting import Export, check_export
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator import Emulator


def image(ee: Any) -> Any:
    return ee.Image(1).clip(ee.Geometry.Rectangle([0, 0, 1, 1]))


def features(ee: Any) -> Any:
    return ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]), {"name": "x"})])


EXPORTS: dict[str, Callable[[Any], Any]] = {
    "image to a bucket": lambda ee: ee.batch.Export.image.toCloudStorage(
        image(ee), "x", bucket="b", fileNamePrefix="a/b", scale=1000, maxPixels=1e9, priority=7
    ),
    "image to Drive": lambda ee: ee.batch.Export.image.toDrive(image(ee), "x", folder="f", scale=1000),
    "image to an asset": lambda ee: ee.batch.Export.image.toAsset(image(ee), "x", "projects/demo/assets/x", scale=1000),
    "table to a bucket": lambda ee: ee.batch.Export.table.toCloudStorage(features(ee), "x", bucket="b"),
    "table to BigQuery": lambda ee: ee.batch.Export.table.toBigQuery(features(ee), "x", table="demo.d.t"),
    "map to a bucket": lambda ee: ee.batch.Export.map.toCloudStorage(image(ee), "x", bucket="b", maxZoom=3),
    "video to a bucket": lambda ee: ee.batch.Export.video.toCloudStorage(
        ee.ImageCollection([image(ee).toUint8().addBands([image(ee), image(ee)])]), "x", bucket="b", dimensions=64
    ),
}


@pytest.mark.parametrize("what", EXPORTS)
def test_it_is_what_the_official_client_sends(what: str, earth_engine_emulator: Emulator) -> None:
    import ee

    with initialized_client(EarthEngineHook().account):
        [export] = exports_of(EXPORTS[what](ee))
        EXPORTS[what](ee).start()

    [sent] = earth_engine_emulator.service.requests("POST", "*:export")
    del sent["body"]["requestId"]
    assert isinstance(export, Export)
    assert sent["path"] == f"projects/demo/{export.kind}:export"
    assert sent["body"] == export.body
    check_export(export)


def test_a_classifier_is_exported_as_one(earth_engine_emulator: Emulator) -> None:
    """The description of the API that ships with the client, and that the emulator serves, has no classifiers."""
    assert earth_engine_emulator
    import ee

    with initialized_client(EarthEngineHook().account):
        classifier = ee.Classifier.smileCart()
        [export] = exports_of(ee.batch.Export.classifier.toAsset(classifier, "x", "projects/demo/assets/c"))

    assert isinstance(export, Export)
    assert export.kind == "classifier"
    check_export(export)


def test_the_clients_own_workload_tag_is_kept(earth_engine_emulator: Emulator) -> None:
    assert earth_engine_emulator
    import ee

    with initialized_client(EarthEngineHook().account), ee.data.workloadTagContext("mine"):
        [export] = exports_of(EXPORTS["image to Drive"](ee))

    assert isinstance(export, Export)
    assert export.with_defaults("dag", None).body["workloadTag"] == "mine"


def test_names_and_started_tasks_are_operations(earth_engine_emulator: Emulator) -> None:
    assert earth_engine_emulator
    import ee

    with initialized_client(EarthEngineHook().account):
        task = EXPORTS["image to Drive"](ee)
        task.start()
        found = exports_of([task, None, (task.name,)])

    assert found == [OperationName.parse(task.name)] * 2


def test_what_is_no_export_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"Return one ee\.batch\.Task or several"):
        exports_of({"a": 1})


def test_the_client_is_forgotten_afterwards(earth_engine_emulator: Emulator) -> None:
    import ee

    earth_engine_emulator.service.fail("not_registered", path="*/algorithms", times=None)
    with (
        pytest.raises(PermissionDeniedError, match="Register the project"),
        initialized_client(EarthEngineHook().account),
    ):
        pass

    assert not ee.data.is_initialized()
