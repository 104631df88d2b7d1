"""Google Earth Engine for Apache Airflow: start, watch and cancel exports."""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0"

#: The path of the provider's plugin at the API server.
PLUGIN_PATH = "/earth-engine"


def _configuration() -> dict[str, Any]:
    """Return the options in Airflow's configuration."""

    def option(description: str, kind: str, default: str) -> dict[str, Any]:
        return {
            "description": description,
            "version_added": "0.2.0",
            "type": kind,
            "example": None,
            "default": default,
        }

    hosts = "Hosts, comma-separated, that may receive a connection's access token, in addition to Google's."
    external = (
        "Whether a connection itself may contain a configuration, for example of a workload identity federation, that "
        "makes google-auth read files of this machine or call other servers. Such a configuration in a file is always "
        "allowed."
    )
    shown = (
        "Connections, comma-separated, whose operations the page in Airflow's UI and the command line show. By "
        "default earth_engine_default and all others of the type earth_engine in Airflow's database."
    )
    collects = (
        "Whether the collector runs: it cancels operations that a task owned and that no active task needs. It is a "
        "thread in the triggerer, or in the scheduler if no triggerer runs."
    )
    grace = "Seconds that an operation must be unneeded before the collector cancels it."
    price = "The price of an EECU-hour. The page in Airflow's UI shows costs if it is set."
    return {
        "earth_engine": {
            "description": "Options of the Google Earth Engine provider.",
            "options": {
                "allowed_hosts": option(hosts, "string", ""),
                "allow_external_accounts": option(external, "boolean", "False"),
                "connections": option(shown, "string", ""),
                "cancel_orphans": option(collects, "boolean", "True"),
                "cancel_orphans_after": option(grace, "float", "30"),
                "eecu_hour_price": option(price, "float", ""),
                "currency": option("The currency of ``eecu_hour_price``.", "string", "USD"),
            },
        }
    }


def get_provider_info() -> dict[str, Any]:
    """Return what this package provides to Airflow (the entry point ``apache_airflow_provider``)."""
    from airflow_ee_provider.hooks.connection_form import connection_type_info

    integration = "Google Earth Engine"

    def modules(kind: str) -> list[dict[str, Any]]:
        return [{"integration-name": integration, "python-modules": [f"airflow_ee_provider.{kind}.earth_engine"]}]

    return {
        "package-name": "airflow-ee-provider",
        "name": integration,
        "description": "Google Earth Engine: start exports, wait for them, and cancel them when no task needs them.",
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
