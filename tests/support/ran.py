from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    """The state and result of the task ``task`` of a DAG run, and the run's log."""

    state: str
    result: Any
    log: str
