"""The real official client in the model; the world's Earth Engine receives its requests."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import ee
import httplib2
from google.auth.credentials import AnonymousCredentials

from airflow_ee_provider.decorators.earth_engine import _EarthEngineDecoratedOperator
from airflow_ee_provider.earth_engine.protocol.effects import Request, Response
from airflow_ee_provider.emulator.discovery import discovery_document
from airflow_ee_provider.emulator.official_client import algorithms

if TYPE_CHECKING:
    from world import World

ENDPOINT = "http://earth-engine.invalid"
CREDENTIALS = AnonymousCredentials()

try:
    from ee import _state
except ImportError:  # Before 1.7, the client keeps its state in `ee.data`.
    _NAMES = "api_base_url tile_base_url cloud_api_base_url cloud_api_key cloud_api_user_project cloud_api_resource"
    _NAMES += " cloud_api_resource_raw cloud_api_client_version credentials http_transport initialized requests_session"
    _INITIALISED = [(ee.data, f"_{name}", getattr(ee.data, f"_{name}")) for name in _NAMES.split()]
else:
    _INITIALISED = [(_state, "_state", None)]

#: Each process has its own client: its state, and the functions that the provider replaces.
_REPLACED = (
    (ee.data, "_execute_cloud_call"),
    (ee.data, "get_persistent_credentials"),
    (ee, "Initialize"),
    (ee, "Authenticate"),
)
GLOBALS = [*_INITIALISED, *((module, name, getattr(module, name)) for module, name in _REPLACED)]


def tiles() -> None:
    """Start two exports as users do, some seconds apart."""
    for number in range(2):
        ee.batch.Export.image.toCloudStorage(ee.Image(1), f"mine {number}", bucket="b", scale=1000).start()
        time.sleep(3.0)


def decorated(**how: Any) -> Any:
    """Return a `@task.earth_engine` task that calls `tiles`."""
    return _EarthEngineDecoratedOperator(task_id="task", python_callable=tiles, op_args=(), op_kwargs={}, **how)


def sender(world: World) -> Any:
    """Return the replacement for `InterceptingTransport._send`."""

    def send(_transport: Any, uri: str, method: str, body: Any, headers: Any) -> tuple[Any, bytes]:
        del headers
        address = urlsplit(uri)
        if about_itself := _about_itself(address.path):
            return httplib2.Response({"status": 200}), about_itself
        content = body.encode() if isinstance(body, str) else body
        path = address.path.removeprefix("/v1/")
        answer = world.send(Request(method, path, path, tuple(parse_qsl(address.query)), content))
        if not isinstance(answer, Response):
            raise ConnectionError(answer.reason)
        return httplib2.Response({"status": answer.status}), answer.body

    return send


@cache
def _about_itself(path: str) -> bytes:
    if path.startswith("/$discovery"):
        return json.dumps(discovery_document(ENDPOINT)).encode()
    return algorithms() if path.endswith("/algorithms") else b""
