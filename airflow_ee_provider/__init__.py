"""Google Earth Engine for Apache Airflow: watch operations, cancel them, and know that they are cancelled."""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0"

#: Where the provider's plugin answers, below the API server's address.
PLUGIN_PATH = "/earth-engine"


def _configuration() -> dict[str, Any]:
    """Return what an administrator can set in Airflow's configuration."""

    def option(description: str, kind: str, default: str) -> dict[str, Any]:
        return {
            "description": description,
            "version_added": "0.2.0",
            "type": kind,
            "example": None,
            "default": default,
        }

    hosts = "Hosts, comma-separated, besides Google's own to which a connection may have its access token sent."
    external = (
        "Whether a connection itself may hold a configuration, such as a workload identity federation's, that makes "
        "google-auth read files of this machine or ask other servers. Those in files are always allowed."
    )
    shown = (
        "Connections whose operations the page in Airflow's UI and the command line show, comma-separated; by default "
        "earth_engine_default and all others of the type earth_engine in Airflow's database."
    )
    collects = (
        "Whether operations that a task owned and that no active task needs are cancelled automatically, from the "
        "triggerer's process, or from the scheduler's where there is no triggerer."
    )
    grace = "Seconds from the look that first finds an operation unneeded to its automatic cancel."
    price = "What an EECU-hour costs, for the page in Airflow's UI; without it, no costs are shown."
    return {
        "earth_engine": {
            "description": "What connections of the Google Earth Engine provider may do.",
            "options": {
                "allowed_hosts": option(hosts, "string", ""),
                "allow_external_accounts": option(external, "boolean", "False"),
                "connections": option(shown, "string", ""),
                "cancel_orphans": option(collects, "boolean", "True"),
                "cancel_orphans_after": option(grace, "float", "30"),
                "eecu_hour_price": option(price, "float", ""),
                "currency": option("The currency of that price.", "string", "USD"),
            },
        }
    }


def get_provider_info() -> dict[str, Any]:
    """Tell Airflow what this package provides (the entry point ``apache_airflow_provider``)."""
    from airflow_ee_provider.hooks.connection_form import connection_type_info

    integration = "Google Earth Engine"

    def modules(kind: str) -> list[dict[str, Any]]:
        return [{"integration-name": integration, "python-modules": [f"airflow_ee_provider.{kind}.earth_engine"]}]

    return {
        "package-name": "airflow-ee-provider",
        "name": integration,
        "description": "Google Earth Engine: watch exports cheaply, cancel them when a DAG no longer wants them.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://developers.google.com/earth-engine/reference/rest",
                "tags": ["service"],
            }
        ],
        "connection-types": [connection_type_info()],
        "hooks": modules("hooks"),
        "operators": modules("operators"),
        "sensors": modules("sensors"),
        "triggers": modules("triggers"),
        "task-decorators": [
            {
                "name": "earth_engine",
                "class-name": "airflow_ee_provider.decorators.earth_engine.earth_engine_task",
            }
        ],
        "config": _configuration(),
        "extra-links": [
            "airflow_ee_provider.links.earth_engine.EarthEngineTasksLink",
            "airflow_ee_provider.links.earth_engine.EarthEngineOutputLink",
        ],
        "cli": ["airflow_ee_provider.cli.definition.get_earth_engine_cli_commands"],
        "notifications": ["airflow_ee_provider.notifications.earth_engine.EarthEngineCancelOperationsNotifier"],
    }
