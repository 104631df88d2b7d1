"""Google Earth Engine for Apache Airflow: watch operations, cancel them, and know that they are cancelled."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


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
        "extra-links": [
            "airflow_ee_provider.links.earth_engine.EarthEngineTasksLink",
            "airflow_ee_provider.links.earth_engine.EarthEngineOutputLink",
        ],
        "notifications": ["airflow_ee_provider.notifications.earth_engine.EarthEngineCancelOperationsNotifier"],
    }
