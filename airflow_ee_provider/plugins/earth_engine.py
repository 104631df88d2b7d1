"""The plugin that Airflow finds through the package's entry point: the page, its endpoints, the collector's listener.

Each component of Airflow imports this module, so it imports little besides Airflow's plugin class and the listener.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.sdk import conf

from airflow_ee_provider import PLUGIN_PATH, __version__
from airflow_ee_provider.base.airflow_versions import AIRFLOW_3, has_react_apps
from airflow_ee_provider.collector.listener import CollectorListener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

#: The places in Airflow's UI that show the page, and the route of each.
DESTINATIONS = {
    "nav": "earth-engine",
    "dag": "earth-engine-of-dag",
    "dag_run": "earth-engine-of-run",
    "task": "earth-engine-of-task",
    "task_instance": "earth-engine-of-task-instance",
}


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer a request. The first one imports the endpoints, in a thread, since that takes a tenth of a second."""
    if not _answering:
        import asyncio

        _answering.append(await asyncio.to_thread(_imported))
    await _answering[0](scope, receive, send)


_answering: list[Any] = []


def _imported() -> Any:
    from airflow_ee_provider.plugins.app import app as answering

    return answering


def _page(destination: str, url_route: str) -> dict[str, str]:
    base = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/") + PLUGIN_PATH
    return {
        "name": "Earth Engine",
        "bundle_url": f"{base}/static/main.js?v={__version__}",
        "icon": f"{base}/static/icon.svg",
        "icon_dark_mode": f"{base}/static/icon-dark.svg",
        "destination": destination,
        "url_route": url_route,
        **({"category": "browse"} if destination == "nav" else {}),
    }


class EarthEnginePlugin(AirflowPlugin):
    """The page of operations, from Airflow 3.1 on; its endpoints, from 3.0 on; the collector, on all versions."""

    name = "earth_engine"
    listeners = [CollectorListener()]  # noqa: RUF012 (Airflow declares it so)
    if AIRFLOW_3:
        fastapi_apps = [{"app": app, "url_prefix": PLUGIN_PATH, "name": "Google Earth Engine"}]
    if has_react_apps():
        react_apps = [_page(destination, route) for destination, route in DESTINATIONS.items()]
