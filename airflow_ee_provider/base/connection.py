"""The parameters that say in whose name Earth Engine is called."""

from __future__ import annotations

from typing import Any

#: The parameters that say in whose name Earth Engine is asked; the same for operators, sensors, triggers, notifiers.
CONNECTION_FIELDS = ("earth_engine_conn_id", "project_id", "impersonation_chain")


def connection_kwargs(holder: object) -> dict[str, Any]:
    """Return what says in whose name a task, trigger or notifier asks: what a hook is made with."""
    return {name: _plain(getattr(holder, name)) for name in CONNECTION_FIELDS}


def _plain(value: Any) -> Any:
    """Return a value that can be stored: a list in place of the lazy sequence that a template can return."""
    return value if value is None or isinstance(value, str) else list(value)
