"""The assets of an emulated Earth Engine: those that exports and imports have written, and no request has deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.emulator.faults import ApiError

if TYPE_CHECKING:
    from airflow_ee_provider.emulator.service import Service

#: The folder to which tests write assets.
ASSETS = "projects/earth-demo/assets"


class Assets:
    """Makes a service respond to requests about assets: ``get``, ``delete``, ``move`` and others."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._gone: dict[str, float] = {}
        self._moved_here: set[str] = set()
        self._anything_else = service.anything_else
        service.anything_else = self._answer  # type: ignore[method-assign]

    def __contains__(self, name: object) -> bool:
        if name in self._moved_here:
            return True
        since = self._gone.get(str(name), 0.0)
        written = (o for o in list(self._service.operations.values()) if _written_by(o.request) == name)
        return any(self._service.state(o.name) == "SUCCEEDED" and o.ended() >= since for o in written)

    def _answer(self, method: str, path: str, body: Any) -> Any:
        if "/assets/" not in path:
            return self._anything_else(method, path, body)
        name, _, verb = path.partition(":")
        if name not in self:
            raise ApiError("NOT_FOUND", f"Asset {name} not found.")
        if method == "DELETE" or verb == "move":
            self._gone[name] = self._service.clock.now()
            self._moved_here.discard(name)
        if verb == "move":
            name = str(body["destinationName"])
            self._moved_here.add(name)
        return {"name": name, "type": "IMAGE"}


def _written_by(request: Any) -> str:
    exported = request.get("assetExportOptions", {}).get("earthEngineDestination", {}).get("name", "")
    manifest: Any = next((request[name] for name in ("imageManifest", "tableManifest") if name in request), {})
    return str(exported or manifest.get("name", ""))
