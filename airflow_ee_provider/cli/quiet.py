"""Airflow warns at each reading of a connection whose type has an underscore; no user of a command can change that."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec
from typing import Any

#: Its beginning: Python's logging puts the type in later, structlog has put it in.
_WARNING = "Connection schemes (type: "


@cache
def drop_warning_of_connection_types() -> None:
    """Let this process not log it: Airflow 2 logs with Python's logging, Airflow 3 with structlog."""
    logging.getLogger("airflow.models.connection.Connection").addFilter(lambda record: not _is_it(record.msg))
    if find_spec("structlog"):
        import structlog

        def drop(_logger: Any, _method: str, event: Any) -> Any:
            if _is_it(event.get("event")):
                raise structlog.DropEvent
            return event

        structlog.configure(processors=[drop, *structlog.get_config()["processors"]])


def _is_it(message: Any) -> bool:
    return str(message).startswith(_WARNING)
