"""Export functions of libraries, each with the number of operations that it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ee

if TYPE_CHECKING:
    from collections.abc import Callable


def image() -> Any:
    return ee.Image(1).clip(ee.Geometry.Rectangle([0, 0, 1, 1]))


def images() -> Any:
    return ee.ImageCollection([image().toUint8().addBands([image(), image()])] * 2)


def features() -> Any:
    return ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]), {"name": "x"})])


def asset(name: str) -> str:
    return f"projects/earth-demo/assets/{name}"


def helpers() -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return the libraries' export functions, each with the number of operations that it starts."""
    import eemont  # noqa: F401
    import geemap
    import geetools  # noqa: F401

    region = ee.Geometry.Rectangle([0, 0, 1, 1])
    box: dict[str, Any] = {"scale": 1000, "region": region}
    return {
        "geemap.ee_export_image_to_drive": (1, lambda: geemap.ee_export_image_to_drive(image(), "a", **box)),
        "geemap.ee_export_image_to_asset": (
            1,
            lambda: geemap.ee_export_image_to_asset(image(), "a", asset("a"), **box),
        ),
        "geemap.ee_export_image_to_cloud_storage": (
            1,
            lambda: geemap.ee_export_image_to_cloud_storage(image(), "a", "b", **box),
        ),
        "geemap.ee_export_image_collection_to_drive": (
            2,
            lambda: geemap.ee_export_image_collection_to_drive(images(), ["a", "b"], **box),
        ),
        "geemap.ee_export_image_collection_to_asset": (
            2,
            lambda: geemap.ee_export_image_collection_to_asset(images(), ["a", "b"], [asset("a"), asset("b")], **box),
        ),
        "geemap.ee_export_image_collection_to_cloud_storage": (
            2,
            lambda: geemap.ee_export_image_collection_to_cloud_storage(images(), ["a", "b"], "b", **box),
        ),
        "geemap.ee_export_vector_to_drive": (
            1,
            lambda: geemap.ee_export_vector_to_drive(features(), "a", fileFormat="CSV"),
        ),
        "geemap.ee_export_vector_to_asset": (1, lambda: geemap.ee_export_vector_to_asset(features(), "a", asset("a"))),
        "geemap.ee_export_vector_to_cloud_storage": (
            1,
            lambda: geemap.ee_export_vector_to_cloud_storage(features(), "a", "b", fileFormat="CSV"),
        ),
        "geemap.ee_export_vector_to_feature_view": (
            1,
            lambda: geemap.ee_export_vector_to_feature_view(features(), "a", asset("a")),
        ),
        "geemap.ee_export_video_to_drive": (
            1,
            lambda: geemap.ee_export_video_to_drive(images(), "a", dimensions=64, region=region),
        ),
        "geemap.ee_export_video_to_cloud_storage": (
            1,
            lambda: geemap.ee_export_video_to_cloud_storage(images(), "a", "b", dimensions=64, region=region),
        ),
        "geemap.ee_export_map_to_cloud_storage": (
            1,
            lambda: geemap.ee_export_map_to_cloud_storage(image(), "a", "b", maxZoom=3, region=region),
        ),
        "geetools: ee.batch.Export.geetools.imagecollection.toDrive": (
            2,
            lambda: _start(ee.batch.Export.geetools.imagecollection.toDrive(images(), "system:index", "a", **box)),
        ),
        "eemont: an index of its own, and task.start()": (
            1,
            lambda: ee.batch.Export.image.toDrive(_eemont(), "a", **box).start(),
        ),
    }


def _start(tasks: Any) -> None:
    for task in tasks if isinstance(tasks, list) else [tasks]:
        task.start()


def _eemont() -> Any:
    return ee.Image([1, 2]).rename(["N", "R"]).expression("(N - R) / (N + R)", {"N": image(), "R": image()})
