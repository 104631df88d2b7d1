from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    """What became of the task of a DAG run that is called ``task``, and what the run wrote."""

    state: str
    result: Any
    log: str
