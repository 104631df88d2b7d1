"""The hook in Airflow's own processes and its command line, which read the database and act for no task."""

from __future__ import annotations

from typing import Any

from airflow_ee_provider.base.airflow_versions import connection_of_server
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


class EarthEngineServerHook(EarthEngineHook):
    """`EarthEngineHook` for the page, the commands and the collector."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        """Return a connection of any team, or of none."""
        return connection_of_server(conn_id)
