"""The emulator describes every method of the API that the installed ``earthengine-api`` calls.

The methods are read from the client's own source, so that a new method in the next version fails this test.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.emulator.discovery import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator

DESCRIBED = ["projects." + line.split()[0] for line in METHODS.strip().splitlines()]
ROOTS = ("_get_cloud_projects", "_get_cloud_projects_raw")
ASSET = "projects/earth-demo/assets/x"
MANIFEST = {"name": ASSET, "tilesets": [{"sources": [{"uris": ["gs://b/x.tif"]}]}]}
TO_ASSET = {"earthEngineDestination": {"name": ASSET}}
TO_BUCKET = {"cloudStorageDestination": {"bucket": "b"}}


def export(options: str, destination: Any) -> dict[str, Any]:
    return {"expression": {"result": "0"}, options: destination}


#: Calls of the public functions of `ee.data` that send requests; several for a function with several kinds of them.
CALLS: tuple[tuple[str, Any], ...] = (
    ("cancelOperation", ["OPERATION"]),
    ("cancelTask", ["ID"]),
    ("computeFeatures", [{"expression": {"result": "0"}}]),
    ("computeImages", [{"expression": {"result": "0"}}]),
    ("computePixels", [{"expression": {"result": "0"}, "fileFormat": "PNG"}]),
    ("computeValue", ["NUMBER"]),
    ("copyAsset", [ASSET, f"{ASSET}2"]),
    ("createAsset", [{"type": "FOLDER"}, ASSET]),
    ("createAssetHome", ["users/somebody"]),
    ("createFolder", [ASSET]),
    ("create_assets", [[ASSET], "FOLDER", False]),
    ("deleteAsset", [ASSET]),
    ("exportClassifier", ["a", export("assetExportOptions", TO_ASSET)]),
    ("exportImage", ["b", export("fileExportOptions", TO_BUCKET)]),
    ("exportMap", ["c", export("tileExportOptions", TO_BUCKET)]),
    ("exportTable", ["d", export("fileExportOptions", TO_BUCKET)]),
    ("exportVideo", ["e", export("fileExportOptions", TO_BUCKET)]),
    ("getAlgorithms", []),
    ("getAsset", [ASSET]),
    ("getAssetAcl", [ASSET]),
    ("getAssetRootQuota", [ASSET]),
    ("getAssetRoots", []),
    ("getDownloadId", [{"image": "IMAGE", "format": "ZIPPED_GEO_TIFF"}]),
    ("getFeatureViewTilesKey", [{"assetId": ASSET, "visParams": "EXPRESSION"}]),
    ("getIamPolicy", [ASSET]),
    ("getInfo", [ASSET]),
    ("getList", [{"id": ASSET}]),
    ("getMapId", [{"image": "IMAGE"}]),
    ("getOperation", ["OPERATION"]),
    ("getPixels", [{"assetId": ASSET, "fileFormat": "PNG"}]),
    ("getProjectConfig", []),
    ("getTableDownloadId", [{"table": "TABLE", "format": "CSV"}]),
    ("getTaskList", []),
    ("getTaskStatus", ["ID"]),
    ("getThumbId", [{"image": "IMAGE"}]),
    ("getThumbId", [{"image": "IMAGE"}, "filmstrip"]),
    ("getThumbId", [{"image": "IMAGE", "framesPerSecond": 2}, "video"]),
    ("getThumbnail", [{"image": "IMAGE"}]),
    ("listAssets", [ASSET]),
    ("listAssets", ["projects/earth-demo/assets"]),
    ("listBuckets", []),
    ("listFeatures", [{"assetId": ASSET, "pageSize": 1, "pageToken": "x", "filter": "a=1", "region": "{}"}]),
    ("listImages", [{"parent": ASSET, "filter": "a=1", "pageSize": 1, "pageToken": "x"}]),
    ("listOperations", []),
    ("renameAsset", [ASSET, f"{ASSET}2"]),
    ("setAssetAcl", [ASSET, {"owners": []}]),
    ("setAssetProperties", [ASSET, {"a": 1}]),
    ("setIamPolicy", [ASSET, {}]),
    ("startExternalImageIngestion", [MANIFEST]),
    ("startIngestion", ["f", MANIFEST]),
    ("startTableIngestion", ["g", {"name": ASSET, "sources": [{"uris": ["gs://b/x.csv"]}]}]),
    ("updateAsset", [ASSET, {}, []]),
    ("updateProjectConfig", [{}]),
)

#: Public functions that send no request.
SILENT = {
    "authorizeHttp",
    "convert_asset_id_to_asset_name",
    "getTileUrl",
    "getUserAgent",
    "getWorkloadTag",
    "get_persistent_credentials",
    "initialize",
    "is_initialized",
    "makeDownloadUrl",
    "makeTableDownloadUrl",
    "makeThumbUrl",
    "newTaskId",
    "profiling",
    "reset",
    "resetWorkloadTag",
    "setCloudApiKey",
    "setCloudApiUserProject",
    "setDeadline",
    "setDefaultWorkloadTag",
    "setMaxRetries",
    "setUserAgent",
    "setWorkloadTag",
    "workloadTagContext",
}


#: Methods of a request object, not of the API.
OF_A_REQUEST = ("execute", "add_response_callback")

#: A response with all fields that any of these functions reads.
ANSWER = {
    "name": "projects/earth-demo/maps/x",
    "type": "IMAGE",
    "result": 1,
    "bindings": [],
    "features": [],
    "quota": {"assetCount": "1"},
}


def called_methods(source: str) -> set[str]:
    """Return the methods that a module calls on the API's resource: ``projects.assets.get``."""
    found: set[str] = set()
    for function in [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]:
        variables: dict[str, list[ast.expr]] = {}  # `image = _get_cloud_projects().image()`
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                variables.setdefault(node.targets[0].id, []).append(node.value)
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute):
                found |= set(paths(node, variables))
    # The client makes `_next` for a list; the prefix of a longer path is a collection.
    found = {path.rstrip("_") for path in found if not path.endswith(("_next", *OF_A_REQUEST))}
    return {path for path in found if not any(other.startswith(f"{path}.") for other in found)}


def paths(node: ast.expr, variables: dict[str, list[ast.expr]]) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        for path in paths(node.value, variables):
            yield f"{path}.{node.attr}"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in ROOTS:
            yield "projects"
    elif isinstance(node, ast.Call):
        yield from paths(node.func, variables)
    elif isinstance(node, ast.Name):
        for value in variables.get(node.id, ()):
            yield from paths(value, {})


def test_the_emulator_describes_each_method_that_the_client_calls() -> None:
    import ee

    sources = [file.read_text() for file in Path(ee.__file__).parent.rglob("*.py")]
    called = {path for source in sources if ROOTS[0] in source for path in called_methods(source)}

    assert len(called) > 35
    assert called <= set(DESCRIBED)


def test_each_public_function_of_the_client_is_covered_here() -> None:
    import ee

    public = {name for name, value in vars(ee.data).items() if inspect.isfunction(value) and not name.startswith("_")}

    assert public <= {name for name, _ in CALLS} | SILENT


def test_each_function_sends_its_request(ee: Any, earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.answer("*", ANSWER)
    for kind in ("thumbnails", "videoThumbnails", "filmstripThumbnails"):
        service.answer(f"*/{kind}", {"name": f"projects/earth-demo/{kind}/x"})
    operation = service.add()
    objects = {
        "IMAGE": ee.Image(1),
        "TABLE": ee.FeatureCollection([]),
        "NUMBER": ee.Number(1),
        "OPERATION": operation,
        "ID": operation.rpartition("/")[2],
    }

    def given(argument: Any) -> Any:
        if isinstance(argument, dict):
            return {key: given(value) for key, value in argument.items()}
        return objects.get(argument, argument) if isinstance(argument, str) else argument

    silent, wrong = [], {}
    for name, arguments in CALLS:
        if not hasattr(ee.data, name):  # Not in the installed version.
            continue
        before = len(service.requests())
        try:
            getattr(ee.data, name)(*map(given, arguments))
        except Exception as error:  # noqa: BLE001 (all errors are shown)
            wrong[name] = repr(error)
        if len(service.requests()) == before:
            silent.append(name)

    assert (silent, wrong) == ([], {})
