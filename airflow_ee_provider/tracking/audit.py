"""Write cancels of operations to Airflow's audit log, and read them from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.models import Log

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

#: The event in Airflow's audit log.
AUDIT_EVENT = "earth_engine.cancel"

#: The owner of the collector's rows.
COLLECTOR = "earth_engine collector"

#: The columns that identify a row's task instance.
_INSTANCE = ("dag_id", "run_id", "task_id", "map_index", "try_number")


def audit_row(owner: str, extra: dict[str, Any], holder: Any = None) -> Log:
    """Return a row for the audit log. Write it before you send the cancel to Earth Engine.

    :param extra: The ``operation``, the ``connection``, and other facts.
    :param holder: The task instance that the operation belongs to, if there is one.
    """
    whose = {} if holder is None else {name: getattr(holder, name) for name in _INSTANCE}
    return Log(AUDIT_EVENT, owner=owner, owner_display_name=owner, extra=json.dumps(extra), **whose)


def cancelled_automatically(session: Any, since: datetime) -> dict[str, str]:
    """Return the reasons for the collector's cancels from the audit log, by the operations' names.

    :param since: Earlier rows are not read.
    """
    rows: Iterable[Any] = (
        session.query(Log.extra)
        .filter(Log.event == AUDIT_EVENT, Log.dttm >= since, Log.owner == COLLECTOR)
        .order_by(Log.dttm)
    )
    reasons: dict[str, str] = {}
    for row in rows:
        extra = json.loads(row.extra or "{}")
        if isinstance(extra, dict) and "operation" in extra:
            reasons[str(extra["operation"])] = str(extra.get("reason", ""))
    return reasons
