"""Lists the requests to an emulated Earth Engine, in order, as short texts for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_ee_provider.emulator.service import Service


def sent(service: Service) -> list[str]:
    """Return the starts and cancels of operations, and the moves and deletions of assets."""
    found = []
    for entry in list(service.journal):
        name, _, verb = entry["path"].partition(":")
        last = name.rpartition("/")[2]
        if verb == "export":
            found.append(f"start {entry['body']['description']}")
        elif verb == "import":
            manifest = next(value for key, value in entry["body"].items() if key.endswith("Manifest"))
            found.append(f"import {manifest['name'].rpartition('/')[2]}")
        elif verb == "cancel":
            found.append(f"cancel {service.operations[name].description}")
        elif verb == "move":
            found.append(f"move {last}")
        elif entry["method"] == "DELETE":
            found.append(f"delete {last}")
    return found
