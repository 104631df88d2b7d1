"""Operators for Earth Engine's long-running operations."""

from airflow_ee_provider.operators.cancel import EarthEngineCancelOperationOperator
from airflow_ee_provider.operators.export import EarthEngineExportOperator
from airflow_ee_provider.operators.imports import EarthEngineImportOperator
from airflow_ee_provider.operators.stale import EarthEngineCancelStaleOperationsOperator

__all__ = [
    "EarthEngineCancelOperationOperator",
    "EarthEngineCancelStaleOperationsOperator",
    "EarthEngineExportOperator",
    "EarthEngineImportOperator",
]
