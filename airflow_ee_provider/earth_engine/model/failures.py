"""The table of transient failures of operations: a restart may succeed.

A failed operation has only a code and a message (a google.rpc.Status).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.results import ErrorDict

#: google.rpc.Code: ABORTED, INTERNAL, UNAVAILABLE.
_PASSING_CODES = frozenset({10, 13, 14})

#: Messages about Earth Engine itself, with any code.
_PASSING = re.compile(r"internal error|timed out|deadline exceeded|unavailable|too many tasks|try again", re.IGNORECASE)

#: Messages about the request, with any code: it would fail again.
_LASTING = re.compile(
    r"memory limit|too large|too many (pixels|features)|not found|permission|invalid|no band|unable to", re.IGNORECASE
)


def is_transient(error: ErrorDict) -> bool:
    """Whether an operation that has failed like that may succeed if it is started again."""
    if _LASTING.search(error["message"]):
        return False
    return error["code"] in _PASSING_CODES or bool(_PASSING.search(error["message"]))
