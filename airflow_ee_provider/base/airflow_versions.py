"""What differs between the versions of Airflow, read here and nowhere else.

Each was measured on 2.11.2, 3.1.8 and 3.3.2, by the tests and by ``make matrix``.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Airflow 3 has tasks talk to their supervisor; Airflow 2 has them talk to the database.
AIRFLOW_3 = not airflow_version.startswith("2.")

#: From 3.3 on, Airflow keeps what a task has stored from one try to the next.
HAS_TASK_STATE_STORE = tuple(int(part) for part in airflow_version.split(".")[:2]) >= (3, 3)

#: How Airflow says, to a task that it resumes, that its trigger has timed out: 3.x, and 2.11.
_TRIGGER_TIMEOUTS = ("Trigger timeout", "Trigger/execution timeout")


def tells_triggers_of_kills() -> bool:
    """Whether Airflow tells a trigger that a user acted on its task (from 3.3 on); before, it only cancels it."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def has_react_apps() -> bool:
    """Whether Airflow's UI takes pages from plugins (from 3.1 on)."""
    from airflow.plugins_manager import AirflowPlugin

    return hasattr(AirflowPlugin, "react_apps")


def stats_if_collected() -> Any:
    """Return Airflow's ``Stats``; None if no metrics backend is configured."""
    from airflow.providers.common.compat.sdk import Stats, conf

    ways = ("statsd_on", "statsd_datadog_enabled", "otel_on")
    if not any(conf.getboolean("metrics", way, fallback=False) for way in ways):
        return None
    with suppress(ImportError):  # From 3.3 on. Airflow makes it ready for tasks, not in the triggerer's own process.
        from airflow.sdk.observability import stats
        from airflow.sdk.observability.metrics import stats_utils

        if hasattr(stats, "initialize") and getattr(sys.modules[stats.initialize.__module__], "_factory", None) is None:
            legacy = conf.getboolean("metrics", "legacy_names_on", fallback=True)
            stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=legacy)
    return Stats


def trigger_timed_out(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Whether a task is resumed because its trigger timed out; no code of the trigger's ran then."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and str(getattr(error, "value", error)) in _TRIGGER_TIMEOUTS


def database_of_its_own() -> Any:
    """Return an engine of SQLAlchemy's to Airflow's database that keeps no connection, and shares no pool with Airflow.

    Airflow's executor forks processes, in which a pool's lock that a thread of ours has just held is never released.
    """
    from airflow import settings
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine: Any = settings.engine
    # Its creator connects as Airflow's configuration says, with certificates and arguments.
    return create_engine(engine.url, creator=engine.pool._creator, poolclass=NullPool)  # noqa: SLF001


def connection_of_server(conn_id: str) -> Any:
    """Return a connection in one of Airflow's own processes, such as the triggerer's, which may read the database.

    Hooks ask as a task does, and Airflow 3.0 to 3.2 do not take the triggerer for a process of Airflow's then.

    :raises Exception: if there is none, or it cannot be read.
    """
    from airflow.models.connection import Connection

    # With `[core] multi_team`, Airflow finds a team's connection only for somebody who asks with the team.
    teams = getattr(Connection, "get_conn_id_to_team_name_mapping", None) if has_teams() else None
    team = teams([conn_id]).get(conn_id) if teams else None
    return Connection.get_connection_from_secrets(conn_id, **({"team_name": team} if team else {}))


def has_teams() -> bool:
    """Whether DAGs and connections can belong to teams: ``[core] multi_team``, from Airflow 3.2 on."""
    from airflow.providers.common.compat.sdk import conf

    return bool(conf.getboolean("core", "multi_team", fallback=False))
