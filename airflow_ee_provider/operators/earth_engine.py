"""Operators for Earth Engine's long-running operations."""

from airflow_ee_provider.operators.cancel import EarthEngineCancelOperationsOperator
from airflow_ee_provider.operators.export import EarthEngineExportOperator
from airflow_ee_provider.operators.imports import EarthEngineImportOperator
from airflow_ee_provider.operators.stale import EarthEngineCancelStaleOperationsOperator

__all__ = [
    "EarthEngineCancelOperationsOperator",
    "EarthEngineCancelStaleOperationsOperator",
    "EarthEngineExportOperator",
    "EarthEngineImportOperator",
]
