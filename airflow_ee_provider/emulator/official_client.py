"""The list of the functions that expressions can call. The official client reads it, and has a copy in its wheel."""

from __future__ import annotations

from functools import cache
from importlib import resources

from airflow_ee_provider.emulator.faults import ApiError


@cache
def _document(name: str) -> bytes:
    try:
        return (resources.files("ee") / "tests" / name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The emulator serves {name} from the earthengine-api package, which is not installed.",
        ) from None


def algorithms() -> bytes:
    """Return the list of the functions that expressions can call."""
    return _document("algorithms.json")
