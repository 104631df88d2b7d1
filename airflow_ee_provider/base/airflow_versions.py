"""The differences between versions of Airflow. No other module checks the version.

The tests and ``make matrix`` measured each difference on 2.11.2, 3.1.8 and 3.3.2.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Tasks talk to their supervisor in Airflow 3, and to the database in Airflow 2.
AIRFLOW_3 = not airflow_version.startswith("2.")

#: From 3.3 on, Airflow keeps the values that a task stores from one try to the next.
HAS_TASK_STATE_STORE = tuple(int(part) for part in airflow_version.split(".")[:2]) >= (3, 3)

#: The error with which Airflow resumes a task whose trigger timed out: 3.x, and 2.11.
_TRIGGER_TIMEOUTS = ("Trigger timeout", "Trigger/execution timeout")


def calls_triggers_on_kill() -> bool:
    """Whether Airflow calls a trigger's ``on_kill`` when a user acts on its task: from 3.3 on."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def has_react_apps() -> bool:
    """Whether plugins can add pages to Airflow's UI: from 3.1 on."""
    from airflow.plugins_manager import AirflowPlugin

    return hasattr(AirflowPlugin, "react_apps")


def stats_if_collected() -> Any:
    """Return Airflow's ``Stats``, or None if no metrics backend is configured."""
    from airflow.providers.common.compat.sdk import Stats, conf

    ways = ("statsd_on", "statsd_datadog_enabled", "otel_on")
    if not any(conf.getboolean("metrics", way, fallback=False) for way in ways):
        return None
    with suppress(ImportError):  # From 3.3 on. Airflow initializes it for tasks, not in the triggerer's own process.
        from airflow.sdk.observability import stats
        from airflow.sdk.observability.metrics import stats_utils

        if hasattr(stats, "initialize") and getattr(sys.modules[stats.initialize.__module__], "_factory", None) is None:
            legacy = conf.getboolean("metrics", "legacy_names_on", fallback=True)
            stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=legacy)
    return Stats


def trigger_timed_out(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Whether Airflow resumes a task because its trigger timed out. In that case the trigger ran no code."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and str(getattr(error, "value", error)) in _TRIGGER_TIMEOUTS


def database_of_its_own() -> Any:
    """Return a SQLAlchemy engine for Airflow's database that keeps no connection and shares no pool with Airflow.

    Airflow's executor forks processes. If a thread of this package had locked a shared pool at that moment, the lock
    would never be released in the fork.
    """
    from airflow import settings
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine: Any = settings.engine
    # The pool's creator connects with the certificates and arguments of Airflow's configuration.
    return create_engine(engine.url, creator=engine.pool._creator, poolclass=NullPool)  # noqa: SLF001


def connection_of_server(conn_id: str) -> Any:
    """Return a connection, in a process of Airflow such as the triggerer's, which may read the database.

    A hook reads connections as a task does. Airflow 3.0 to 3.2 do not allow that in the triggerer's own process.

    :raises Exception: If the connection does not exist or cannot be read.
    """
    from airflow.models.connection import Connection

    # With `[core] multi_team`, Airflow finds a team's connection only if the call names the team.
    teams = getattr(Connection, "get_conn_id_to_team_name_mapping", None) if has_teams() else None
    team = teams([conn_id]).get(conn_id) if teams else None
    return Connection.get_connection_from_secrets(conn_id, **({"team_name": team} if team else {}))


def has_teams() -> bool:
    """Whether DAGs and connections can belong to teams: ``[core] multi_team``, from Airflow 3.2 on."""
    from airflow.providers.common.compat.sdk import conf

    return bool(conf.getboolean("core", "multi_team", fallback=False))
