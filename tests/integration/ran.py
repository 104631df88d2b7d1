from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    """What became of the one task of a DAG run, and what the run wrote."""

    state: str
    result: Any
    log: str
