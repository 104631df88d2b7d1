"""Operators for Earth Engine's long-running operations."""

from airflow_ee_provider.operators.cancel import (
    EarthEngineCancelOperationOperator,
    EarthEngineCancelStaleOperationsOperator,
)
from airflow_ee_provider.operators.export import EarthEngineExportOperator

__all__ = [
    "EarthEngineCancelOperationOperator",
    "EarthEngineCancelStaleOperationsOperator",
    "EarthEngineExportOperator",
]
