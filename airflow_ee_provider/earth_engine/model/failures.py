"""Which failures of an operation can pass, so that starting it again may help: the one table of them.

An operation that has failed says why in a code and a message, and nothing more (a google.rpc.Status).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.results import ErrorDict

#: google.rpc.Code: ABORTED, INTERNAL, UNAVAILABLE.
_PASSING_CODES = frozenset({10, 13, 14})

#: What Earth Engine says of itself, whatever the code beside it.
_PASSING = re.compile(r"internal error|timed out|deadline exceeded|unavailable|too many tasks|try again", re.IGNORECASE)

#: What is wrong with the request: it fails again, whatever the code beside it.
_LASTING = re.compile(
    r"memory limit|too large|too many (pixels|features)|not found|permission|invalid|no band|unable to", re.IGNORECASE
)


def is_transient(error: ErrorDict) -> bool:
    """Whether an operation that has failed like that may succeed if it is started again."""
    if _LASTING.search(error["message"]):
        return False
    return error["code"] in _PASSING_CODES or bool(_PASSING.search(error["message"]))
