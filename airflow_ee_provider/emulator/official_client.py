"""The two documents that the official client asks for when it starts; both ship in its own wheel."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from airflow_ee_provider.emulator.faults import ApiError


@cache
def _document(name: str) -> bytes:
    try:
        return (resources.files("ee") / "tests" / name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise ApiError(
            "UNIMPLEMENTED", f"The emulator serves {name} from the earthengine-api package, which is not installed."
        ) from None


def discovery_document(origin: str) -> dict[str, Any]:
    """Return the API's description, at this server and of the version that the client uses."""
    text = _document("cloud_api_discovery_document.json").decode().replace('"v1alpha/', '"v1/')
    document: dict[str, Any] = json.loads(text)
    return {**document, "version": "v1", "rootUrl": f"{origin}/", "baseUrl": f"{origin}/"}


def algorithms() -> bytes:
    """Return the list of the functions that expressions can call."""
    return _document("algorithms.json")
