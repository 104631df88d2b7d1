"""Triggers that an earlier version of the package has serialised still resume: they are in the database meanwhile."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

#: Never changed, only added to: what `serialize` of a version has returned.
SERIALIZED = json.loads((Path(__file__).parent / "serialized_triggers.json").read_text(encoding="utf-8"))


async def event_of(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


@pytest.mark.parametrize("stored", SERIALIZED, ids=lambda stored: stored["of"])
def test_a_stored_trigger_resumes(stored: dict[str, Any], earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    module, _, name = stored["classpath"].rpartition(".")
    operation = service.add("x", pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    kwargs = json.loads(json.dumps(stored["kwargs"]).replace("OPERATION", operation))
    (service.cancel if "Cancel" in name else service.finish)(operation)

    event = asyncio.run(event_of(getattr(import_module(module), name)(**kwargs)))

    [result] = event["result"]
    assert result["name"] == operation
    assert result["state"] == ("CANCELLED" if "Cancel" in name else "SUCCEEDED")
