"""Export and ingestion functions of less known libraries, each with the number of operations that it starts."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee
from google.auth.credentials import Credentials
from helpers import asset, image

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where ``make libraries`` installs packages that pip 24.1 and later refuse.
BESIDE = Path(sys.prefix) / "beside"


def less_known() -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return the libraries' functions, each with the number of operations that it starts."""
    import geedim  # noqa: F401
    import hydrafloods.geeutils
    import openet.core.utils

    sys.path.append(str(BESIDE))
    import eeUtil

    region = ee.Geometry.Rectangle([0, 0, 1, 1])

    def task() -> Any:
        return ee.batch.Export.image.toAsset(image(), "a", asset("a"), region=region, scale=1000)

    return {
        "geedim: ImageAccessor.toGoogleCloud(wait=False)": (1, lambda: _geedim(region)),
        "hydrafloods.geeutils.export_image": (
            1,
            lambda: hydrafloods.geeutils.export_image(image(), region, asset("a"), description="a"),
        ),
        "openet.core.utils.ee_task_start": (1, lambda: openet.core.utils.ee_task_start(task())),
        "eeUtil.saveImage": (1, lambda: eeUtil.saveImage(image(), asset("a"), scale=1000, region=region)),
        "eeUtil.ingest": (1, lambda: eeUtil.ingest("gs://bucket/a.tif", asset("a"))),
        "geeup: BatchUploader, an image that is in Cloud Storage": (1, _geeup),
    }


def other_client(url: str, token: str, project: str) -> None:
    """Export with ee-client, which has an HTTP client and an account of its own."""
    import eeclient.client

    eeclient.client.EARTH_ENGINE_API_URL = f"{url}/v1"
    session = eeclient.client.EESession.from_google_credentials(_Token(token), project=project)
    exported = eeclient.export.image.image_to_asset_async(
        session, image(), asset("a"), region=ee.Geometry.Rectangle([0, 0, 1, 1]), scale=1000
    )
    asyncio.run(exported)


class _Token(Credentials):
    """A token that needs no renewal."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def refresh(self, _: Any) -> None:
        """Keep the token."""


def _geedim(region: Any) -> Any:
    return image().gd.toGoogleCloud("a", "drive", "folder", wait=False, description="a", scale=1000, region=region)


def _geeup() -> None:
    """Ingest a file with geeup as its command does after the upload, which needs a browser's cookies."""
    from geeup.batch_uploader import BatchUploader, UploadState

    class Uploaded(BatchUploader):  # type: ignore[misc]
        def _upload_to_gcs(self, file_path: Path, *_: Any) -> str:
            return f"gs://bucket/{file_path.name}"

    uploader = Uploaded.__new__(Uploaded)
    uploader.__dict__.update(
        task_manager=_NoTasks(),
        metadata_collection=None,
        max_inflight_tasks=1,
        normalized_destination_path=asset("collection"),
        pyramiding="MEAN",
        nodata_value=None,
        mask=False,
        overwrite=True,
        state_file=Path("/dev/null"),
    )
    logging.getLogger("geeup").setLevel(logging.ERROR)
    uploader._upload_single(Path("a.tif"), UploadState({}, {}, 0, ""), 1, 1)


class _NoTasks:
    def wait_for_capacity(self, _: int) -> None:
        """Return at once: there is capacity."""
